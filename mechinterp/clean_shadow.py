"""What a reference's heads read out on clean prompts: where rows with transplanted heads begin.

run_shadows   the clean pass beside which references' attention runs
Shadowed      of one layer, what later rows need
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from mechinterp.row_edits import HEADS, Edits, Place, Swapped
from mechinterp.shadow import Shadow
from mechinterp.shared_prefix import Prefix
from mechinterp.subject import Subject

Key = tuple[int, int]
"""Which reference, and the layer."""


@dataclass(frozen=True, eq=False)
class Shadowed:
    """P prompts; keys and values of the reference before the token `start`, heads from there on.

    Attributes:
        prefix: None where there are no earlier tokens.
        heads: (P, C, n_heads * d_head).
    """

    prefix: Prefix | None
    heads: Tensor


def key_of(swap: Swapped, layer: int) -> Key:
    return id(swap.reference), layer


def run_shadows(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    start: int,
    tables: Mapping[Place, Sequence[Edits]],
) -> dict[Key, Shadowed]:
    """Run the prompts with these numbers, all of one length, where any of the tables transplants heads."""
    wanted = {
        key_of(one, place.layer): Shadow(one.reference, place.layer)
        for place, these in tables.items()
        for one in these
        if place.kind == HEADS and isinstance(one, Swapped) and one.reference is not None
    }
    if not wanted:
        return {}
    read: dict[Key, Tensor] = {}
    with ExitStack() as stack:
        for key, shadow in wanted.items():

            def attend(module: Any, args: Any, kwargs: Any, key: Key = key, shadow: Shadow = shadow) -> None:
                read[key] = shadow.run(subject, {**kwargs, "past_key_values": DynamicCache()}, 0)[:, start:].clone()

            attention = subject.anatomy.attention(shadow.layer)
            stack.callback(attention.register_forward_pre_hook(attend, with_kwargs=True).remove)
        ids = torch.tensor([prompts[number] for number in numbers], device=subject.device)
        subject.model.model(ids, use_cache=False)
    return {key: Shadowed(_prefix(shadow, start), read[key]) for key, shadow in wanted.items()}


def _prefix(shadow: Shadow, start: int) -> Prefix | None:
    if not start or shadow.cache is None:
        return None
    kept = shadow.cache.layers[shadow.layer]
    return Prefix({shadow.layer: kept.keys[:, :, :start]}, {shadow.layer: kept.values[:, :, :start]})
