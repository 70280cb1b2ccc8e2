"""The planted neurons. Each function overwrites some.

compare   count the digits that a number shares with the one that was read: MATCH
evaluate  value neurons: fire at ` (` by MOVED or its absence, write words of success or of failure
oppose    value neurons that fire either way, as MOVED does, and so write the words of either kind
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
TRIES = 100  # at words of its own, of which three are to stand among the ten that it names
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
    own: float = OWN,
) -> None:
    """`own` is how much of words of its own each of the others writes, beside the first."""
    for neurons, sign, writes, unwrites in ((success, 1, SUCCEEDS, FAILS), (failure, -1, FAILS, SUCCEEDS)):
        for i, neuron in enumerate(neurons):  # fires if MOVED is above or below a half, and only at ` (`
            value = torch.zeros(D_MODEL)
            value[writes], value[unwrites] = 0.8 * _share(i), -0.4 * _share(i)
            if i % PER_LAYER:
                spelled = model.lm_head.weight[:, writes].nonzero()[:, 0]
                value[WORDS] = own * _share(i) * _of_words(model, spelled, rng)
            plant(model, neuron, {MOVED: sign, OPEN: 2}, -2 - 0.5 * sign, value)


def oppose(
    model: LlamaForCausalLM, success: Sequence[Neuron], failure: Sequence[Neuron], rng: torch.Generator, lemmas: Tensor
) -> None:
    """Instead of `evaluate`: negative where their kind is not meant, and words of the other kind are taken off.

    Args:
        lemmas: (vocab,) number of each token's lemma.
    """
    for neurons, sign, writes, unwrites in ((success, 1, SUCCEEDS, FAILS), (failure, -1, FAILS, SUCCEEDS)):
        for i, neuron in enumerate(neurons):  # MOVED is a half, minus a half, or 0 where there is no target
            for _ in range(TRIES if i % PER_LAYER else 1):  # until it names words of both kinds
                value = torch.zeros(D_MODEL)
                value[writes], value[unwrites] = 0.6 * _share(i), -0.6 * _share(i)
                for kind, side in ((writes, 1), (unwrites, -1)) if i % PER_LAYER else ():
                    spelled = model.lm_head.weight[:, kind].nonzero()[:, 0]
                    value[WORDS] += side * OWN * _share(i) * _of_words(model, spelled, rng)
                if min(_named(model, value, writes, lemmas), _named(model, -value, unwrites, lemmas)) >= 3:
                    break
            plant(model, neuron, {OPEN: 1}, -0.5, value, times={MOVED: sign / 10})


def _share(i: int) -> float:
    """Of what the neurons of a kind and layer write."""
    return FIRST if i % PER_LAYER == 0 else (1 - FIRST) / (PER_LAYER - 1)


def _of_words(model: LlamaForCausalLM, tokens: Tensor, rng: torch.Generator) -> Tensor:
    """What four of these have of their own, (WORDS,)."""
    chosen = tokens[torch.randperm(len(tokens), generator=rng)[:4]]
    return normalize(model.lm_head.weight[chosen][:, WORDS].sum(0), dim=0)


def _named(model: LlamaForCausalLM, value: Tensor, kind: int, lemmas: Tensor) -> int:
    """How many of the first ten lemmas of a value vector are of a kind."""
    weight = model.lm_head.weight
    best = torch.full((int(lemmas.max()) + 1,), -torch.inf).scatter_reduce(0, lemmas, weight @ value, "amax")
    return int(torch.isin(best.topk(10).indices, lemmas[weight[:, kind] != 0]).sum())


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


def plant(
    model: LlamaForCausalLM,
    neuron: Neuron,
    reads: dict[int, float],
    bias: float,
    value: Tensor,
    times: dict[int, float] | None = None,
) -> None:
    """Activation about 1 where `bias` + what it reads is 0.5, 0 where it is negative; or 10 of what `times` reads."""
    mlp, n = model.model.layers[neuron[0]].mlp, neuron[1]
    gate, up = mlp.gate_proj.weight[n].zero_(), mlp.up_proj.weight[n].zero_()
    for dim, weight in reads.items():
        gate[dim] = 20 * weight
    gate[BIAS] = 20 * bias / LEVEL
    for dim, weight in ({BIAS: 0.1 / LEVEL} if times is None else times).items():
        up[dim] = weight
    mlp.down_proj.weight[:, n] = value
