"""Heads under ablation: the selected ones, and hundreds of matched sets, on pairs of the test half.

HeadsOff   V and what the success value vectors write, under every kind of ablation
Sides      what was measured on the right and on the wrong attempts of pairs

Every row is run once and read by all claims; sets of a null are run as far as they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.bars import ATTENDS
from claims.measured.observations import Observations
from claims.measured.once import once
from claims.measured.pair_runs import PairRuns
from claims.measured.remarks import Remarks
from claims.measured.value_vectors import ValueVectors
from mechinterp import Head, Store, Subject
from mechinterp.nulls import MOST

MOST_HEADS = 1 / 16
"""At most this share of all heads is ablated; published: 29 or 33 of 576."""


@dataclass(frozen=True, eq=False)
class Sides:
    """(problems, 2) each: V, and what the success value vectors write along the probe."""

    right: np.ndarray
    wrong: np.ndarray


@dataclass(eq=False)
class HeadsOff:
    """The heads that attend from the result to the target, and what happens without them."""

    subject: Subject
    observed: Observations
    remarks: Remarks
    values: ValueVectors
    seed: int
    store: Store | None
    swept: dict[tuple[str, str, str], list[np.ndarray]] = field(default_factory=dict, repr=False)
    sides: dict[tuple[str, str, tuple[Head, ...]], Sides] = field(default_factory=dict, repr=False)
    sets: dict[tuple[str, str], mi.HeadSets] = field(default_factory=dict, repr=False)
    given: tuple[Head, ...] = ()  # in place of those that attend, such as those that were chosen on another model

    @once
    def mass(self) -> Tensor:
        """(layers, n_heads): mean attention from the result of right attempts to the target (fit half)."""
        return self.observed.to_target[self.observed.rows(self.observed.fit, "correct")].mean(0)

    @once
    def selected(self) -> list[Head]:
        """The heads that attend to the target, the most attending first."""
        return list(self.given) or self.choose(self.mass)

    def choose(self, mass: Tensor) -> list[Head]:
        """The same of other masses (layers, n_heads)."""
        most = max(1, int(mass.numel() * MOST_HEADS))
        return mi.attending_heads(mass[None], above=ATTENDS, at_most=most)

    @property
    def attending(self) -> set[Head]:
        """All heads above the threshold: none of them is in a null."""
        return {(int(layer), int(head)) for layer, head in (self.mass > ATTENDS).nonzero()}

    def require(self) -> None:
        """Raise PreconditionUnmet unless there are heads to turn off."""
        if not self.selected:
            raise mi.PreconditionUnmet(f"no head attends to the target with more than {ATTENDS} of its attention")

    @once
    def runs(self) -> PairRuns:
        """Pairs of the test half; read are V, and what the success value vectors write along the probe."""
        return PairRuns(self.subject, self.observed, self.observed.test, self.metric, self.store)

    @once
    def written(self) -> Tensor:
        """(layers, n_heads): norm of what each head writes at the result of right attempts."""
        return self.runs.sizes("target_edited", "zero")[..., 0]

    def circuit_only(self, name: str) -> np.ndarray:
        """(problems, 2) of right attempts in which all heads but the selected ones are those of the wrong ones."""
        one = mi.circuit_only(self.subject, self.selected, self.runs.outputs(name, "wrong"))
        return self.runs.run(name, "right", [one], f"{name}, circuit only")[0]

    def null_sets(self, name: str, kind: str) -> mi.HeadSets:
        """Sets matched by layer, output norm and size of the change."""
        if (name, kind) not in self.sets:
            self.sets[name, kind] = mi.matched_head_sets(
                self.selected, self.runs.sizes(name, kind), draws=MOST, seed=self.seed, exclude=self.attending
            )
        return self.sets[name, kind]

    @once
    def metric(self) -> mi.Metric:
        """(rows, 2): V, and what the success value vectors write along the probe."""
        v, written = self.remarks.metric(), self.values.metric

        def of(read: mi.Readout) -> Tensor:
            return torch.stack([v.of(read).cpu(), written.of(read).double().cpu()], dim=1)

        return mi.Metric(of, neurons=written.neurons, name=f"{v.name}; {written.name}")

    def clean(self, name: str) -> Sides:
        """Without an edit."""
        return self.ablated(name, "nothing", ())

    def ablated(self, name: str, kind: str, heads: Sequence[Head] | None = None) -> Sides:
        """Under the ablation of some heads, by default the selected ones."""
        chosen = tuple(self.selected if heads is None else heads)
        if (name, kind, chosen) not in self.sides:
            found = []
            for side in ("right", "wrong"):
                one = mi.AblateHeads(chosen, self.runs.replacements(name, kind, side)) if chosen else None
                found.append(self.runs.run(name, side, [one], f"{name}, {kind}")[0])
            self.sides[name, kind, chosen] = Sides(*found)
        return self.sides[name, kind, chosen]

    def null(self, name: str, kind: str, side: str, numbers: range) -> np.ndarray:
        """(draws, problems, 2) under these draws of the null, on one side of the pairs."""
        made = self.swept.setdefault((name, kind, side), [])
        missing = self.null_sets(name, kind).sets[len(made) : numbers.stop]
        if missing:
            new = self.runs.replacements(name, kind, side)
            label = f"{name}, {kind}: matched sets to {numbers.stop}"
            made += list(self.runs.run(name, side, [mi.AblateHeads(one, new) for one in missing], label))
        return np.stack(made[numbers.start : numbers.stop])

    def draws(self, name: str, kind: str, side: str, statistic: Callable[[np.ndarray], float]) -> mi.Draws:
        """Draws of a claim's null: `statistic` maps (problems, 2) under one set to the effect."""
        sets = self.null_sets(name, kind)
        return mi.Draws(
            lambda numbers: [statistic(one) for one in self.null(name, kind, side, numbers)],
            count=len(sets.sets),
            distinct=sets.distinct,
        )
