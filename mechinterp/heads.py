"""Choosing heads, and other heads to compare them with.

attending_heads    the heads whose mean attention mass exceeds a threshold
matched_head_sets  random sets with as many heads in each layer and output norms as near as may be
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, prod

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


def matched_head_sets(heads: Sequence[Head], norms: Tensor, *, draws: int, seed: int) -> list[list[Head]]:
    """Distinct random sets of other heads, each with as many heads in each layer as `heads`.

    Within a layer every chosen head is replaced by one of its nearest in output norm: of twice as many as the layer
    gives up, at least four. A layer with too few other heads for its chosen ones gives what it has; the sets then
    hold fewer heads, which `len` of a set tells. Fewer than `draws` sets come back where fewer exist.

    Args:
        norms: (layers, n_heads), the typical norm of what each head writes.
    """
    what = "matched_head_sets"
    heads, draws = pairs(heads, f"{what}: heads"), whole_number(draws, f"{what}: draws", least=1)
    norms = real_numbers(norms, f"{what}: norms", finite=False).detach().cpu().double()
    if not heads:
        raise MechinterpError(f"{what}: no heads were given")
    if norms.ndim != 2 or not norms.isfinite().all() or (norms < 0).any():
        raise MechinterpError(
            f"{what}: the norms are not finite numbers of 0 or more (layers, n_heads), so no head can be matched by "
            f"them; got shape {tuple(norms.shape)}"
        )
    for layer, head in heads:
        if not (0 <= layer < norms.shape[0] and 0 <= head < norms.shape[1]):
            raise MechinterpError(f"{what}: head {head} of layer {layer}, but the norms are {tuple(norms.shape)}")
    logs = norms.clamp(min=max(1e-6 * float(norms.max()), 1e-30)).log()  # of a head that writes nothing too
    rng = seeded(seed, what)
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
