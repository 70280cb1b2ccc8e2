"""Linear probes of the verdict at one site, fitted on the fit half.

Probing     probes of every layer; accuracy on the test half, kind by kind
fit_even    probes that give both classes, and every kind within them, the same weight

Right and wrong attempts of every kind are fitted on, role-swapped pairs included: if some direction reads the role,
it can be found. On the kinds that share a prompt a problem counts half by its right attempt and half by its wrong ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from claims.measured.bars import WRONG
from claims.measured.observations import Half, Observations
from claims.measured.once import once
from mechinterp import LinearProbe, fit_probes

FOLDS = 4


@dataclass(eq=False)
class Probing:
    """Probes at a site ("last_digit" or "open_paren")."""

    observed: Observations
    site: str
    seed: int

    @property
    def residual(self) -> Tensor:
        """(n, layers, d_model) of all attempts."""
        return self.observed.residual[self.site]

    @once
    def fitted(self) -> LinearProbe:
        """One probe a layer."""
        return self.fit(self.observed.rows(self.observed.fit))

    def fit(
        self, rows: np.ndarray, labels: Tensor | None = None, layers: Sequence[int] | slice = slice(None)
    ) -> LinearProbe:
        """Probes of these attempts; `labels` (..., n) by default the truth."""
        truth = torch.from_numpy(self.observed.right[rows])
        return fit_even(self.residual[rows][:, layers], truth if labels is None else labels, self.observed.kind[rows])

    @once
    def loss(self) -> np.ndarray:
        """(layers,): log loss on held-out problems of the fit half, both classes with the same weight."""
        observed, problems = self.observed, self.observed.fit.problems
        total = torch.zeros(self.residual.shape[1], dtype=torch.float64)
        for part in np.array_split(problems, min(FOLDS, len(problems))):
            held_out, rest = observed.rows(Half(part)), observed.rows(Half(np.setdiff1d(problems, part)))
            right = torch.from_numpy(observed.right[held_out])
            scores = self.fit(rest).scores(self.residual[held_out])  # (n, layers)
            weights = even_weights(right, observed.kind[held_out])
            signed = torch.where(right, -1.0, 1.0)[:, None] * scores
            total += (torch.nn.functional.softplus(signed) * weights[:, None]).sum(0)
        return total.numpy()

    @once
    def scores(self) -> np.ndarray:
        """(n, layers) of all attempts, in nats; above 0 reads "right"."""
        return self.fitted.scores(self.residual).numpy()

    def accuracy(self, scores: np.ndarray) -> np.ndarray:
        """Balanced accuracy by problem of the test half, (problems, ...), from scores (n, ...)."""
        return balanced(self.observed, scores > 0, self.observed.right)

    def role_swapped(self, scores: np.ndarray, wording: str | None = None) -> np.ndarray:
        """By problem of the test half, how many of its role-swapped pairs have the right text scored higher."""
        sides = [
            scores[self.observed.rows(self.observed.test, "role_swapped", right=side, wording=wording)]
            for side in (True, False)
        ]
        ahead = (sides[0] > sides[1]) + 0.5 * (sides[0] == sides[1])
        return ahead.reshape(len(self.observed.test), -1, *ahead.shape[1:]).mean(1)

    def against(self, scores: np.ndarray, *kinds: str) -> np.ndarray:
        """By problem of the test half, balanced accuracy against some kinds of wrong attempts only."""
        return balanced(self.observed, scores > 0, self.observed.right, kinds)

    def sharing(self, scores: np.ndarray, digit: str) -> tuple[np.ndarray, np.ndarray]:
        """Balanced accuracy against wrong attempts that share a digit ("tens" or "last") with the target.

        Returns:
            accuracy (problems with such an attempt, ...) and which problems of the test half these are.
        """
        observed = self.observed
        rows = observed.sharing(observed.test, digit)
        right = (scores > 0)[observed.rows(observed.test, "correct")]
        found, problems = [], []
        for number, problem in enumerate(observed.test.problems):
            chosen = rows[observed.problem[rows] == problem]
            if len(chosen):
                found.append(right[number] / 2 + (scores[chosen] <= 0).mean(0) / 2)
                problems.append(number)
        return np.array(found), np.array(problems, dtype=int)

    def again(self, layer: int, resamples: np.ndarray) -> Tensor:
        """(r, d_model): directions fitted anew to resamples (r, n) of the test half's problems; drawn twice, counts
        twice.
        """
        observed, rows = self.observed, self.observed.rows(self.observed.test, single=True)
        right, place = (
            torch.from_numpy(observed.right[rows]),
            np.searchsorted(observed.test.problems, observed.problem[rows]),
        )
        times = np.stack([np.bincount(one, minlength=len(observed.test))[place] for one in resamples])
        weights = even_weights(right, observed.kind[rows]) * torch.from_numpy(times)
        residual = self.residual[rows][:, [layer]]
        return fit_probes(residual, right.expand(len(times), -1), weights=weights).directions[:, 0]

    def permuted_directions(self, layer: int, draws: range) -> Tensor:
        """(draws, d_model): directions fitted to permuted labels of the test half."""
        rows = self.observed.rows(self.observed.test, single=True)
        labels = torch.from_numpy(self.permuted(draws)[1][:, rows])
        return self.fit(rows, labels, [layer]).directions[:, 0]

    def permuted(self, draws: range) -> tuple[Tensor, np.ndarray]:
        """Labels that say nothing: of each problem's attempts another one is called right, at random.

        Returns:
            labels of the fit half's attempts (draws, n_fit), and of all attempts (draws, n).
        """
        observed = self.observed
        labels = np.zeros((len(draws), len(observed.problem)), dtype=bool)
        single = np.isin(observed.kind, ("correct", *WRONG))
        groups = [np.flatnonzero(single & (observed.problem == p)) for p in np.unique(observed.problem)]
        pairs = np.flatnonzero(observed.kind == "role_swapped").reshape(-1, 2)
        for i, draw in enumerate(draws):
            rng = np.random.default_rng([self.seed, draw, 7])
            for group in groups:
                labels[i, rng.choice(group)] = True
            labels[i, pairs[np.arange(len(pairs)), rng.integers(2, size=len(pairs))]] = True
        return torch.from_numpy(labels[:, observed.rows(observed.fit)]), labels

    def null(self, draws: range, layers: Sequence[int]) -> np.ndarray:
        """(draws, layers): balanced accuracy where labels are permuted in both halves and the probe is refitted."""
        rows = self.observed.rows(self.observed.fit)
        on_fit, everywhere = self.permuted(draws)
        probes = self.fit(rows, on_fit, layers)
        scores = probes.scores(self.residual[:, layers]).numpy()  # (draws, n, layers)
        return np.stack(
            [balanced(self.observed, one > 0, right).mean(0) for one, right in zip(scores, everywhere, strict=True)]
        )


def fit_even(residual: Tensor, labels: Tensor, kinds: np.ndarray) -> LinearProbe:
    """Probes of attempts weighted so that both classes are even."""
    return fit_probes(residual, labels, weights=even_weights(labels, kinds))


def even_weights(labels: Tensor, kinds: np.ndarray) -> Tensor:
    """(..., n): of a problem's attempts with one prompt, one is right and three are wrong; pairs are even already."""
    single = torch.from_numpy(kinds != "role_swapped")
    return torch.where(labels & single, 3.0, 1.0).double()


def balanced(observed: Observations, reads: np.ndarray, labels: np.ndarray, kinds: Sequence[str] = WRONG) -> np.ndarray:
    """(problems of the test half, ...): half for the attempt that is labelled right, half for the others.

    Args:
        reads: (n, ...) whether each attempt is read as right.
        labels: (n,) which are right; one of each problem's attempts with one prompt.
    """
    rows = observed.rows(observed.test, "correct", *kinds)
    said = (reads[rows] == labels[rows].reshape(-1, *[1] * (reads.ndim - 1))).astype(float)
    by_problem = said.reshape(len(observed.test), -1, *reads.shape[1:])
    right = labels[rows].reshape(len(observed.test), -1, *[1] * (reads.ndim - 1))
    of_right = (by_problem * right).sum(1)
    of_wrong = (by_problem * ~right).sum(1) / np.maximum(1, (~right).sum(1))
    return (of_right + of_wrong) / 2
