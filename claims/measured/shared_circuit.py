"""Heads that were chosen on one model, turned off in another.

SharedCircuit         what the other model's heads do in one, beside its own
require_counterparts  refuses models whose heads do not correspond
same_within           the control that two effects are the same within a margin
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

import mechinterp as mi
from claims.measured.heads_off import HeadsOff
from claims.measured.moved_weights import MovedWeights, require_two
from claims.measured.once import once

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory

SWAPPED = "role_swapped"


def require_counterparts(lab: Laboratory, other: Laboratory) -> None:
    """Raise PreconditionUnmet unless each head of one model has a counterpart in the other."""
    require_two(lab, other)
    ours, theirs = ((one.subject.anatomy.n_layers, one.subject.anatomy.n_heads) for one in (lab, other))
    if ours != theirs:
        raise mi.PreconditionUnmet(
            f"{lab.subject.name} has {ours[0]} layers of {ours[1]} heads, {other.subject.name} {theirs[0]} of "
            f"{theirs[1]}: a head of one is none of the other"
        )


@dataclass(eq=False)
class SharedCircuit:
    """In `lab`, the heads that were chosen on `other`. Heads' outputs are exchanged for those of the pair's partner."""

    lab: Laboratory
    other: Laboratory

    def require(self) -> None:
        """Raise PreconditionUnmet unless both verify by role and have heads that attend to the target."""
        require_counterparts(self.lab, self.other)
        for one in (self.lab, self.other):
            try:
                one.ladder.require_by_role()
                one.heads.require()
            except mi.PreconditionUnmet as unmet:
                raise mi.PreconditionUnmet(f"{one.subject.name}: {unmet}") from None

    @once
    def off(self) -> HeadsOff:
        """The other's heads, turned off in this model."""
        own = self.lab.heads
        return replace(own, given=tuple(self.other.heads.selected), swept={}, sets={})

    def lost(self, off: HeadsOff, by: str = "resample") -> np.ndarray:
        """(problems,): what right attempts lose of V."""
        return (off.clean(SWAPPED).right - off.ablated(SWAPPED, by).right)[:, 0]

    @once
    def gap(self) -> np.ndarray:
        """(problems,)."""
        clean = self.lab.heads.clean(SWAPPED)
        return (clean.right - clean.wrong)[:, 0]

    def refit(self) -> np.ndarray:
        """(problems,): by how much the model's own heads take more of the gap than the other's, as a share of it."""
        return (self.lost(self.lab.heads) - self.lost(self.off)) / self.gap.mean()

    def rank_correlation(self) -> float:
        """Of the necessity of every head alone in both models."""
        alone = [one.few_heads.necessity(SWAPPED, "resample") for one in (self.lab, self.other)]
        return mi.rank_correlation(*alone)

    def moved(self) -> dict[str, float] | str:
        """How far the heads' weights lie apart: where they hardly do, the circuit is shared by descent."""
        moved = MovedWeights(self.lab, self.other, "heads")
        try:
            distance = moved.distance
        except mi.PreconditionUnmet as unmet:
            return str(unmet)
        mine = moved.of(self.other.heads.selected)
        return {"of these heads": float(mine.mean()), "median of all": float(distance.median())}


def same_within(difference: np.ndarray, margin: float, *, seed: int, name: str) -> mi.Control:
    """The mean of `difference`, (problems,), lies within `margin` of 0 with its whole interval: equivalence."""
    low, high = mi.mean_interval(difference, seed=seed)
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    furthest = max(abs(low), abs(high))
    return mi.Control(name, margin - abs(float(difference.mean())), (margin - furthest, margin - nearest))
