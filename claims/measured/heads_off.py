"""Heads under ablation: the selected ones, and hundreds of matched sets, on pairs of the test half.

HeadsOff   V and what the success value vectors write, under every kind of ablation
Sides      what was measured on the right and on the wrong attempts of pairs

Kinds are those of `bars.KINDS`, and as a control "same_class": the outputs in the next problem's attempt of the same
class.

Heads are replaced from the first digit of the result to the ` (`. Every row is run once and read by all claims; sets
of a null are run as far as they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.bars import ATTENDS, PAIRS, SWEEP_PAIRS
from claims.measured.observations import Observations
from claims.measured.once import kept, once
from claims.measured.remarks import Remarks
from claims.measured.value_vectors import ValueVectors
from fixtures.task.sites import Sited
from mechinterp import Head, Store, Subject
from mechinterp.nulls import MOST

MOST_HEADS = 1 / 16
"""At most this share of all heads is ablated; published: 29 or 33 of 576."""
MEANS_OF = 16
"""Attempts that the mean outputs are taken over."""


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
    captured: dict[tuple[str, str], dict[int, Tensor]] = field(default_factory=dict, repr=False)

    @once
    def mass(self) -> Tensor:
        """(layers, n_heads): mean attention from the result of right attempts to the target (fit half)."""
        return self.observed.to_target[self.observed.rows(self.observed.fit, "correct")].mean(0)

    @once
    def selected(self) -> list[Head]:
        """The heads that attend to the target, the most attending first."""
        anatomy = self.subject.anatomy
        most = max(1, int(anatomy.n_layers * anatomy.n_heads * MOST_HEADS))
        return mi.attending_heads(self.mass[None], above=ATTENDS, at_most=most)

    @property
    def attending(self) -> set[Head]:
        """All heads above the threshold: none of them is in a null."""
        return {(int(layer), int(head)) for layer, head in (self.mass > ATTENDS).nonzero()}

    def require(self) -> None:
        """Raise PreconditionUnmet unless there are heads to turn off."""
        if not self.selected:
            raise mi.PreconditionUnmet(f"no head attends to the target with more than {ATTENDS} of its attention")

    def pairs(self, name: str) -> tuple[list[Sited], list[Sited]]:
        """Right and wrong attempts of the test half, pair by pair, a problem each; wordings in turn."""
        observed = self.observed
        if name == "target_edited":
            rows = [observed.rows(observed.test, kind) for kind in ("correct", "target_edited")]
        else:
            rows = [observed.rows(observed.test, "role_swapped", right=side, single=True) for side in (True, False)]
        right, wrong = ([observed.sited[i] for i in side[:SWEEP_PAIRS]] for side in rows)
        return right, wrong

    @once
    def prepared(self) -> dict[tuple[str, str], mi.Prepared]:
        """By pairs and side: prompts whose clean pass all sweeps share."""
        found = {}
        for name in PAIRS:
            for side, sited in zip(("right", "wrong"), self.pairs(name), strict=True):
                scope = mi.at(_result(sited))
                found[name, side] = mi.prepare(self.subject, [one.input_ids for one in sited], scope=scope)
        return found

    def outputs(self, name: str, side: str) -> dict[int, Tensor]:
        """What every head reads out at the edited places of a side of pairs, by layer (problems, k, heads, d_head).

        A side is run when it is first asked for: each is a pass over its prompts.
        """
        if (name, side) not in self.captured:
            self.captured[name, side] = self._captured(self.pairs(name)[side == "wrong"])
        return self.captured[name, side]

    def _captured(self, sited: Sequence[Sited]) -> dict[int, Tensor]:
        prompts, places = [one.input_ids for one in sited], _result(sited)
        layers = range(self.subject.anatomy.n_layers)

        def make() -> dict[str, Tensor]:
            parts: dict[int, list[Tensor]] = {layer: [] for layer in layers}
            for first in range(0, len(prompts), MEANS_OF):
                chosen = slice(first, first + MEANS_OF)
                with mi.capture(self.subject, places[chosen], heads=layers) as seen:
                    mi.last_logits(self.subject, mi.pad(self.subject, prompts[chosen]))
                for layer, z in seen.heads.items():
                    parts[layer].append(z.cpu())
            return {str(layer): torch.cat(part) for layer, part in parts.items()}

        found = kept(self.store, ("heads at the result", prompts, places), make)
        return {int(layer): z for layer, z in found.items()}

    @once
    def means(self) -> dict[int, Tensor]:
        """By layer, the mean output of each head over right and wrong attempts of the fit half."""
        rows = self.observed.rows(self.observed.fit, "correct", "target_edited")[:MEANS_OF]
        return mi.mean_heads(self.subject, [self.observed.sited[i].input_ids for i in rows])

    def replacements(self, name: str, kind: str, side: str) -> Mapping[int, Tensor] | None:
        """What the heads' outputs are replaced by on one side of the pairs."""
        if kind == "zero":
            return None
        if kind == "mean":
            return self.means
        if kind == "resample":
            return self.outputs(name, "wrong" if side == "right" else "right")
        lengths = [len(places) for places in _places(self.pairs(name)[side == "wrong"])]
        other = [_next_alike(lengths, i) for i in range(len(lengths))]
        return {layer: z[other] for layer, z in self.outputs(name, side).items()}

    def sizes(self, name: str, kind: str) -> Tensor:
        """(layers, n_heads, 2): norm of what each head writes, and of what the ablation changes of it."""
        found = []
        for layer, z in self.outputs(name, "right").items():
            new = self.replacements(name, kind, "right")
            change = z if new is None else z - new[layer]
            written = [mi.head_outputs(self.subject, layer, x).norm(dim=-1).mean((0, 1)).cpu() for x in (z, change)]
            found.append(torch.stack(written, dim=-1))
        return torch.stack(found)

    @once
    def written(self) -> Tensor:
        """(layers, n_heads): norm of what each head writes at the result of right attempts."""
        return self.sizes("target_edited", "zero")[..., 0]

    def circuit_only(self, name: str) -> np.ndarray:
        """(problems, 2) of right attempts in which all heads but the selected ones are those of the wrong ones."""
        anatomy = self.subject.anatomy
        everything = [(layer, head) for layer in range(anatomy.n_layers) for head in range(anatomy.n_heads)]
        rest = sorted(set(everything) - set(self.selected))
        one = mi.AblateHeads(rest, self.replacements(name, "resample", "right"))
        return self.run(name, "right", [one], f"{name}, circuit only")[0]

    def null_sets(self, name: str, kind: str) -> mi.HeadSets:
        """Sets matched by layer, output norm and size of the change."""
        if (name, kind) not in self.sets:
            self.sets[name, kind] = mi.matched_head_sets(
                self.selected, self.sizes(name, kind), draws=MOST, seed=self.seed, exclude=self.attending
            )
        return self.sets[name, kind]

    def run(self, name: str, side: str, interventions: Sequence[mi.Intervention | None], label: str) -> np.ndarray:
        """(interventions, problems, 2)."""
        swept = self.prepared[name, side].run(interventions, self.metric, store=self.store, progress=label)
        return swept.transpose(0, 1).numpy()

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
                one = mi.AblateHeads(chosen, self.replacements(name, kind, side)) if chosen else None
                found.append(self.run(name, side, [one], f"{name}, {kind}")[0])
            self.sides[name, kind, chosen] = Sides(*found)
        return self.sides[name, kind, chosen]

    def null(self, name: str, kind: str, side: str, numbers: range) -> np.ndarray:
        """(draws, problems, 2) under these draws of the null, on one side of the pairs."""
        made = self.swept.setdefault((name, kind, side), [])
        missing = self.null_sets(name, kind).sets[len(made) : numbers.stop]
        if missing:
            new = self.replacements(name, kind, side)
            label = f"{name}, {kind}: matched sets to {numbers.stop}"
            made += list(self.run(name, side, [mi.AblateHeads(one, new) for one in missing], label))
        return np.stack(made[numbers.start : numbers.stop])

    def draws(self, name: str, kind: str, side: str, statistic: Callable[[np.ndarray], float]) -> mi.Draws:
        """Draws of a claim's null: `statistic` maps (problems, 2) under one set to the effect."""
        sets = self.null_sets(name, kind)
        return mi.Draws(
            lambda numbers: [statistic(one) for one in self.null(name, kind, side, numbers)],
            count=len(sets.sets),
            distinct=sets.distinct,
        )


def _places(sited: Sequence[Sited]) -> list[list[int]]:
    """The positions from the result's first digit to the ` (`."""
    return [[*range(one.result[0], len(one.input_ids))] for one in sited]


def _result(sited: Sequence[Sited]) -> list[list[int]]:
    """The same, padded with -1."""
    places = _places(sited)
    width = max(map(len, places))
    return [one + [-1] * (width - len(one)) for one in places]


def _next_alike(lengths: Sequence[int], i: int) -> int:
    """The next one, round the end, with as many places; itself where there is none."""
    return next(
        (j % len(lengths) for j in range(i + 1, i + len(lengths)) if lengths[j % len(lengths)] == lengths[i]), i
    )
