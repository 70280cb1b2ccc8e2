"""Value vectors zeroed at the last position.

zeroed        those that are, by what they are near to
NeuronsOff    the success words that a layer shows after right attempts, and V, under every set that is zeroed
DoseCurve     what is lost by how many are zeroed
v_without     V of pairs under interventions at the last position
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.bars import SWEEP_PAIRS, VECTORS, ZEROED
from claims.measured.once import once

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory


DOSES = (0.25, 0.5, 1, 2, 4)
"""Of the published share of a layer."""
DOSE = "dose, of the published share of a layer"
BAND = 20
"""Matched sets at each dose."""


@dataclass(frozen=True)
class DoseCurve:
    """By dose, named curves, and the band of matched sets beside those of one choice of vectors."""

    series: dict[str, list[float]]
    bands: dict[str, list[mi.Interval]]


def zeroed(lab: Laboratory, vectors: str, share: float = ZEROED) -> list[mi.Neuron]:
    """As published, so many of each layer of the second half: "valid" ones, or "valid+invalid"."""
    toward = lab.values.nearest_of_each_layer(1, share)
    return toward if vectors == "valid" else [*dict.fromkeys([*toward, *lab.values.nearest_of_each_layer(-1, share)])]


def matched_sets(lab: Laboratory, neurons: Sequence[mi.Neuron], draws: int) -> list[list[mi.Neuron]]:
    """As many neurons of the same layers, as active as these and writing as much."""
    matches = lab.values.matched(neurons, pool=10 * max(1, len(neurons) // len(lab.values.second_half)))
    return mi.draw_matched(matches, draws=draws, seed=lab.seed)


def v_without(
    lab: Laboratory, pairs: str, side: str, interventions: Sequence[mi.Intervention | None], label: str
) -> np.ndarray:
    """(interventions, problems): V of one side of the pairs of the test half, edited at the last position only."""
    prepared = lab.heads.runs.prepared[pairs, side]
    metric, label = lab.remarks.metric(), f"{pairs}, {label}"
    return prepared.run(interventions, metric, scope=mi.last, store=lab.store, progress=label).T.numpy()


@dataclass(eq=False)
class NeuronsOff:
    """Right attempts of the test half; what is read is the success words' probability in `layer`, and V."""

    lab: Laboratory
    layer: int

    def run(self, sets: Sequence[Sequence[mi.Neuron] | None]) -> np.ndarray:
        """(sets, attempts, 2); None zeroes nothing."""
        ablations = [None if one is None else mi.AblateNeurons(one) for one in sets]
        swept = self.prepared.run(ablations, self.metric, store=self.lab.store, progress="value vectors")
        return swept.transpose(0, 1).numpy()

    def doses(self, vectors: str, gap: float) -> DoseCurve:
        """How much of the words, and of V as a share of the gap, is lost with the dose; the band matches `vectors`."""
        sets = [zeroed(self.lab, one, dose * ZEROED) for one in VECTORS for dose in DOSES]
        clean, *off = self.run([None, *sets])
        left = np.stack(off).mean(1).reshape(len(VECTORS), len(DOSES), 2)
        before = clean.mean(0)
        drop, v_lost = 1 - left[..., 0] / before[0], (before[1] - left[..., 1]) / gap
        series = {DOSE: [float(dose) for dose in DOSES]}
        series |= {f"words lost, {one}": part.tolist() for one, part in zip(VECTORS, drop, strict=True)}
        series |= {f"V lost, {one}": part.tolist() for one, part in zip(VECTORS, v_lost, strict=True)}
        mine = [zeroed(self.lab, vectors, dose * ZEROED) for dose in DOSES]
        random = self.run([other for one in mine for other in matched_sets(self.lab, one, BAND)])[..., 0].mean(1)
        lost = 1 - random.reshape(len(DOSES), BAND) / before[0]
        band = [(float(low), float(high)) for low, high in np.percentile(lost, [2.5, 97.5], axis=1).T]
        return DoseCurve(series, {f"words lost, {vectors}": band})

    @once
    def prepared(self) -> mi.Prepared:
        observed = self.lab.observed
        rows = observed.rows(observed.test, "correct")[:SWEEP_PAIRS]
        return mi.prepare(self.lab.subject, [observed.sited[i].input_ids for i in rows], scope=mi.last)

    @once
    def metric(self) -> mi.Metric:
        lab, words, v = self.lab, list(self.lab.naming.words("success")), self.lab.remarks.metric()

        def of(read: mi.Readout) -> Tensor:
            shown = mi.lens_probability(lab.subject, read.residual[self.layer], [words])[:, 0]
            return torch.stack([shown.double(), v.of(read).cpu()], dim=1)

        return mi.Metric(of, residual=(self.layer,), name=f"lens of {words} in layer {self.layer}; {v.name}")
