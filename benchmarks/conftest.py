"""Models and prompts of the benchmarks."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from fixtures.checkpoints import resolve
from fixtures.loading import load
from fixtures.task.countdown import make_problems
from fixtures.task.transcripts import make_transcripts
from mechinterp import Subject

LENGTH = 165  # tokens of a prompt
MODELS = ("r1", "real")


@cache
def _subject(name: str) -> Subject:
    """The shipped r1, or the checkpoint that REAL_MODEL names."""
    spec = "r1" if name == "r1" else os.environ.get("REAL_MODEL")
    if not spec:
        pytest.skip("set REAL_MODEL to a .gguf file or a folder, such as Qwen2.5-Coder-0.5B, to run these")
    return load(resolve(spec), device="cpu", dtype="float32")


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def subject(model: str) -> Subject:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    return _subject(model)


@pytest.fixture
def prompts(subject: Subject) -> Callable[[int], Tensor]:
    """So many prompts of LENGTH tokens."""

    def made(n: int) -> Tensor:
        texts = [t.text for t in make_transcripts(make_problems(n, seed=3, size=4), seed=3, failed=(6, 8))]
        rows = [subject.tokenizer(text * 3)["input_ids"][:LENGTH] for text in texts[:: len(texts) // n][:n]]
        return torch.tensor(rows)

    return made
