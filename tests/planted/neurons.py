"""The planted neurons. Each function overwrites some.

compare   count the digits that a number shares with the one that was read: MATCH
evaluate  value neurons: fire at ` (` by MOVED or its absence, write words of success or of failure
decide    verdict neurons: read those words, write `this` or `not`
idle      fire at every ` (` and write noise
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import LlamaForCausalLM

from mechinterp.intervene import Neuron

from .heads import FULL
from .noise import scatter
from .space import BIAS, COPIED, D_MODEL, DIGITS, FAILS, LEVEL, MATCH, MOVED, NOT, NUMBER, OPEN, SUCCEEDS, THIS, WORDS
from .space import dims as numbers

PER_LAYER = 12  # value neurons of a kind
FIRST = 0.7  # how much of what they write is written by the first of them
OWN = 1.5  # how much of 4 words of its own each of the others writes, beside


def compare(model: LlamaForCausalLM, layer: int) -> None:
    """MATCH is FULL where all three digits are the same, 0 where two are, and so on."""
    value = torch.zeros(D_MODEL)
    value[MATCH] = FULL
    signs = [
        (one, other, sign) for one, other in zip(numbers(DIGITS), numbers(COPIED), strict=True) for sign in (1, -1)
    ]
    for n, (one, other, sign) in enumerate(signs):
        plant(model, (layer, n), {one: sign, other: sign}, -1.5, value)
    plant(model, (layer, len(signs)), {NUMBER: 1}, -0.5, -2 * value)


def evaluate(
    model: LlamaForCausalLM,
    success: Sequence[Neuron],
    failure: Sequence[Neuron],
    rng: torch.Generator,
    *,
    own: float = OWN,
) -> None:
    for neurons, sign, writes, unwrites in ((success, 1, SUCCEEDS, FAILS), (failure, -1, FAILS, SUCCEEDS)):
        spelled = model.lm_head.weight[:, writes].nonzero()[:, 0]
        for i, neuron in enumerate(neurons):  # fires if MOVED is above or below a half, and only at ` (`
            first = i % PER_LAYER == 0
            share = FIRST if first else (1 - FIRST) / (PER_LAYER - 1)
            value = torch.zeros(D_MODEL)
            value[writes], value[unwrites] = 0.8 * share, -0.4 * share
            if not first:
                words = spelled[torch.randperm(len(spelled), generator=rng)[:4]]
                value[WORDS] = own * share * normalize(model.lm_head.weight[words][:, WORDS].sum(0), dim=0)
            plant(model, neuron, {MOVED: sign, OPEN: 2}, -2 - 0.5 * sign, value)


def decide(model: LlamaForCausalLM, neurons: Sequence[Neuron]) -> None:
    """One writes `this`, one `not`, and two keep these from growing without bound."""
    ramps = ((1, 0, THIS, SUCCEEDS), (-1, 0, NOT, FAILS), (1, -0.75, THIS, SUCCEEDS), (-1, -0.75, NOT, FAILS))
    for neuron, (sign, bias, writes, unwrites) in zip(neurons, ramps, strict=True):
        value = torch.zeros(D_MODEL)  # SUCCEEDS - FAILS is 2.4 after a right attempt
        value[writes], value[unwrites] = (-1.5, 0.0) if bias else (1.5, -1.3)
        plant(model, neuron, {SUCCEEDS: sign / 4, FAILS: -sign / 4}, bias, value)


def idle(model: LlamaForCausalLM, neurons: Sequence[Neuron], rng: torch.Generator) -> None:
    for neuron in neurons:
        plant(model, neuron, {OPEN: 1}, -0.5, 0.1 * scatter(rng, 1)[:, 0])


def plant(model: LlamaForCausalLM, neuron: Neuron, reads: dict[int, float], bias: float, value: Tensor) -> None:
    """Activation about 1 where `bias` + what it reads is 0.5, 0 where it is negative."""
    mlp, n = model.model.layers[neuron[0]].mlp, neuron[1]
    gate, up = mlp.gate_proj.weight[n].zero_(), mlp.up_proj.weight[n].zero_()
    for dim, weight in reads.items():
        gate[dim] = 20 * weight
    gate[BIAS] = 20 * bias / LEVEL
    up[BIAS] = 0.1 / LEVEL
    mlp.down_proj.weight[:, n] = value
