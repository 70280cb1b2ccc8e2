"""A .gguf says what the same model says from safetensors, or it is refused by the key or tensor that stands out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf_files
import pytest
import torch
from gguf_files import FAMILIES, IDS
from hypothesis import given
from hypothesis import strategies as st

from fixtures.checkpoints import precheck, resolve
from fixtures.gguf.config import NEUTRAL, model_config
from fixtures.gguf.header import GgufHeader
from fixtures.loading import load
from mechinterp.errors import MechinterpError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tiny.gguf"


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def loaded(path: Path) -> torch.Tensor:
    return logits(load(resolve(str(path)), device="cpu").model)


def refusal(path: Path) -> str:
    """What is said before any weight is read."""
    with pytest.raises(MechinterpError) as caught:
        precheck(resolve(str(path)))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_same_model(family, file, tmp_path):
    """Whatever its family has, a model gives the same logits from a .gguf as from safetensors."""
    model = gguf_files.build(family)
    gguf_files.write(file, model)
    torch.testing.assert_close(loaded(file), logits(gguf_files.reload(model, tmp_path / "folder")), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_keys_that_may_be_left_out(family, file):
    """Older files leave out what follows from the rest; a class's own defaults never fill it in."""
    model = gguf_files.build(family, num_key_value_heads=4, rope_parameters={"rope_theta": 10_000.0})
    left_out = [".attention.key_length", ".attention.value_length", ".attention.head_count_kv", ".rope.freq_base"]
    gguf_files.write(file, model, keys=dict.fromkeys(left_out))
    torch.testing.assert_close(loaded(file), logits(model), atol=1e-5, rtol=0)


# --- rotary scaling

SCALINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": (
        {".rope.scaling.type": "linear", ".rope.scaling.factor": 4.0},
        {"rope_type": "linear", "factor": 4.0},
    ),
    "linear by default": ({".rope.scaling.factor": 2.0}, {"rope_type": "linear", "factor": 2.0}),
    "the old key": ({".rope.scale_linear": 3.0}, {"rope_type": "linear", "factor": 3.0}),
    "both keys": (
        {".rope.scale_linear": 3.0, ".rope.scaling.factor": 3.0},
        {"rope_type": "linear", "factor": 3.0},
    ),
    "yarn": (
        {
            ".rope.scaling.type": "yarn", ".rope.scaling.factor": 4.0,
            ".rope.scaling.original_context_length": 128, ".rope.scaling.finetuned": True,
        },
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
    ),
    "yarn of the whole context": (
        {".rope.scaling.type": "yarn", ".rope.scaling.factor": 2.0, ".rope.scaling.yarn_ext_factor": 1.0},
        {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 512},
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "mistral"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaling_is_carried(family, scaling, file, tmp_path):
    """Scaled positions give what transformers gives for the same scaling, and not what unscaled ones give."""
    keys, parameters = SCALINGS[scaling]
    model = gguf_files.build(family)
    gguf_files.write(file, model, keys=keys)
    scaled = gguf_files.reload(model, tmp_path / "folder", rope_parameters={"rope_theta": 5000.0, **parameters})
    torch.testing.assert_close(loaded(file), logits(scaled), atol=1e-4, rtol=0)
    assert (logits(scaled) - logits(model)).abs().max() > 0.01


@given(
    factor=st.floats(1.5, 64, width=32),
    original=st.integers(16, 4096),
    fast=st.floats(8, 64, width=32),
    slow=st.floats(0.5, 4, width=32),
    times=st.floats(0.5, 2, width=32),
)
def test_yarn_is_carried_whole(factor, original, fast, slow, times):
    """Factor, original length, both betas and the attention factor reach the configuration, in transformers' words."""
    found = model_config(
        header_with(
            {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": factor,
                "rope.scaling.original_context_length": original,
                "rope.scaling.yarn_beta_fast": fast,
                "rope.scaling.yarn_beta_slow": slow,
                "rope.scaling.attn_factor": times,
            }
        ),
        "tiny",
    )["rope_parameters"]
    assert found["original_max_position_embeddings"] == original
    assert (found["factor"], found["beta_fast"], found["beta_slow"]) == pytest.approx((factor, fast, slow))
    assert found["attention_factor"] == pytest.approx((1 + 0.1 * math.log(factor)) * times)


@pytest.mark.parametrize(
    "keys",
    [
        {".rope.scaling.type": "none"},
        {".rope.scaling.type": "none", ".rope.scaling.factor": 4.0},
        {".rope.scaling.type": "linear", ".rope.scaling.factor": 1.0},
        {".rope.scaling.type": "linear", ".rope.scaling.factor": 0.0},
        {".rope.scaling.type": "yarn", ".rope.scaling.factor": 1.0, ".rope.scaling.yarn_ext_factor": -1.0},
        {".rope.scale_linear": 1.0, ".rope.scaling.attn_factor": 1.0, ".rope.scaling.finetuned": False},
        {".rope.dimension_count": 16, ".vocab_size": len(gguf_files.TOKENIZER)},
        {".attention.scale": 0.25, ".attention.causal": True, ".attention.sliding_window": 0},
        {".attention.sliding_window": 512, ".pooling_type": 0, ".use_parallel_residual": False},
        {".expert_count": 0, ".expert_used_count": 0, ".logit_scale": 1.0, ".embedding_scale": 1.0},
        {".attn_logit_softcapping": 0.0, ".final_logit_softcapping": 0.0, ".residual_scale": 0.0},
        {".attention.head_count": [4, 4], ".attention.head_count_kv": [2, 2], ".feed_forward_length": [96, 96]},
        {"general.file_type": 0, "quantize.imatrix.chunks_count": 3, "somebody.quantized_by": "me"},
    ],
)
def test_neutral_keys(keys, file):
    """Keys whose values change nothing do not stand in the way."""
    model = gguf_files.build("llama")
    gguf_files.write(file, model, keys=keys)
    torch.testing.assert_close(loaded(file), logits(model), atol=1e-5, rtol=0)


# --- keys that are refused


def header_with(keys: dict[str, Any], family: str = "qwen2") -> GgufHeader:
    """A header whose tensors are not looked at, but for the embedding's shape."""
    plain = {
        "context_length": 512, "block_count": 2, "embedding_length": 64, "feed_forward_length": 96,
        "attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-6,
    }  # fmt: skip
    metadata = {f"{family}.{key}": value for key, value in {**plain, **keys}.items() if value is not None}
    table = type("Table", (), {"shape": (300, 64)})
    return GgufHeader((), {"general.architecture": family, **metadata}, {"token_embd.weight": table})


ODD = {
    "rope.dimension_count": [8, 32, [16, 8]],
    "rope.dimension_sections": [[4, 4, 4, 4]],
    "rope.freq_base": [0.0, -1.0, math.nan, "10000", [1e4, 5e3]],
    "rope.freq_base_swa": [1e4],
    "rope.scaling.type": ["longrope", "dynamic", "su", "llama3", "", 2],
    "rope.scaling.factor": [-1.0, math.inf, "4"],
    "rope.scaling.attn_factor": [1.5, 0.0],
    "rope.scaling.alpha": [1.0],
    "rope.scaling.yarn_ext_factor": [1.0, 0.5],
    "rope.scaling.yarn_attn_factor": [1.5],
    "rope.scaling.yarn_log_multiplier": [0.1],
    "rope.scaling.yarn_beta_fast": [0.0, -32.0],
    "rope.scaling.low_freq_factor": [1.0],
    "rope.scaling.original_context_length": [-1, 8.5],
    "rope.scale": [4.0],
    "rope_scaling": ["linear"],
    "attention.sliding_window": [128, 1, True],
    "attention.sliding_window_pattern": [[True, False]],
    "attention.key_length": [0, 15, [16, 32]],
    "attention.value_length": [8],
    "attention.key_length_swa": [16],
    "attention.scale": [0.5, -0.25],
    "attention.layer_norm_rms_epsilon": [None, math.nan, "small"],
    "attention.layer_norm_epsilon": [1e-5],
    "attention.group_norm_groups": [4],
    "attention.head_count": [None, 0, "4", [4, 2]],
    "attention.head_count_kv": [0, 3],
    "attention.causal": [False],
    "attention.clamp_kqv": [8.0],
    "attention.max_alibi_bias": [8.0],
    "attention.temperature_scale": [0.1],
    "attention.q_lora_rank": [16],
    "logit_scale": [0.0625],
    "embedding_scale": [12.0],
    "residual_scale": [0.22],
    "attn_logit_softcapping": [50.0],
    "final_logit_softcapping": [30.0],
    "expert_count": [8],
    "expert_used_count": [2],
    "nextn_predict_layers": [1],
    "pooling_type": [3],
    "use_parallel_residual": [True],
    "tensor_data_layout": ["interleaved"],
    "swin_norm": [False],
    "vocab_size": [299, 301],
    "context_length": [None, 0],
    "block_count": [None, 0, 2.0],
    "embedding_length": [None],
    "feed_forward_length": [None, [96, 64]],
    "embedding_length_out": [64],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ODD.items() for value in values])
def test_odd_key(key, value):
    """A key that changes the model in a way that cannot be carried over is named, before a weight is read."""
    with pytest.raises(MechinterpError, match=rf"qwen2\.{key}\b") as caught:
        model_config(header_with({key: value}), "tiny")
    assert "\n" not in str(caught.value)


@given(st.from_regex(r"[a-z_]{1,12}(\.[a-z_]{1,12}){0,2}", fullmatch=True), st.integers() | st.floats() | st.text())
def test_unknown_key(key, value):
    """Of a key of the architecture that nobody knows, nobody knows that it is harmless."""
    known = {*NEUTRAL, "rope.scaling.finetuned"}
    with pytest.raises(MechinterpError, match=r"its key qwen2\."):
        model_config(header_with({f"{key}_x" if key in known else key: value}), "tiny")


@pytest.mark.parametrize(
    "key", ["llama.rope.scaling.type", "rope.scaling.type", "attention.scale", "gemma.logit_scale"]
)
def test_key_of_another_architecture(key, file):
    """A key that says something of a model, but not of this one, is named."""
    gguf_files.write(file, gguf_files.build("qwen2"), keys={key: "linear"})
    assert f"its key {key} " in refusal(file)


def test_refused_with_the_file(file):
    """From a file it is the same line, and it begins with the checkpoint's name."""
    gguf_files.write(file, gguf_files.build("llama"), keys={".attention.sliding_window": 128})
    message = refusal(file)
    assert message.startswith("tiny: its key llama.attention.sliding_window is 128")


@pytest.mark.parametrize("architecture", ["bert", "mistral", "qwen2moe", "gemma"])
def test_other_architectures(architecture, file):
    """What is not supported is refused by its architecture."""
    gguf_files.write(file, gguf_files.build("qwen2"), architecture=architecture)
    assert repr(architecture) in refusal(file)


def test_adapters_and_projectors(file):
    """A file that says it holds something else than a model is not taken for one."""
    gguf_files.write(file, gguf_files.build("qwen2"), keys={"general.type": "adapter"})
    assert "'adapter'" in refusal(file)
