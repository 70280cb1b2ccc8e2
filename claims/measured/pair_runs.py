"""Pairs of a right and a wrong attempt of one half, run under interventions from the result to the ` (`.

PairRuns    prompts whose clean pass is shared, and what heads may be replaced by

Heads are replaced from the first digit of the result to the ` (`. Kinds are those of `bars.KINDS`, and as a control
"same_class": the outputs in the next problem's attempt of the same class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.bars import PAIRS, SWEEP_PAIRS
from claims.measured.observations import Half, Observations
from claims.measured.once import kept, once
from fixtures.task.sites import Sited
from mechinterp import Store, Subject

MEANS_OF = 16
"""Attempts that the mean outputs are taken over."""


@dataclass(eq=False)
class PairRuns:
    """Attributes:
    half: whose pairs they are.
    metric: what is read after each row, one number or several.
    most: at most so many pairs, a problem each.
    """

    subject: Subject
    observed: Observations
    half: Half
    metric: mi.Metric
    store: Store | None
    most: int = SWEEP_PAIRS
    captured: dict[tuple[str, str], dict[int, Tensor]] = field(default_factory=dict, repr=False)

    def pairs(self, name: str) -> tuple[list[Sited], list[Sited]]:
        """Right and wrong attempts, pair by pair, a problem each; wordings in turn."""
        observed = self.observed
        if name == "target_edited":
            rows = [observed.rows(self.half, kind) for kind in ("correct", "target_edited")]
        else:
            rows = [observed.rows(self.half, "role_swapped", right=side, single=True) for side in (True, False)]
        right, wrong = ([observed.sited[i] for i in side[: self.most]] for side in rows)
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

    def run(self, name: str, side: str, interventions: Sequence[mi.Intervention | None], label: str) -> np.ndarray:
        """(interventions, problems), of a metric of m numbers (interventions, problems, m)."""
        swept = self.prepared[name, side].run(interventions, self.metric, store=self.store, progress=label)
        return swept.transpose(0, 1).numpy()


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
