"""Choosing heads, and other heads to compare them with.

attending_heads    the heads whose mean attention mass exceeds a threshold
matched_head_sets  random sets with as many heads in each layer and output norms as near as may be
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, prod

import numpy as np
from torch import Tensor

from mechinterp.errors import MechinterpError
from mechinterp.intervene import Head


def attending_heads(mass: Tensor, *, above: float, at_most: int) -> list[Head]:
    """Heads (layer, head) with mean mass above a threshold, the most attending first, `at_most` of them.

    Args:
        mass: (n, layers, n_heads), attention mass of each sequence.
    """
    mean = mass.mean(0)
    if not mean.isfinite().all():
        raise MechinterpError("attending_heads: the attention mass is not finite, or there are no sequences")
    order = mean.flatten().argsort(descending=True).tolist()
    chosen = [divmod(i, mean.shape[1]) for i in order if mean.flatten()[i] > above]
    return [(int(layer), int(head)) for layer, head in chosen[:at_most]]


def matched_head_sets(heads: Sequence[Head], norms: Tensor, *, draws: int, seed: int) -> list[list[Head]]:
    """Distinct random sets of other heads, each with as many heads in each layer as `heads`.

    Within a layer every chosen head is replaced by one of its nearest in output norm: of twice as many as the layer
    gives up, at least four. A layer with too few other heads for its chosen ones gives what it has; the sets then
    hold fewer heads, which `len` of a set tells. Fewer than `draws` sets come back where fewer exist.

    Args:
        norms: (layers, n_heads), the typical norm of what each head writes.
    """
    if not heads:
        raise MechinterpError("matched_head_sets: no heads were given")
    if not norms.isfinite().all():
        raise MechinterpError("matched_head_sets: the norms are not finite, so no head can be matched by them")
    logs = norms.clamp(min=max(1e-6 * float(norms.max()), 1e-30)).log()  # of a head that writes nothing too
    rng = np.random.default_rng(seed)
    taken = set(heads)
    pools: list[tuple[int, list[int], int]] = []  # layer, candidates, how many to draw
    for layer in sorted({layer for layer, _ in heads}):
        chosen = [head for at, head in heads if at == layer]
        free = [head for head in range(norms.shape[1]) if (layer, head) not in taken]
        mean = logs[layer, chosen].mean()
        free.sort(key=lambda head: abs(float(logs[layer, head] - mean)))
        pools.append((layer, free[: max(4, 2 * len(chosen))], min(len(chosen), len(free))))
    if not any(count for _, _, count in pools):
        raise MechinterpError("matched_head_sets: the layers of these heads have no other heads to compare with")
    possible = prod(comb(len(pool), count) for _, pool, count in pools)
    found: dict[tuple[Head, ...], None] = {}
    for _ in range(50 * draws):
        if len(found) >= min(draws, possible):
            break
        found[
            tuple(
                (layer, int(head))
                for layer, pool, count in pools
                for head in sorted(rng.choice(pool, count, replace=False))
            )
        ] = None
    return [list(one) for one in found]
