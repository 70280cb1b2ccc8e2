"""What a configuration says of a model, before its weights are read. No torch here.

FAMILIES            the known families by `model_type`
unsupported(config) None, or one sentence that says why a configuration cannot be examined

What the model of a family does not compute, its configuration must not ask for: the weights were trained with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from mechinterp.visible import visible

FAMILIES = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama", "mistral": "Mistral"}

_SCALES = re.compile(
    r"multiplier|mup_|^(attn_|attention_|embedding_|emb_|residual_|logits?_|output_|softmax_)?(scale|scaling)$"
    r"|^(scale|rescale)_(emb|depth|attn|logits|sqrt)|^(rotary_|rope_)?scaling_factor$|query_pre_attn_scalar|dim_model_base|hc_mult"
    r"|^partial_rotary_factor$|^rotary_(pct|percent)$|^rope_ratio$|^depth_scale"
)
"""Factors of a forward pass: without effect when they are 1."""

_PARTS = re.compile(
    r"soft_?cap|logit_cap|clip_qkv|alibi|experts|^moe_|parallel_(attn|residual)|kv_shared_layers"
    r"|no_?rope|nope_|rope_interleave|rope_local|layer_rope_theta|rotary_dim|temperature_tuning|attention_sink"
    r"|chunk_size$|sliding_window_pattern|bidirectional|(attn|attention)_(output_)?gate|gated_attn|prefix_lm"
)
"""Parts that no known family has: without effect when they are none, 0 or false. Not those that add weights only."""

_ROTARY = {
    "default": {"mrope_section"},  # its bands agree wherever there is text alone
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor"},
    "yarn": {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
}
"""Kinds of rotary scaling that give a token the same angles beside any others, and what transformers reads of each."""

_ALWAYS = {"rope_type", "type", "rope_theta", "original_max_position_embeddings"}

_BY_LENGTH = {
    "dynamic": "which rotates a prompt by the longest one run so far (set it to default: the same for prompts no "
    "longer than the model was trained on)",
    "longrope": "which rotates a prompt by the longest one in its batch",
}


def unsupported(config: Any) -> str | None:
    """One sentence that says why a model with this configuration is refused, or None if it can be examined.

    Args:
        config: of transformers, or any object with the entries of a config.json as its attributes.
    """
    family = getattr(config, "model_type", None) or "(no model_type)"
    if family not in FAMILIES:
        known = ", ".join(FAMILIES.values())
        return f"model family {family!r} is not known; supported are {known} (decoders with separate projections)"
    return next(chain(_kind_of_model(config), _rotary(config), _windows(config), _others(config)), None)


def _kind_of_model(config: Any) -> Iterator[str]:
    if getattr(config, "return_dict", True) is False:
        yield "its configuration says return_dict = false; set it to true, so that outputs have names"
    if getattr(config, "is_encoder_decoder", False):
        yield f"{config.model_type!r} is configured as an encoder-decoder; a causal decoder is needed"
    for key in ("is_causal", "causal"):
        if getattr(config, key, True) is False:
            yield f"its configuration says {key} = false; a causal decoder is needed"


def _rotary(config: Any) -> Iterator[str]:
    """The scaling may be spelled in the way of today or of before, or stand where the other spelling left it."""
    for spelling in ("rope_parameters", "rope_scaling"):
        given = getattr(config, spelling, None) or {}
        if not isinstance(given, dict):
            yield f"its configuration gives {spelling} as {given!r}; expected a mapping or null"
        elif nested := next((key for key, value in given.items() if isinstance(value, dict)), None):
            family = FAMILIES[config.model_type]
            yield f"its {spelling} differ by layer ({visible(str(nested))}); {family} rotates all layers alike"
        else:
            yield from _scaling(given, spelling)


def _scaling(given: dict[str, Any], spelling: str) -> Iterator[str]:
    kinds = [kind for kind in (given.get("rope_type"), given.get("type")) if kind is not None]
    if unknown := [str(kind) for kind in kinds if str(kind) not in _ROTARY]:
        why = _BY_LENGTH.get(unknown[0], "which is not known here")
        yield f"its {spelling} are of type {unknown[0]!r}, {why}; supported are {', '.join(_ROTARY)}"
        return
    kind = kinds[0] if kinds else "default"
    for key, value in given.items():
        if key not in _ROTARY[kind] | _ALWAYS and value is not None and not isinstance(value, bool) and value != 1:
            given_as = f"{visible(str(key))} = {value!r}"
            yield f"its {spelling} say {given_as}, which has no meaning for type {kind!r}; it would be ignored"


def _windows(config: Any) -> Iterator[str]:
    family, types = config.model_type, getattr(config, "layer_types", None)
    window, longest = getattr(config, "sliding_window", None), getattr(config, "max_position_embeddings", None)
    if family == "llama" and window and not (longest and window >= longest):
        yield (
            f"its configuration says sliding_window = {window}, which Llama does not compute; "
            "set it to null if the model was trained without"
        )
    if types is None:
        return
    known = {"full_attention", "sliding_attention"}
    if family == "llama":
        known.remove("sliding_attention")
    elif family == "mistral":
        known.remove("full_attention" if window else "sliding_attention")
    if other := sorted(set(map(str, types)) - known):
        yield f"its layer_types name {other[0]!r}; {FAMILIES[family]} computes {' and '.join(sorted(known))} here"


def _others(config: Any) -> Iterator[str]:
    for key, value in vars(config).items():
        if key.startswith("_"):
            continue  # how transformers computes, not what
        if (_PARTS.search(key) and value) or (_SCALES.search(key) and not _is_one(value)):
            family, given = FAMILIES[config.model_type], visible(f"{key} = {str(value)[:40]}")
            yield (
                f"its configuration says {given}, which {family} does not compute: its numbers would be wrong; "
                "name a model that was trained without"
            )


def _is_one(value: Any) -> bool:
    """Whether it is a factor of 1, or none."""
    return value is None or value is False or (value is not True and value == 1)
