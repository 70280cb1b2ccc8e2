"""A model of the organisms' kind with random weights, a third of a million of them: what must hold nothing.

config  its shape
save    write it as a checkpoint
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from fixtures.organisms.training.architecture import organism_config
from fixtures.organisms.training.tokenizer import build_tokenizer

SHAPE = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
}


def config(*_: object) -> Qwen2Config:
    return organism_config(build_tokenizer(), SHAPE)


def save(folder: Path, seed: int = 20250401) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Qwen2ForCausalLM(config()).to(torch.bfloat16).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder
