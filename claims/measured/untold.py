"""Attempts of which no one can say whether they are right: no target was stated. The neutral ones of three classes.

Opposites   directions of right and of wrong, each against the neutral ones, fitted apart
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from claims.measured.at_sites import residual_streams
from claims.measured.once import once
from fixtures.task.sites import site
from fixtures.task.transcript import untold
from mechinterp import fit_probes

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory

CLASSES = ("right", "wrong", "neutral")


@dataclass(eq=False)
class Opposites:
    """Of each problem of the test half the same text three times: with its target, with another one, with none.

    Even problems (in their order) tell right from neutral, odd ones wrong from neutral: no attempt is in both fits.
    """

    lab: Laboratory
    site: str

    @once
    def residual(self) -> Tensor:
        """(problems, 3 classes, layers, d_model)."""
        observed = self.lab.observed
        told = [observed.rows(observed.test, kind) for kind in ("correct", "target_edited")]
        sited = [site(self.lab.subject.tokenizer, untold(observed.sited[i].transcript)) for i in told[0]]

        def make() -> dict[str, Tensor]:
            return residual_streams(self.lab.subject, sited, progress="no target")

        neutral = self.lab.kept(("no target", [one.input_ids for one in sited]), make)[self.site]
        return torch.stack([*(observed.residual[self.site][rows] for rows in told), neutral], dim=1)

    def opposition(self, layer: int, times: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
        """(r,): -cosine of the two directions, problems counting `times` (r, problems).

        Args:
            classes: (r, problems, 3), which class each of a problem's texts is taken for; by default its own.
        """
        x = self.residual[:, :, layer].float()
        n = len(x)
        own = np.broadcast_to(np.arange(len(CLASSES)), (len(times), n, len(CLASSES)))
        taken = torch.from_numpy(np.ascontiguousarray(own if classes is None else classes))
        found = []
        for kind, first in ((0, 0), (1, 1)):  # right from even problems, wrong from odd ones
            part = x[first::2].flatten(0, 1)[:, None]  # (texts, 1 layer, d_model)
            mine = taken[:, first::2].flatten(1)
            count = torch.from_numpy(times[:, first::2]).repeat_interleave(len(CLASSES), dim=1)
            weights = count.double() * ((mine == kind) | (mine == CLASSES.index("neutral")))
            found.append(fit_probes(part, mine == kind, weights=weights).directions[:, 0])
        right, wrong = found
        opposite: np.ndarray = -cosine_similarity(right, wrong, dim=-1).double().numpy()
        return opposite

    def effect(self, layer: int) -> float:
        return float(self.opposition(layer, np.ones((1, len(self.residual)), dtype=int))[0])

    def resampled(self, layer: int, problems: np.ndarray) -> np.ndarray:
        """(r,) for resamples (r, problems), drawn anew within the even and within the odd problems."""
        n = len(self.residual)
        return self.opposition(layer, np.stack([_within(one, n) for one in problems]))

    def split_at_random(self, layer: int, draws: range) -> np.ndarray:
        """(draws,): each problem's three texts take the three classes at random."""
        n = len(self.residual)
        rngs = [np.random.default_rng([self.lab.seed, draw, 23]) for draw in draws]
        classes = np.stack([rng.permuted(np.tile(np.arange(len(CLASSES)), (n, 1)), axis=1) for rng in rngs])
        return self.opposition(layer, np.ones((len(draws), n), dtype=int), classes)

    def lengths(self, layer: int) -> dict[str, float]:
        """How far the mean of each class lies from that of the neutral ones."""
        right, wrong, neutral = self.residual[:, :, layer].double().mean(0)
        return {"right": float((right - neutral).norm()), "wrong": float((wrong - neutral).norm())}


def _within(problems: np.ndarray, n: int) -> np.ndarray:
    """How often each problem counts: a problem that was drawn stands for the one of its parity in the same place."""
    place = np.arange(n)
    drawn = problems - (problems - place) % 2
    return np.bincount(np.where(drawn < 0, drawn + 2, drawn), minlength=n)
