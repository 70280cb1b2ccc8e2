"""When the verdict becomes readable: sites along the last attempt's line, before its result is written.

Timing           probes at each of them, on attempts that share a prompt; what else they read there
published_early  the source's probe at its early site: one token before the number first occurs
EARLIER          the sites, in the order of the line
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from claims.measured.at_sites import residual_at
from claims.measured.bars import ONE_PROMPT, SITES
from claims.measured.observations import Half
from claims.measured.once import once
from claims.measured.probing import FOLDS, balanced, even_weights, fit_even
from claims.measured.published import PublishedProbe, fit_published
from mechinterp import LinearProbe, fit_probes

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory

EARLIER = ("running_value", "last_number", "before_result")
"""The value worked out before the result, the last input number, and the token from which the result is written."""


@dataclass(eq=False)
class Timing:
    """Right, target-edited, incorrect and foil attempts; residual streams at the earlier sites and at `SITES`."""

    lab: Laboratory
    layers: dict[str, int] = field(default_factory=dict, repr=False)

    @once
    def rows(self) -> np.ndarray:
        """The attempts that share a prompt, of both halves, problem by problem."""
        observed = self.lab.observed
        return np.concatenate([observed.rows(half, *ONE_PROMPT) for half in (observed.fit, observed.test)])

    @once
    def earlier(self) -> dict[str, Tensor]:
        """By earlier site (rows, layers, d_model)."""
        sited = [self.lab.observed.sited[i] for i in self.rows]
        places = [[one.running_value[-1], one.last_attempt_numbers[-1][1][-1], one.result[0] - 1] for one in sited]
        prompts = [one.input_ids for one in sited]

        def make() -> dict[str, Tensor]:
            found = residual_at(self.lab.subject, prompts, places, progress="before the result")
            return dict(zip(EARLIER, found, strict=True))

        return self.lab.kept(("before the result", prompts, places), make)

    def residual(self, site: str) -> Tensor:
        """(n, layers, d_model) of all attempts; 0 at earlier sites of those that share no prompt."""
        observed = self.lab.observed
        if site in SITES:
            return observed.residual[site]
        part = self.earlier[site]
        found = torch.zeros(len(observed.problem), *part.shape[1:])
        found[self.rows] = part
        return found

    def layer(self, site: str) -> int:
        """That with the least loss on held-out problems of the fit half."""
        if site not in self.layers:
            observed, residual = self.lab.observed, self.residual(site)
            problems = observed.fit.problems
            loss = torch.zeros(residual.shape[1], dtype=torch.float64)
            for part in np.array_split(problems, min(FOLDS, len(problems))):
                held_out = observed.rows(Half(part), *ONE_PROMPT)
                rest = observed.rows(Half(np.setdiff1d(problems, part)), *ONE_PROMPT)
                right = torch.from_numpy(observed.right[held_out])
                scores = self._fit(residual, rest, slice(None)).scores(residual[held_out])
                signed = torch.where(right, -1.0, 1.0)[:, None] * scores
                weights = even_weights(right, observed.kind[held_out])
                loss += (torch.nn.functional.softplus(signed) * weights[:, None]).sum(0)
            self.layers[site] = int(loss.argmin())
        return self.layers[site]

    def accuracy(self, site: str) -> np.ndarray:
        """(problems,): balanced accuracy on the test half, in the site's layer."""
        observed, at = self.lab.observed, [self.layer(site)]
        residual = self.residual(site)
        scores = self._fit(residual, observed.rows(observed.fit, *ONE_PROMPT), at).scores(residual[:, at])
        return balanced(observed, scores.numpy()[:, 0] > 0, observed.right)

    def permuted(self, draws: range, late: str) -> np.ndarray:
        """(draws,): accuracy at the late site minus the best earlier one, labels permuted in both halves, refitted."""
        observed, probing = self.lab.observed, self.lab.probing[late]
        rows = observed.rows(observed.fit, *ONE_PROMPT)
        _, labels = probing.permuted(draws)
        by_site = []
        for site in (late, *EARLIER):
            residual, at = self.residual(site), [self.layer(site)]
            probes = fit_even(residual[rows][:, at], torch.from_numpy(labels[:, rows]), observed.kind[rows])
            reads = probes.scores(residual[:, at]).numpy()[..., 0] > 0  # (draws, n)
            by_site.append([balanced(observed, one, own).mean() for one, own in zip(reads, labels, strict=True)])
        return np.array(by_site[0]) - np.max(by_site[1:], axis=0)

    def running_value(self) -> np.ndarray:
        """(problems,): at its own site, how often a probe tells a value above the fit half's median from one below.

        What a probe of as many attempts can read there: without this, nothing read there would mean nothing.
        """
        observed, residual = self.lab.observed, self.residual("running_value")
        values = np.array([one.transcript.running_value[0] for one in observed.sited])
        fit, test = (observed.rows(half, *ONE_PROMPT) for half in (observed.fit, observed.test))
        high = values > np.median(values[fit])
        half = np.isin(observed.problem[fit], observed.fit.problems[::2])  # a layer is chosen within the fit half
        chosen = self._reads(residual, high, fit[half], fit[~half]).mean(0)
        at = [int(chosen.argmax())]
        return self._reads(residual[:, at], high, fit, test)[:, 0].reshape(len(observed.test), -1).mean(1)

    def _reads(self, residual: Tensor, label: np.ndarray, fit: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(rows, layers)."""
        probe = fit_probes(residual[fit], torch.from_numpy(label[fit]))
        return probe.correct(residual[rows], torch.from_numpy(label[rows])).numpy()

    def _fit(self, residual: Tensor, rows: np.ndarray, layers: slice | Sequence[int]) -> LinearProbe:
        observed = self.lab.observed
        return fit_even(residual[rows][:, layers], torch.from_numpy(observed.right[rows]), observed.kind[rows])


def published_early(lab: Laboratory) -> PublishedProbe:
    """The published probe one token before the number of the result first occurs, in right and incorrect attempts."""
    observed = lab.observed
    rows = np.concatenate([observed.rows(half, "correct", "incorrect") for half in (observed.fit, observed.test)])
    sited = [observed.sited[i] for i in rows]
    places = [(one.target_mentions[0] if one.transcript.is_right else one.result)[0] - 1 for one in sited]
    prompts = [one.input_ids[: place + 1] for one, place in zip(sited, places, strict=True)]

    def make() -> dict[str, Tensor]:
        found = residual_at(lab.subject, prompts, [[place] for place in places], progress="before the number")
        return {"residual": found[0]}

    part = lab.kept(("before the number", prompts), make)["residual"]
    early = torch.zeros(len(observed.problem), *part.shape[1:])
    early[rows] = part
    return fit_published(replace(observed, residual={"early": early}), "early", lab.says_this, seed=lab.seed)
