"""Choosing heads, and other heads to compare them with.

attending_heads    the heads whose mean attention mass exceeds a threshold
matched_head_sets  random sets with as many heads in each layer, and as near in output norm and the like as may be
HeadSets           what that gives: the sets, and how many exist
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import comb, prod

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError
from mechinterp.given import pairs, real_number, real_numbers, seeded, whole_number
from mechinterp.intervene import Head


def attending_heads(mass: Tensor, *, above: float, at_most: int) -> list[Head]:
    """Heads (layer, head) with mean mass above a threshold, the most attending first, `at_most` of them.

    Args:
        mass: (n, layers, n_heads), attention mass of each sequence.
    """
    above, at_most = (
        real_number(above, "attending_heads: above"),
        whole_number(at_most, "attending_heads: at_most", least=0),
    )
    given = real_numbers(mass, "attending_heads: mass", finite=False).detach()
    if given.ndim != 3:
        raise MechinterpError(f"attending_heads: expected mass (n, layers, n_heads), got shape {tuple(given.shape)}")
    mean = given.double().mean(0)
    if not mean.isfinite().all():
        raise MechinterpError("attending_heads: the attention mass is not finite, or there are no sequences")
    order = mean.flatten().argsort(descending=True).tolist()
    chosen = [divmod(i, mean.shape[1]) for i in order if mean.flatten()[i] > above]
    return [(int(layer), int(head)) for layer, head in chosen[:at_most]]


@dataclass(frozen=True)
class HeadSets:
    """Distinct sets of heads to compare with, and how many such sets exist (more than are here, as a rule)."""

    sets: tuple[tuple[Head, ...], ...]
    distinct: int


def matched_head_sets(
    heads: Sequence[Head],
    sizes: Tensor,
    *,
    draws: int,
    seed: int,
    exclude: Collection[Head] = (),
    nearest: int = 4,
) -> HeadSets:
    """Distinct random sets of other heads, each with as many heads in each layer as `heads`.

    Within a layer every chosen head is replaced by one of its nearest in size: of twice as many as the layer gives
    up, at least `nearest`. A layer with too few other heads for its chosen ones gives what it has; the sets then hold
    fewer heads, which `len` of a set tells. Fewer than `draws` sets come back where fewer exist. The first sets are
    the same whatever `draws` is.

    Args:
        sizes: (layers, n_heads), such as the norm of what each head writes, or several such numbers of each head,
            (layers, n_heads, m), whose logarithms' differences are added up.
        exclude: heads that are in no set, such as all that what `heads` were chosen by would choose.
        nearest: of few heads only few sets exist that are near in size; more candidates a layer make more sets.

    Raises:
        MechinterpError: no heads, sizes that are not finite, or no other head in their layers.
    """
    what = "matched_head_sets"
    heads, draws = pairs(heads, f"{what}: heads"), whole_number(draws, f"{what}: draws", least=1)
    nearest = whole_number(nearest, f"{what}: nearest", least=1)
    sizes = real_numbers(sizes, f"{what}: sizes", finite=False).detach().cpu().double()
    if not heads:
        raise MechinterpError(f"{what}: no heads were given")
    if sizes.ndim not in (2, 3) or not sizes.isfinite().all() or (sizes < 0).any():
        raise MechinterpError(
            f"{what}: the sizes are not finite numbers of 0 or more (layers, n_heads[, m]), so no head can be matched "
            f"by them; got shape {tuple(sizes.shape)}"
        )
    for layer, head in heads:
        if not (0 <= layer < sizes.shape[0] and 0 <= head < sizes.shape[1]):
            raise MechinterpError(f"{what}: head {head} of layer {layer}, but the sizes are {tuple(sizes.shape)}")
    per_head = sizes if sizes.ndim == 3 else sizes[..., None]  # (layers, n_heads, m)
    smallest = (1e-6 * per_head.amax(dim=(0, 1))).clamp(min=1e-30)
    logs = torch.maximum(per_head, smallest).log()  # of a head that writes nothing too
    rng = seeded(seed, what)
    taken = {*heads, *pairs(exclude, f"{what}: exclude")}
    pools: list[tuple[int, list[int], int]] = []  # layer, candidates, how many to draw
    for layer in sorted({layer for layer, _ in heads}):
        chosen = [head for at, head in heads if at == layer]
        free = [head for head in range(per_head.shape[1]) if (layer, head) not in taken]
        mean = logs[layer, chosen].mean(0)
        free.sort(key=lambda head: float((logs[layer, head] - mean).abs().sum()))
        pools.append((layer, free[: max(nearest, 2 * len(chosen))], min(len(chosen), len(free))))
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
    return HeadSets(tuple(found), possible)
