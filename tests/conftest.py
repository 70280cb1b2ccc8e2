"""Tiny models of every supported family, made from seeds; nothing is fetched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings
from tokenizers import Tokenizer, models
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mechinterp import Subject

slow = [HealthCheck.too_slow]  # says how busy the machine is, not what is tested
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=25, suppress_health_check=slow)
settings.load_profile("suite")
torch.set_num_threads(1)  # models this small gain nothing by more, and lose much beside a busy process

VOCAB = 97
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # large enough that attention is far from uniform
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
    "llama": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
}


def tiny_subject(family: str = "qwen2", seed: int = 0, **sizes: object) -> Subject:
    """A random model of a family; biases are random too, so that a forgotten bias shows."""
    config, model, extra = FAMILIES[family]
    torch.manual_seed(seed)
    built = model(config(**{**SIZES, **extra, **sizes}))
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.2)
            elif "norm" in name:
                parameter.uniform_(0.5, 1.5)
    words = {f"w{i}": i for i in range(VOCAB)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w3")),
        pad_token="w0", bos_token="w1", eos_token="w2", unk_token="w3",
    )  # fmt: skip
    return Subject.of(built, tokenizer, family)


@pytest.fixture(scope="session", params=FAMILIES)
def tiny(request: pytest.FixtureRequest) -> Subject:
    """A tiny random subject of each supported family."""
    return tiny_subject(request.param)


@pytest.fixture(scope="session")
def qwen() -> Subject:
    return tiny_subject("qwen2")


@pytest.fixture(scope="session")
def sequences() -> list[list[int]]:
    """Sequences of different lengths, so that batches of them are padded."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in (9, 12, 7, 12)]
