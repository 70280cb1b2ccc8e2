"""What a configuration asks for that the model of its family does not compute is refused by name."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from mechinterp import (
    AblateHeads,
    MechinterpError,
    generate,
    last,
    last_logits,
    log_odds,
    pad,
    since,
    sweep,
    unsupported,
)
from mechinterp.configuration import FAMILIES
from tests.conftest import tiny_subject

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "rope_theta": 1e4}
LLAMA3 = {**YARN, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
STATIC = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 2.0},
    "llama3": LLAMA3,
    "yarn": YARN,
}
BY_LENGTH = {
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "longrope": {"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4},
}
INERT = {
    "embedding_multiplier": 1.0, "residual_multiplier": 1, "logit_scale": None, "logits_scaling": 1.0,
    "final_logit_softcapping": None, "attn_logit_softcapping": 0.0, "num_experts": 0, "num_local_experts": None,
    "scale_embedding": False, "partial_rotary_factor": 1.0, "rope_interleave": False, "attention_chunk_size": None,
    "use_mrope": False, "pretraining_tp": 2, "rope_theta": 1e6, "quantization_config": {"bits": 4}, "is_causal": True,
}  # fmt: skip
ODD = {
    "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.0, "logits_scaling": 8.0,
    "logit_scale": 0.0625, "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256, "mup_width_scale": 4.0,
    "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0, "query_pre_attn_scalar": 256, "clip_qkv": 8.0,
    "scale_embedding": True, "num_local_experts": 8, "n_routed_experts": 64, "partial_rotary_factor": 0.5,
    "no_rope_layers": [1, 0], "rope_interleave": True, "alibi": True, "parallel_attn": True, "return_dict": False,
    "attention_chunk_size": 64, "num_kv_shared_layers": 2, "attn_temperature_tuning": True, "is_causal": False,
    "use_bidirectional_attention": True, "is_encoder_decoder": True,
}  # fmt: skip


def entries(family, **more):
    """As a config.json has them."""
    return SimpleNamespace(model_type=family, **more)


@pytest.mark.parametrize("family", FAMILIES)
def test_known_families(family):
    """The configuration of a family is supported, as an object of transformers and as the entries of its file."""
    config = AutoConfig.for_model(family)
    assert unsupported(config) is unsupported(entries(**{"family": family, **without_type(config.to_dict())})) is None


def without_type(entries):
    return {key: value for key, value in entries.items() if key != "model_type"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("key", ODD)
def test_odd_keys(family, key):
    """A scale, cap or part that the family does not compute is refused by its name."""
    reason = unsupported(entries(family, **{key: ODD[key]}))
    assert reason
    assert key in reason or "encoder-decoder" in reason
    assert "\n" not in reason


@pytest.mark.parametrize("family", FAMILIES)
def test_inert_keys(family):
    """The same keys with values that change nothing are no reason to refuse."""
    assert unsupported(entries(family, **INERT)) is None
    assert unsupported(AutoConfig.for_model(family, **INERT)) is None


@pytest.mark.parametrize("spelling", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("key", ["rope_type", "type"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rotary_by_length(family, key, spelling):
    """Scaling by the longest text is refused in every spelling, whatever the other spelling of its type says."""
    for kind, scaling in BY_LENGTH.items():
        scaling = {key: kind, **without_kind(scaling)}
        assert kind in unsupported(entries(family, **{spelling: scaling}))
        other = {"rope_type": "type", "type": "rope_type"}[key]
        assert kind in unsupported(entries(family, **{spelling: {**scaling, other: "default"}}))
        layered = {"full_attention": scaling, "sliding_attention": {"rope_type": "default"}}
        assert "differ by layer" in unsupported(entries(family, **{spelling: layered}))
        if spelling == "rope_scaling":  # what a file says reaches transformers' own spelling
            config = AutoConfig.for_model(family, rope_scaling=scaling)
            assert kind in unsupported(config)


def without_kind(scaling):
    return {key: value for key, value in scaling.items() if key != "rope_type"}


@pytest.mark.parametrize("spelling", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("kind", STATIC)
def test_rotary_of_old(kind, spelling):
    """Scaling that is the same at all lengths is supported, with what its files are known to add."""
    scaling = {"type": kind, **without_kind(STATIC[kind])}
    assert unsupported(entries("llama", **{spelling: {**scaling, "finetuned": True, "attn_factor": 1.0}})) is None
    assert "alpha = 1000.0" in unsupported(entries("llama", **{spelling: {**scaling, "alpha": 1000.0}}))
    assert "factor = 4.0" in unsupported(entries("llama", **{spelling: {"factor": 4.0}}))


@pytest.mark.parametrize(
    ("family", "more", "says"),
    [
        ("llama", {"sliding_window": 64, "max_position_embeddings": 128}, "sliding_window = 64"),
        ("llama", {"sliding_window": 128, "max_position_embeddings": 128}, None),
        ("llama", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ("mistral", {"sliding_window": 64}, None),
        ("mistral", {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}, "full_attention"),
        ("mistral", {"sliding_window": None, "layer_types": ["sliding_attention"]}, "sliding_attention"),
        ("qwen2", {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}, None),
        ("qwen3", {"layer_types": ["linear_attention", "full_attention"]}, "linear_attention"),
    ],
)
def test_windows(family, more, says):
    """A window is refused where the family does not compute it as the configuration says."""
    reason = unsupported(entries(family, **more))
    assert reason is None if says is None else says in reason


@pytest.mark.parametrize("kind", STATIC)
@pytest.mark.parametrize("family", FAMILIES)
def test_alone_beside_and_after(family, kind):
    """A prompt gets what it gets alone beside longer ones and after them, in a batch, a sweep and generation."""
    subject = tiny_subject(family, max_position_embeddings=16, rope_parameters={"rope_theta": 1e4, **STATIC[kind]})
    generator = torch.Generator().manual_seed(1)
    short, long = (torch.randint(4, 97, (n,), generator=generator).tolist() for n in (11, 40))
    alone = last_logits(subject, pad(subject, [short]))[0]
    edited = sweep(subject, [short], [None, AblateHeads([(0, 1)])], log_odds(5, 6), scope=since([9]))[0]
    new = generate(subject, [short], [None], scope=last, max_new_tokens=8)[0]
    for prompts in ([short, long], [long, short]):
        beside = last_logits(subject, pad(subject, prompts))[prompts.index(short)]
        torch.testing.assert_close(beside, alone, rtol=0, atol=1e-4)
        starts = since([9 if prompt == short else 30 for prompt in prompts])
        swept = sweep(subject, prompts, [None, AblateHeads([(0, 1)])], log_odds(5, 6), scope=starts)
        torch.testing.assert_close(swept[prompts.index(short)], edited, rtol=0, atol=1e-4)
        assert generate(subject, prompts, [None], scope=last, max_new_tokens=8)[prompts.index(short)] == new
    assert torch.equal(last_logits(subject, pad(subject, [short]))[0], alone)


@pytest.mark.parametrize("kind", BY_LENGTH)
def test_subject_of(kind, qwen):
    """A subject of a model that rotates by length is refused."""
    config = AutoConfig.for_model("llama", **sizes_of(qwen.model.config), rope_scaling=BY_LENGTH[kind])
    with pytest.raises(MechinterpError, match=kind):
        type(qwen).of(AutoModelForCausalLM.from_config(config), qwen.tokenizer)


def sizes_of(config):
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {name: getattr(config, name) for name in names} | {"num_key_value_heads": 2, "max_position_embeddings": 16}
