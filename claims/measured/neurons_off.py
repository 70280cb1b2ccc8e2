"""Value vectors zeroed at the last position of right attempts.

NeuronsOff   the success words that a layer shows, and V, under every set that is zeroed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.bars import SWEEP_PAIRS
from claims.measured.once import once

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory


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
