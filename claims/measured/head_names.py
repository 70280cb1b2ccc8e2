"""Heads and value vectors by name.

head_names       such as L17H11
component_names  the same, or MLP[26, 744] of value vectors
by_head          attention masses of some heads, by name
over_heads       the mean over some heads
jaccard          how far two sets are the same
head_grid        a picture of all heads, layer by head
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mechinterp import Head
from mechinterp.pictures import Grid


def head_names(heads: Sequence[Head]) -> tuple[str, ...]:
    return tuple(f"L{layer}H{head}" for layer, head in heads)


def component_names(components: Sequence[Head], kind: str) -> tuple[str, ...]:
    """Args: kind: "heads" or "value_vectors"."""
    return head_names(components) if kind == "heads" else tuple(f"MLP[{layer}, {i}]" for layer, i in components)


def by_head(mass: Tensor, heads: Sequence[Head]) -> dict[str, float]:
    """The masses (layers, n_heads) of some heads, by name."""
    return {name: float(mass[head]) for name, head in zip(head_names(heads), heads, strict=True)}


def over_heads(mass: Tensor, heads: Sequence[Head]) -> np.ndarray:
    """(n, layers, n_heads) -> (n,), mean over some heads."""
    layers, numbers = (list(part) for part in zip(*heads, strict=True))
    return mass[:, layers, numbers].double().mean(1).numpy()


def jaccard(one: Sequence[Head], other: Sequence[Head]) -> float:
    """|A and B| / |A or B|, 1 for two sets of nothing."""
    either = {*one} | {*other}
    return len({*one} & {*other}) / len(either) if either else 1.0


def head_grid(title: str, of: Tensor, unit: str) -> Grid:
    """(layers, n_heads), the last layer above."""
    layers, heads = of.shape
    return Grid(
        title,
        rows=[str(layer) for layer in reversed(range(layers))],
        columns=[str(head) for head in range(heads)],
        values=of.flip(0).tolist(),
        row_axis="layer",
        column_axis="head",
        unit=unit,
        middle=0.0 if bool((of < 0).any()) else None,
    )
