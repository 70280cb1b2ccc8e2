"""Verification weights beside those of a reference: how far they moved, and what the reference's do in their place.

MovedWeights   of the heads that attend to the target, or of the value vectors near the probe
require_two    refuses a subject as its own reference
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.bars import LITTLE_MOVED
from claims.measured.once import once
from mechinterp import Head, MechinterpError
from mechinterp.nulls import MOST

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory

PARTS = {"heads": ("query", "key", "value", "output"), "value_vectors": ("value vector",)}
BESIDE = {
    "heads": ("attention norm", "query bias", "key bias", "value bias"),
    "value_vectors": ("mlp norm",),
}
FURTHEST = 10.0
"""A distance that is as good as infinite: where the reference has nothing but zeros."""


def require_two(lab: Laboratory, reference: Laboratory) -> None:
    """Raise PreconditionUnmet where the subject is compared with itself."""
    if lab.subject.model is reference.subject.model:
        raise mi.PreconditionUnmet("the reference is the subject itself; name the checkpoint that it was trained from")


@dataclass(eq=False)
class MovedWeights:
    """One kind of components: "heads" or "value_vectors"."""

    lab: Laboratory
    reference: Laboratory
    kind: str

    @once
    def changes(self) -> list[mi.WeightChanges]:
        """Of each part of the kind. Raises PreconditionUnmet where the weights do not correspond."""
        require_two(self.lab, self.reference)
        try:
            return [mi.weight_changes(self.lab.subject, self.reference.subject, part) for part in PARTS[self.kind]]
        except MechinterpError as error:
            raise mi.PreconditionUnmet(str(error)) from None

    @once
    def distance(self) -> Tensor:
        """(layers, units, parts): a head has the keys and values of its group."""
        every = [one.distance.repeat_interleave(one.heads_a_unit, 1) for one in self.changes]
        return torch.stack(every, dim=-1).clamp(max=FURTHEST)

    @once
    def components(self) -> list[tuple[int, int]]:
        """Chosen on the fit half of the subject: its heads, or as published so many value vectors of each layer."""
        if self.kind == "heads":
            self.lab.heads.require()
            return list(self.lab.heads.selected)
        self.lab.require_probe()
        values = self.lab.values
        return [*dict.fromkeys([*values.nearest_of_each_layer(1), *values.nearest_of_each_layer(-1)])]

    def of(self, components: Sequence[Head]) -> np.ndarray:
        """(components * parts,), distances."""
        layers, units = zip(*components, strict=True)
        return self.distance[list(layers), list(units)].flatten().double().numpy()

    def require_moved(self) -> None:
        """Raise PreconditionUnmet where training has moved nothing of the kind by much: nothing stands out as kept."""
        median = float(self.distance.median())
        if not median > LITTLE_MOVED:
            raise mi.PreconditionUnmet(
                f"little has moved anywhere: the median of all {self.kind.replace('_', ' ')} by {median:.2g} of its "
                f"norm, more than {LITTLE_MOVED} is needed for any of them to stand out"
            )

    def null(self) -> mi.Draws:
        """1 - distance of other components of the same layers, matched by what they write."""
        if self.kind == "heads":
            off = self.lab.heads
            found = mi.matched_head_sets(
                self.components, off.written, draws=MOST, seed=self.lab.seed, exclude=off.attending
            )
            sets: Sequence[Any] = found.sets
            distinct: int | None = found.distinct
        else:
            pool = 10 * max(1, len(self.components) // len(self.lab.values.second_half))
            matches = self.lab.values.matched(self.components, pool=pool)
            sets, distinct = mi.draw_matched(matches, draws=MOST, seed=self.lab.seed), None
        same = [1 - float(self.of(one).mean()) for one in sets]
        return mi.Draws(lambda numbers: same[numbers.start : numbers.stop], len(same), distinct)

    def percentiles(self) -> list[float]:
        """Of each part, the mean percentile of the components among all of the model: 0 moved least."""
        return [float(one.percentile(self.components).mean()) for one in self.changes]

    def beside(self) -> dict[str, float]:
        """Of gains and biases, which are no part of the distance, the furthest moved in these components' layers."""
        found, layers = {}, sorted({layer for layer, _ in self.components})
        for kind in BESIDE[self.kind]:
            with suppress(MechinterpError):  # a model without that bias
                changes = mi.weight_changes(self.lab.subject, self.reference.subject, kind)
                found[kind] = float(changes.distance[layers].clamp(max=FURTHEST).max())
        return found

    def kept(self, pairs: str) -> tuple[np.ndarray, np.ndarray]:
        """(problems,) each: the gap with the reference's weights in these components, and without them."""
        off, reference = self.lab.heads, self.reference.subject
        one = (mi.TransplantHeads if self.kind == "heads" else mi.TransplantValues)(reference, self.components)
        clean = off.clean(pairs)
        right, wrong = (
            off.runs.run(pairs, side, [one], f"{pairs}, transplant")[0][:, 0] for side in ("right", "wrong")
        )
        return right - wrong, (clean.right - clean.wrong)[:, 0]

    def cosines(self, components: Sequence[Head]) -> np.ndarray:
        """(components * parts,)."""
        layers, units = zip(*components, strict=True)
        every = [one.cosine.repeat_interleave(one.heads_a_unit, 1) for one in self.changes]
        return torch.stack(every, dim=-1)[list(layers), list(units)].flatten().double().numpy()

    def norm_ratio(self, components: Sequence[Head]) -> float:
        """Mean length of the subject's weights as a share of the reference's."""
        layers, units = zip(*components, strict=True)
        ratios = [
            (one.norm / one.reference_norm.clamp(min=1e-12)).repeat_interleave(one.heads_a_unit, 1)
            for one in self.changes
        ]
        return float(torch.stack(ratios, dim=-1)[list(layers), list(units)].mean())
