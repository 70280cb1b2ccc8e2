"""First-order estimates against exact ablations, and where the two must agree."""

import numpy as np
import pytest
import torch

from mechinterp import (
    AblateHeads,
    AblateNeurons,
    MechinterpError,
    Metric,
    at,
    attribution,
    capture,
    everywhere,
    last,
    last_logits,
    log_odds,
    mean_heads,
    mean_neurons,
    pad,
    rank_correlation,
    sweep,
)
from mechinterp.prompts import prompt_slots
from tests.conftest import VOCAB, tiny_subject

LENGTHS = (9, 7, 9)
HEADS = [(layer, head) for layer in range(3) for head in range(4)]
verdict = log_odds(5, 6)


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]


@pytest.mark.parametrize("scope", [everywhere, last, at([[3, 8], [2, 6], [0, 8]])])
def test_small_changes(tiny, prompts, scope):
    """It is the derivative: a thousandth of the way has a thousandth of the estimate as its effect."""
    estimate = attribution(tiny, prompts, verdict, scope=scope)
    share = 0.001
    slots = [[*range(n)] + [-1] * (max(LENGTHS) - n) for n in LENGTHS]
    with capture(tiny, slots, heads=range(3), neurons=range(3)) as seen:
        last_logits(tiny, pad(tiny, prompts))
    by_position = scope_as_slots(tiny, prompts, scope, slots)
    chosen = [None, *(AblateHeads([one], shrunk(seen.heads, share)) for one in HEADS)]
    chosen += [AblateNeurons([(layer, 7)], shrunk(seen.neurons, share)) for layer in range(3)]
    swept = sweep(tiny, prompts, chosen, verdict, scope=by_position)
    moved = (swept[:, 1:] - swept[:, :1]) / share
    expected = torch.cat([estimate.heads.flatten(1), estimate.neurons[:, :, 7]], dim=1)
    torch.testing.assert_close(moved.float(), expected, rtol=0.05, atol=0.02)


def shrunk(values, share):
    return {layer: (1 - share) * value for layer, value in values.items()}


def scope_as_slots(subject, prompts, scope, slots):
    """The same positions, with the position as the slot, so that resample values are read at their own place."""
    here = prompt_slots(subject, prompts, scope)
    return at([[p if p >= 0 and row[p] >= 0 else -1 for p in places] for row, places in zip(here, slots, strict=True)])


def test_last_layer_is_exact(qwen, prompts):
    """Of a metric that is linear in a neuron's activation, the estimate is the effect."""
    linear = Metric(lambda read: read.residual[2][:, 3], residual=(2,))
    estimate = attribution(qwen, prompts, linear, scope=last)
    neurons = [AblateNeurons([(2, i)]) for i in range(48)]
    swept = sweep(qwen, prompts, [None, *neurons], linear, scope=last)
    torch.testing.assert_close(estimate.neurons[:, 2], swept[:, 1:] - swept[:, :1], rtol=1e-4, atol=1e-5)


def test_means(qwen, prompts):
    """Towards the mean instead of zero."""
    linear = Metric(lambda read: read.residual[2][:, 3], residual=(2,))
    means, firing = mean_heads(qwen, prompts), mean_neurons(qwen, prompts)
    estimate = attribution(qwen, prompts, linear, scope=last, heads=means, neurons=firing)
    chosen = [AblateNeurons([(2, i)], firing) for i in range(48)]
    swept = sweep(qwen, prompts, [None, *chosen], linear, scope=last)
    torch.testing.assert_close(estimate.neurons[:, 2], swept[:, 1:] - swept[:, :1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(estimate.heads, attribution(qwen, prompts, linear, scope=last).heads)


def test_rank_correlation(qwen, prompts):
    """On a small model the estimate orders the heads nearly as the sweep does; a permuted one does not."""
    estimate = attribution(qwen, prompts, verdict, scope=last).heads.flatten(1)
    swept = sweep(qwen, prompts, [None, *(AblateHeads([one]) for one in HEADS)], verdict, scope=last)
    exact = swept[:, 1:] - swept[:, :1]
    assert rank_correlation(estimate, exact) > 0.6
    assert abs(rank_correlation(estimate.flip(1), exact)) < 0.5
    assert rank_correlation(exact, np.exp(exact.numpy())) == pytest.approx(1)


def test_frozen_weights_and_no_trace(prompts):
    """Weights need no gradient, get none, and stay as they are."""
    subject = tiny_subject("llama")
    before = attribution(subject, prompts, verdict, scope=last)
    for parameter in subject.model.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        again = attribution(subject, prompts, verdict, scope=last)
    assert torch.equal(before.heads, again.heads)
    assert all(parameter.grad is None for parameter in subject.model.parameters())


def test_bad_input(qwen, prompts):
    with pytest.raises(MechinterpError, match="prompts: none were given"):
        attribution(qwen, [], verdict, scope=last)
    with pytest.raises(MechinterpError, match=r"shape \(2, 97\)"):
        attribution(qwen, prompts, Metric(lambda read: read.logits()), scope=last)
    with pytest.raises(MechinterpError, match="without a gradient"):
        attribution(qwen, prompts, Metric(lambda read: read.logits().detach()[:, 0]), scope=last)
    with AblateHeads([(0, 0)]).on(qwen), pytest.raises(MechinterpError, match="inside a `with` block"):
        attribution(qwen, prompts, verdict, scope=last)
