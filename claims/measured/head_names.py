"""Heads by name.

head_names    such as L17H11
by_head       attention masses of some heads, by name
over_heads    the mean over some heads
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mechinterp import Head


def head_names(heads: Sequence[Head]) -> tuple[str, ...]:
    return tuple(f"L{layer}H{head}" for layer, head in heads)


def by_head(mass: Tensor, heads: Sequence[Head]) -> dict[str, float]:
    """The masses (layers, n_heads) of some heads, by name."""
    return {name: float(mass[head]) for name, head in zip(head_names(heads), heads, strict=True)}


def over_heads(mass: Tensor, heads: Sequence[Head]) -> np.ndarray:
    """(n, layers, n_heads) -> (n,), mean over some heads."""
    layers, numbers = (list(part) for part in zip(*heads, strict=True))
    return mass[:, layers, numbers].double().mean(1).numpy()
