"""Layers that attend to a sliding window only: prompts longer than the window, whole and in parts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp import generate, last_logits, pad, sweep
from tests import test_generate, test_sweep
from tests.conftest import VOCAB, tiny_subject

WINDOW = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
FULL, NEAR = "full_attention", "sliding_attention"


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "qwen3 first", "qwen2 eager"])
def subject(request):
    """Some layers have a window, some have none."""
    family, _, more = request.param.partition(" ")
    subject = tiny_subject(
        family,
        **WINDOW,
        **({"head_dim": 8} if family == "qwen3" else {}),
        **({"layer_types": [NEAR, FULL, NEAR]} if more == "first" else {}),
    )
    subject.model.set_attn_implementation(more if more == "eager" else "sdpa")
    return subject


def prompts_of(lengths):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in lengths]


@settings(max_examples=8)
@given(chosen=st.lists(test_sweep.interventions, min_size=1, max_size=6), scope=test_sweep.scopes)
def test_sweep_is_the_naive_loop(subject, chosen, scope):
    prompts = prompts_of(test_sweep.LENGTHS)
    swept = sweep(subject, prompts, chosen, test_sweep.everything, scope=scope)
    torch.testing.assert_close(swept, test_sweep.naive(subject, prompts, chosen, scope), rtol=1e-5, atol=1e-4)


@settings(max_examples=5)
@given(chosen=st.lists(test_generate.interventions, min_size=1, max_size=3), scope=test_generate.scopes)
def test_generation_one_by_one(subject, chosen, scope):
    prompts = prompts_of(test_generate.LENGTHS)
    made = generate(subject, prompts, chosen, scope=scope, max_new_tokens=test_generate.NEW, stop=test_generate.STOP)
    assert made == test_generate.one_by_one(subject, prompts, chosen, scope)


def test_alone_and_beside(subject):
    """Padding does not move the window."""
    prompts = prompts_of((9, 5, 14))
    together = last_logits(subject, pad(subject, prompts))
    for prompt, logits in zip(prompts, together, strict=True):
        alone = subject.model(torch.tensor([prompt]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(logits, alone, rtol=0, atol=1e-4)
