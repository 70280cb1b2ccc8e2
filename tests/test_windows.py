"""Layers that attend to a sliding window only: prompts longer than the window, whole and in parts."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp import (
    AblateHeads,
    AblateNeurons,
    Metric,
    Steer,
    everywhere,
    generate,
    last,
    last_logits,
    pad,
    since,
    sweep,
)
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


PROMPTS = [torch.randint(4, VOCAB, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (9, 5, 14, 9)]
scopes = st.sampled_from([last, everywhere, since([7, 4, 12, 3]), since([2, 1, 3, 8])])
interventions = st.one_of(
    st.none(),
    st.builds(lambda layer, head: AblateHeads([(layer, head)]), st.integers(0, 2), st.integers(0, 3)),
    st.builds(lambda layer, neuron: AblateNeurons([(layer, neuron)]), st.integers(0, 2), st.integers(0, 47)),
    st.builds(lambda layer, by: Steer(layer, by * torch.linspace(-1, 1, 32)), st.integers(0, 2), st.floats(-3, 3)),
)
several = st.lists(interventions, min_size=1, max_size=5)


@settings(max_examples=10)
@given(chosen=several, scope=scopes)
def test_sweep_is_the_naive_loop(subject, chosen, scope):
    """Keys of the prefix that are out of reach stay so."""
    swept = sweep(subject, PROMPTS, chosen, Metric(lambda read: read.logits()), scope=scope)
    for column, one in enumerate(chosen):
        with one.on(subject, scope) if one else nullcontext():
            logits = last_logits(subject, pad(subject, PROMPTS))
        torch.testing.assert_close(swept[:, column], logits, rtol=1e-5, atol=1e-4)


@settings(max_examples=5)
@given(chosen=several, scope=scopes)
def test_generation_one_by_one(subject, chosen, scope):
    """The cache of a layer with a window keeps what the window reaches."""
    made, batch = generate(subject, PROMPTS, chosen, scope=scope, max_new_tokens=8, stop=[]), pad(subject, PROMPTS)
    for column, one in enumerate(chosen):
        with one.on(subject, scope) if one else nullcontext():
            alone = subject.model.generate(
                **batch.for_generate(), do_sample=False, max_new_tokens=8, eos_token_id=None, pad_token_id=0
            )
        assert [texts[column] for texts in made] == alone[:, batch.input_ids.shape[1] :].tolist()


def test_alone_and_beside(subject):
    """Padding does not move the window."""
    for prompt, logits in zip(PROMPTS, last_logits(subject, pad(subject, PROMPTS)), strict=True):
        alone = subject.model(torch.tensor([prompt]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(logits, alone, rtol=0, atol=1e-4)
