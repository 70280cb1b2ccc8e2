"""What a model may have been trained from: copies in which some parts have moved far and others hardly.

trained_from   a copy with every weight moved, some heads and neurons less than the rest
reseated       the same model with its heads in other places
"""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch

from mechinterp import Head, Neuron, Subject


@torch.no_grad()
def trained_from(
    subject: Subject, *, rest: float, kept: float = 0.0, heads: Collection[Head] = (), neurons: Collection[Neuron] = (),
    seed: int = 0
) -> Subject:  # fmt: skip
    """A reference of a subject: each weight times 1 + noise of standard deviation `rest`, or `kept` in some parts.

    Zeros stay, so that a circuit with little noise works as before.
    """
    model, rng = copy.deepcopy(subject.model), torch.Generator().manual_seed(seed)
    anatomy = subject.anatomy
    for layer, block in enumerate(model.model.layers):
        attention, mlp = block.self_attn, block.mlp
        for name in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
            weight = getattr(attention if hasattr(attention, name) else mlp, name).weight
            by = torch.full_like(weight, rest)
            for at, number in heads if hasattr(attention, name) else neurons:
                size = anatomy.d_head if hasattr(attention, name) else 1
                if at == layer:
                    rows = slice(number * size, (number + 1) * size)
                    (by.T if name in ("o_proj", "down_proj") else by)[rows] = kept
            weight *= 1 + by * torch.randn(weight.shape, generator=rng)
    return Subject.of(model, subject.tokenizer, "reference")


@torch.no_grad()
def reseated(subject: Subject, by: int) -> Subject:
    """The same function with head h of every layer at h + by: what is planted stands elsewhere."""
    model = copy.deepcopy(subject.model)
    for block in model.model.layers:
        attention, shift = block.self_attn, by * subject.anatomy.d_head
        for name in ("q_proj", "k_proj", "v_proj"):
            weight = getattr(attention, name).weight
            weight.copy_(weight.roll(shift, 0))
        attention.o_proj.weight.copy_(attention.o_proj.weight.roll(shift, 1))
    return Subject.of(model, subject.tokenizer, "reseated")
