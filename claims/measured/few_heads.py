"""Attending heads in the order in which an answer needs them: ranked one by one on the fit half, turned off together on
the test half.

FewHeads    the order, what the first few of it carry, and other triples to compare them with
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

import mechinterp as mi
from claims.measured.bars import FEW, SWEEP_PAIRS
from claims.measured.heads_off import HeadsOff
from claims.measured.once import once
from claims.measured.pair_runs import PairRuns
from mechinterp import Head
from mechinterp.nulls import MOST

NEAREST_HEADS = 12
"""Heads of a layer that a null is drawn from: of three heads more than a hundred sets."""
RANDOM_ORDERS = 20
TRIPLES = 20
"""Sets that a rival is the mean of."""
RANKED_ON = SWEEP_PAIRS // 2


@dataclass(eq=False)
class FewHeads:
    """By pairs and kind of replacement, see `bars`."""

    off: HeadsOff
    ranks: dict[tuple[str, str], list[Head]] = field(default_factory=dict, repr=False)
    sets: dict[tuple[str, str], mi.HeadSets] = field(default_factory=dict, repr=False)
    alone: dict[tuple[str, str], Tensor] = field(default_factory=dict, repr=False)

    @once
    def fit(self) -> PairRuns:
        """Pairs of the fit half; V is read."""
        off = self.off
        return PairRuns(off.subject, off.observed, off.observed.fit, off.remarks.metric(), off.store, most=RANKED_ON)

    def necessity(self, name: str, kind: str) -> Tensor:
        """(layers, n_heads): what right attempts of the fit half lose of their mean V without each head alone, nats."""
        if (name, kind) not in self.alone:
            self.alone[name, kind] = mi.single_heads(
                self.fit.prepared[name, "right"],
                self.fit.metric,
                values=self.fit.replacements(name, kind, "right"),
                store=self.off.store,
                progress=f"{name}, {kind}: every head alone",
            ).necessity()
        return self.alone[name, kind]

    def ranked(self, name: str, kind: str) -> list[Head]:
        """The heads that attend to the target, the most needed first."""
        lost = self.necessity(name, kind)
        return sorted(self.off.attending, key=lambda head: (-float(lost[head]), head))

    def require(self) -> None:
        """Raise PreconditionUnmet unless more heads attend than a few."""
        if len(self.off.attending) <= FEW:
            raise mi.PreconditionUnmet(
                f"{len(self.off.attending)} heads attend to the target; only of more than {FEW} can {FEW} be few"
            )

    def lost(self, name: str, kind: str, sets: Sequence[Sequence[Head]], label: str) -> np.ndarray:
        """(sets, problems): what V of right attempts of the test half loses without each set, nats."""
        runs = self.off.runs
        new = runs.replacements(name, kind, "right")
        off = runs.run(name, "right", [mi.AblateHeads(one, new) for one in sets], f"{name}, {kind}: {label}")[..., 0]
        return self.off.clean(name).right[:, 0] - off

    def carried(self, name: str, heads: Sequence[Head]) -> float:
        """Share of the gap that right attempts of the test half lose with these heads zeroed."""
        clean = self.off.clean(name)
        gap = float((clean.right - clean.wrong)[:, 0].mean())
        return float(self.lost(name, "zero", [heads], "others" if heads else "none").mean()) / gap

    def instead(self, name: str) -> list[Head]:
        """As many heads of the selected ones' layers that do not attend, those needed most alone."""
        lost, chosen = self.necessity(name, "zero"), self.off.selected
        layers = {layer for layer, _ in chosen}
        free = [head for head in mi.other_heads(self.off.subject, self.off.attending) if head[0] in layers]
        return sorted(free, key=lambda head: (-float(lost[head]), head))[: len(chosen)]

    def null_sets(self, name: str, kind: str) -> mi.HeadSets:
        """As many heads of the same layers as the first few, matched by norm and size of the change."""
        if (name, kind) not in self.sets:
            few = self.ranked(name, kind)[:FEW]
            self.sets[name, kind] = mi.matched_head_sets(
                few,
                self.off.runs.sizes(name, kind),
                draws=MOST,
                seed=self.off.seed,
                exclude=self.off.attending,
                nearest=NEAREST_HEADS,
            )
        return self.sets[name, kind]

    def rivals(self, name: str, kind: str) -> dict[str, list[tuple[Head, ...]]]:
        """Other sets of as many heads, by what they have in common with the first few, where there are such."""
        few, rng = self.ranked(name, kind)[:FEW], np.random.default_rng([self.off.seed, 17])
        attending = self.ranked(name, kind)[FEW:]
        anatomy = self.off.subject.anatomy
        size = anatomy.n_heads // anatomy.n_kv_heads
        groups = [
            [(layer, head) for head in range(first, first + size) if (layer, head) not in few]
            for layer in sorted({layer for layer, _ in few})
            for first in range(0, anatomy.n_heads, size)
        ]
        found = {"that attend to the target": _drawn([attending], rng), "of one key-value group": _drawn(groups, rng)}
        return {what: sets for what, sets in found.items() if sets}

    def curve(self, name: str, kind: str) -> tuple[list[int], np.ndarray, np.ndarray]:
        """Counts of heads up to all that attend; what V loses without the first so many of them, (counts, problems),
        and without as many random heads that do not attend, (orders, counts, problems).
        """
        order, rng = self.ranked(name, kind), np.random.default_rng([self.off.seed, 19])
        others = mi.other_heads(self.off.subject, order)
        counts = head_counts(min(len(order), len(others)))
        orders = [order, *([others[i] for i in rng.permutation(len(others))] for _ in range(RANDOM_ORDERS))]
        sets = [one[:count] for one in orders for count in counts]
        lost = self.lost(name, kind, sets, "curve").reshape(len(orders), len(counts), -1)
        return counts, lost[0], lost[1:]


def head_counts(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, ... and all."""
    powers = [2**n for n in range(most.bit_length())]
    return sorted({count for power in powers for count in (power, 3 * power // 2) if count <= most} | {most})


def _drawn(pools: Sequence[Sequence[Head]], rng: np.random.Generator) -> list[tuple[Head, ...]]:
    """Distinct sets, each of one of the pools that have enough."""
    pools = [pool for pool in pools if len(pool) >= FEW]
    found: dict[tuple[Head, ...], None] = {}
    for _ in range(10 * TRIPLES if pools else 0):
        pool = pools[rng.integers(len(pools))]
        found[tuple(sorted(pool[i] for i in rng.choice(len(pool), FEW, replace=False)))] = None
        if len(found) == TRIPLES:
            break
    return list(found)
