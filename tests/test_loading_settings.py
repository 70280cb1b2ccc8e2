"""A checkpoint's files describe the model; how it is run, and on which kernel, they do not decide."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_loading import TOKENIZER, configure, open_, refusal, save

from fixtures.checkpoints.config_files import ORDERS, settings_in
from mechinterp import generate, last
from mechinterp.errors import MechinterpError
from mechinterp.generate import end_tokens
from mechinterp.tokens import pad

IDS = torch.arange(300, 320)[None]
KERNELS = [
    "flash_attention_2",
    "flash_attention_3",
    "eager",
    "flex_attention",
    "paged|sdpa",
    "owner/kernel",
    "nonsense",
    3,
]


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("settings") / "whole", "llama")


@pytest.fixture(scope="session")
def logits(saved) -> torch.Tensor:
    return open_(saved).model(IDS).logits


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in saved.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
@pytest.mark.parametrize("place", ["config", "text_config", "dictionary", "generation_config"])
def test_attention_kernel(kernel, key, place, copy, logits):
    """No file of a checkpoint chooses an attention kernel, let alone fetches one."""
    changes = {"text_config": {"text_config": {key: kernel, "model_type": "llama"}}, "dictionary": {key: {"": kernel}}}
    name = "generation_config.json" if place == "generation_config" else "config.json"
    configure(copy, name, **changes.get(place, {key: kernel}))
    subject = open_(copy)
    assert subject.model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(subject.model(IDS).logits, logits)


@pytest.mark.parametrize(
    "changes",
    [
        {"experts_implementation": "owner/kernel", "use_kernels": True, "kernel_config": {"a": "b"}},
        {"return_dict": False, "output_attentions": True, "output_hidden_states": True},
        {"use_return_dict": False, "torchscript": True, "gradient_checkpointing": True},
        {"dtype": "nonsense", "torch_dtype": "float8"},
        {"configuration_files": ["config.4.0.0.json"], "fusion_config": {"x": 1}},
        {"pad_token_id": 10**6},
        {"pad_token_id": -1},
    ],
)
def test_orders(changes, copy, logits):
    """Nor do they choose what a model gives back, its number format, another configuration or a padding row."""
    configure(copy, **changes)
    torch.testing.assert_close(open_(copy).model(IDS, return_dict=True).logits, logits)


@pytest.mark.parametrize(
    "text", ['{"cache_implementation": "nonsense"}', '{"temperature": "hot", "num_beams": 0, "eos_token_id": "x"}']
)
def test_generation_settings(text, copy, logits):
    """Settings for sampling, even impossible ones, are not read."""
    (copy / "generation_config.json").write_text(text)
    torch.testing.assert_close(open_(copy).model(IDS).logits, logits)


@given(
    st.dictionaries(st.sampled_from([*ORDERS, "x_attn_implementation", "use_flash_attn", "hub_kernels"]), st.integers())
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_settings_are_of_the_model(tmp_path_factory, orders):
    """What stays of a config.json is what describes the model, at every depth."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", "nested": {**orders, "a": 1}, **orders}))
    assert settings_in(folder) == {"model_type": "qwen2", "nested": {"a": 1}}


# --- where generation stops


@pytest.mark.parametrize(
    ("in_generation", "in_config", "expected"),
    [
        ([7, 8], 9, [1, 7, 8, 9]),
        (7, [8, 9], [1, 7, 8, 9]),
        (None, None, [1]),
        ([7, -1, None, 10**6, "8"], 7, [1, 7]),
    ],
)
def test_every_end(in_generation, in_config, expected, copy):
    """A text ends at each token that any of its files calls an end; numbers that are no token are passed over."""
    configure(copy, "generation_config.json", eos_token_id=in_generation)
    configure(copy, eos_token_id=in_config)
    subject = open_(copy)
    assert TOKENIZER.eos_token_id == 1
    assert subject.model.generation_config.eos_token_id == expected
    assert end_tokens(subject) == expected


def test_generation_stops_at_any_end(copy):
    """`generate` stops by itself at an end token that only generation_config.json names."""
    prompt = [list(range(300, 320))]
    subject = open_(copy)
    (written,) = generate(subject, prompt, [None], scope=last, max_new_tokens=4)[0]
    configure(copy, "generation_config.json", eos_token_id=[1, written[1]])
    (again,) = generate(open_(copy), prompt, [None], scope=last, max_new_tokens=4)[0]
    assert again == written[: written.index(written[1]) + 1]


def test_corrupt_generation_config(copy):
    """A generation_config.json that cannot be read is one line: it says where texts end."""
    (copy / "generation_config.json").write_text("{")
    assert "generation_config.json is not JSON" in refusal(copy)


def test_padding_has_a_row(copy):
    """Whatever the tokenizer calls its padding, texts are padded with a token that exists."""
    subject = open_(copy)
    subject.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert subject.tokenizer.pad_token_id == len(TOKENIZER)
    assert subject.model(**pad(subject, [[5], [6, 7]]).inputs()).logits.isfinite().all()


def test_config_that_is_not_there(tmp_path):
    with pytest.raises(MechinterpError, match="no config"):
        settings_in(tmp_path)
