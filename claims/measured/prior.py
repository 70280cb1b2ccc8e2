"""Right and wrong texts whose answer is not in the context, with the heads that attend to the target on and off.

Prior    V of both sides of a task's pairs under ablations, and what the probe reads there
TASKS    how the texts of each task are made
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.at_sites import residual_at
from claims.measured.bars import SWEEP_PAIRS
from claims.measured.heads_off import HeadsOff
from claims.measured.once import kept, once
from claims.measured.probing import Probing
from fixtures.task.prior import Judged, judged_attempts, judged_sums
from fixtures.task.sites import result_site
from mechinterp import Head

TASKS: dict[str, Callable[..., list[Judged]]] = {"sums": judged_sums, "twice": judged_attempts}


@dataclass(eq=False)
class Prior:
    """SWEEP_PAIRS pairs of one task."""

    task: str
    off: HeadsOff
    probing: Probing
    made: list[np.ndarray] = field(default_factory=list, repr=False)

    @once
    def texts(self) -> list[tuple[list[int], tuple[int, ...]]]:
        """Token ids and the places of the result; the right ones first, then the wrong ones, pair by pair."""
        texts = TASKS[self.task](SWEEP_PAIRS, seed=self.off.seed)
        ordered = [one for side in (True, False) for one in texts if one.is_right == side]
        return [result_site(self.off.subject.tokenizer, one.text, one.result) for one in ordered]

    @once
    def prepared(self) -> mi.Prepared:
        places = [list(range(result[0], len(ids))) for ids, result in self.texts]
        width = max(map(len, places))
        scope = mi.at([one + [-1] * (width - len(one)) for one in places])
        return mi.prepare(self.off.subject, [ids for ids, _ in self.texts], scope=scope)

    def v(self, sets: Sequence[Sequence[Head]]) -> np.ndarray:
        """(sets, 2, pairs): V of right and wrong texts with each set zeroed from the result on; of () nothing is."""
        ablations = [mi.AblateHeads(one) if one else None for one in sets]
        swept = self.prepared.run(
            ablations, self.off.remarks.metric(), store=self.off.store, progress=f"{self.task}: heads off"
        )
        return swept.T.reshape(len(sets), 2, -1).double().numpy()

    def null(self, sets: Sequence[Sequence[Head]], numbers: range) -> np.ndarray:
        """(draws, 2, pairs) of these sets, each run once."""
        if missing := sets[len(self.made) : numbers.stop]:
            self.made += list(self.v(missing))
        return np.stack(self.made[numbers.start : numbers.stop])

    @once
    def probe_accuracy(self) -> np.ndarray:
        """(layers,): balanced accuracy here of the probes at ` (` that were fitted with the answer in the context."""
        texts = [ids for ids, _ in self.texts]
        last = [[len(ids) - 1] for ids in texts]

        def make() -> dict[str, Tensor]:
            return {"residual": residual_at(self.off.subject, texts, last, progress=f"{self.task}: probe")[0]}

        residual = kept(self.off.store, ("prior, residual", texts), make)["residual"]
        labels = torch.arange(len(texts)) < len(texts) // 2
        return self.probing.fitted.correct(residual, labels).mean(0).numpy()
