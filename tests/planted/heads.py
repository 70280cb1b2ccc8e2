"""The planted heads. Each function overwrites one head.

mark          from a number to the nearest word that gives it a role: MARK says that it is the target
copy_before   from any token to the one before, by distance alone
verify        from a number to marked ones with the same digits, or to `<s>`: MATCH says which
read          from a number to the first or the last marked one, whatever its digits
stand_by      from a number to marked ones, equal or not: noise
witness       from a number to marked ones, equal or not: that there is one
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from transformers import LlamaForCausalLM

from mechinterp.intervene import Head

from .noise import scatter
from .space import (
    ANGLES,
    BIAS,
    CONTENT,
    COPIED,
    D_HEAD,
    DIGITS,
    GIVES,
    LEVEL,
    MARK,
    NUMBER,
    START,
    dims,
    per_unit,
    weights,
)

SHARP = 20.0  # attention logits a unit of score: 1 for each equal digit, 1 for the mark
FULL = 6.0  # MATCH of a result that is the target
BEFORE = (60, 180, 300)  # attention logits for which each rotary pair tells the token before from others
FAR = 3000.0  # attention logits that tell far from near: about 5 a token


def mark(model: LlamaForCausalLM, head: Head, roles: Sequence[str]) -> None:
    """Attend to the nearest word that gives a role, and write MARK if it gives one of `roles`."""
    q, k, v, o = (part.zero_() for part in weights(model, head))
    _by_distance(model, head, list(GIVES.values()), "last")
    q[CONTENT[0], BIAS] = per_unit(FAR / 3) / LEVEL  # to `<s>` from all that are no numbers
    k[CONTENT[0], START] = 1
    v[0, [GIVES[role] for role in roles]] = 1
    o[MARK, 0] = 1


def copy_before(model: LlamaForCausalLM, head: Head, copies: dict[int, int], strength: float = 1.0) -> None:
    """Attend to the token before, by its distance alone, and copy residual dimensions of it to others.

    RoPE turns a pair by its angle a token: a query that lags the keys by that much matches them best one token before.
    The best score is made 0, so that it does not matter how far the norm of a key shrinks it.
    """
    q, k, v, o = (part.zero_() for part in weights(model, head))
    for pair, (angle, weight) in enumerate(zip(ANGLES, BEFORE, strict=True)):
        lagging = torch.tensor([math.cos(angle), -math.sin(angle)])
        q[[pair, pair + D_HEAD // 2], BIAS] = per_unit(weight) / LEVEL * lagging
        k[pair, BIAS] = 1 / LEVEL
    q[CONTENT[0], BIAS], k[CONTENT[0], BIAS] = -per_unit(sum(BEFORE)) / LEVEL, 1 / LEVEL
    for slot, (source, into) in enumerate(copies.items()):
        v[slot, source], o[into, slot] = 1, strength


def verify(
    model: LlamaForCausalLM,
    head: Head,
    digits: slice = DIGITS,
    marked: int = MARK,
    *,
    compares: slice = DIGITS,
    writes: int,
    strength: float,
) -> None:
    """Attend from a number to marked keys with the same digits, or to `<s>`; write the mark of what was found.

    Args:
        digits, marked: where the keys have theirs.
        compares: which of the digits must be the same.
    """
    q, k, v, o = (part.zero_() for part in weights(model, head))
    compared = [place for place, dim in enumerate(dims(DIGITS)) if dim in dims(compares)]
    slots = [CONTENT[place] for place in compared]
    q[slots, [dims(DIGITS)[place] for place in compared]] = per_unit(SHARP)
    k[slots, [dims(digits)[place] for place in compared]] = 1
    q[CONTENT[-2:], BIAS] = per_unit(SHARP) / LEVEL
    count = {12: 3, 5: 1}[len(compared)]  # how many digits these dimensions hold
    k[CONTENT[-2], marked], k[CONTENT[-1], START] = 1, count + 0.5
    v[0, marked], o[writes, 0] = 1, strength


def read(model: LlamaForCausalLM, head: Head, which: Literal["first", "last"], strength: float) -> None:
    """Attend from a number to the first or the last marked one before it, and copy its digits."""
    _, _, v, o = (part.zero_() for part in weights(model, head))
    _by_distance(model, head, [MARK], which)
    for slot, (source, into) in enumerate(zip(dims(DIGITS), dims(COPIED), strict=True)):
        v[slot, source], o[into, slot] = 1, strength


def stand_by(
    model: LlamaForCausalLM, head: Head, rng: torch.Generator, *, rest: float = 2.7, strength: float = 0.2
) -> None:
    """Attend from a number to whatever is marked, equal or not, and write which number that is, into noise.

    Args:
        rest: attention to `<s>`, in marked tokens.
    """
    q, k, v, o = (part.zero_() for part in weights(model, head))
    q[CONTENT[-2], NUMBER], q[CONTENT[-1], BIAS] = per_unit(SHARP), per_unit(SHARP) / LEVEL
    k[CONTENT[-2], MARK], k[CONTENT[-1], START] = 1, 1 + math.log(rest) / SHARP
    v[range(12), dims(DIGITS)] = 1
    o.copy_(strength * scatter(rng, D_HEAD))


def witness(model: LlamaForCausalLM, head: Head, *, writes: int, strength: float) -> None:
    """Attend from a number to whatever is marked, or to `<s>` where nothing is."""
    q, k, v, o = (part.zero_() for part in weights(model, head))
    q[CONTENT[-2], NUMBER], q[CONTENT[-1], BIAS] = per_unit(SHARP), per_unit(SHARP) / LEVEL
    k[CONTENT[-2], MARK], k[CONTENT[-1], START] = 1, 0.75
    v[0, MARK], o[writes, 0] = 1, strength


def _by_distance(model: LlamaForCausalLM, head: Head, keys: Sequence[int], which: Literal["first", "last"]) -> None:
    """From numbers to the tokens with one of these dimensions: the nearest of them or the farthest.

    The slowest pair turns by 0.8 radians in 250 tokens; shifted by as much, its cosine falls or rises with distance.
    """
    q, k, _, _ = weights(model, head)
    pair = len(ANGLES) - 1
    shift = math.pi / 3 if which == "first" else -math.pi / 4
    lagging = torch.tensor([math.cos(shift), -math.sin(shift)])
    q[[pair, pair + D_HEAD // 2], NUMBER] = per_unit(FAR) * lagging
    k[pair, list(keys)] = 1
