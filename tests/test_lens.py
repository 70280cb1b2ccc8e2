"""The logit lens is the model's own end, applied early."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechinterp import (
    MechinterpError,
    capture,
    last_logits,
    lens_probability,
    logit_lens,
    nearest_tokens,
    pad,
    unembed_directions,
)
from tests.conftest import VOCAB, tiny_subject

word_sets = st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=6, unique=True), min_size=1, max_size=4)


def residual(subject, sequences, layer):
    """After the last token of each row, (B, d_model)."""
    with capture(subject, [[len(s) - 1] for s in sequences], residual=[layer]) as found:
        last_logits(subject, pad(subject, sequences))
    return found.residual[layer][:, 0]


def test_last_layer(tiny, sequences):
    """The logit lens of the last residual is what the model says."""
    logits = logit_lens(tiny, residual(tiny, sequences, 2))
    torch.testing.assert_close(logits, last_logits(tiny, pad(tiny, sequences)), rtol=0, atol=1e-5)


def test_fp32(sequences):
    """Of a bf16 model too the lens is computed in fp32."""
    subject = tiny_subject("llama")
    subject.model.bfloat16()
    stream = residual(subject, sequences, 2)
    wide = tiny_subject("llama")
    wide.model.bfloat16().float()
    logits = logit_lens(subject, stream)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, logit_lens(wide, stream), rtol=0, atol=1e-5)


@given(words=word_sets, rows=st.integers(1, 40), shape=st.sampled_from([(), (1,), (7,), (3, 5), (2, 3, 4)]))
def test_probability(qwen, words, rows, shape):
    """The probability of a set of tokens is the sum of their softmax, whatever the shape and the size of the parts."""
    stream = torch.randn(*shape, 32, generator=torch.Generator().manual_seed(len(words)))
    found = lens_probability(qwen, stream, words, rows=rows)
    logits = logit_lens(qwen, stream)
    chances = logits.exp() / logits.exp().sum(-1, keepdim=True)
    wanted = torch.stack([sum(chances[..., token] for token in one) for one in words], dim=-1)
    assert found.shape == (*shape, len(words))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_probability_of_everything(qwen):
    """The whole vocabulary has probability 1, and a token named twice counts once."""
    stream = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    found = lens_probability(qwen, stream, [range(VOCAB), [5], [5, 5]])
    torch.testing.assert_close(found[:, 0], torch.ones(3))
    assert torch.equal(found[:, 1], found[:, 2])


@pytest.mark.parametrize("words", [[], [[]], [[1], []]])
def test_no_words(qwen, words):
    """A set of no tokens is refused: its probability would be a 0 that means nothing."""
    with pytest.raises(MechinterpError, match="none of them empty"):
        lens_probability(qwen, torch.zeros(2, 32), words)


@given(token=st.integers(0, VOCAB - 1), scale=st.floats(0.01, 100))
def test_nearest_tokens(qwen, token, scale):
    """A direction that raises one token's logit above all others names it first, with its text."""
    weight, gain = qwen.anatomy.unembed.weight.detach(), qwen.anatomy.norm.weight.detach()
    only = torch.linalg.pinv(weight * gain)[:, token]  # as near as 32 dimensions come to raising this logit alone
    crafted = scale * only / only.norm()
    ((first, *others),) = nearest_tokens(qwen, crafted[None], k=5)
    best = int(((weight * gain) @ crafted).argmax())
    assert first[:2] == (best, f"w{best}")
    values = [first[2], *(value for _, _, value in others)]
    assert values == sorted(values, reverse=True)
    assert first[2] == pytest.approx(float(((weight * gain) @ crafted).max()), rel=1e-4)


def test_directions_add_up(tiny):
    """What a direction adds to the logits is linear, and the lens of the direction alone up to a positive scale."""
    one, two = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    added = unembed_directions(tiny, torch.stack([one, two, one + two]))
    torch.testing.assert_close(added[2], added[0] + added[1], rtol=1e-4, atol=1e-4)
    scale = logit_lens(tiny, one) / added[0]
    assert (scale > 0).all()
    torch.testing.assert_close(scale, scale[:1].expand(VOCAB), rtol=1e-3, atol=1e-3)
