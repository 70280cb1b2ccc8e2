"""What the subject says of its own attempt.

Remarks          the first tokens that accept an attempt and those that reject it
candidates       the tokens that may do so, in any model's words
choose_remarks   those that this model uses, chosen on the fit half
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp

import mechinterp as mi
from claims.measured.observations import Observations
from fixtures.lexicon import ACCEPTS, REJECTS
from fixtures.task.sites import remark_tokens

SAID = 0.001
"""Mean probability from which a token counts as one that the model uses."""


@dataclass(frozen=True)
class Remarks:
    """Sorted token ids of the accept set and of the reject set, disjoint."""

    accept: tuple[int, ...]
    reject: tuple[int, ...]

    def log_odds(self, log_p: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """V: log-odds of accept over reject in nats, from log-probabilities (n, K) of `tokens`."""
        ours, theirs = (logsumexp(_of(log_p, tokens, part), axis=1) for part in (self.accept, self.reject))
        return ours - theirs

    def accepts(self, log_p: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """(n,) whether the likeliest token of both sets is one of the accept set."""
        ours, theirs = (_of(log_p, tokens, part).max(1) for part in (self.accept, self.reject))
        return ours > theirs

    def metric(self) -> mi.Metric:
        """V as the metric of a sweep."""

        def of(read: mi.Readout) -> torch.Tensor:
            logits = read.logits([*self.accept, *self.reject]).double()
            ours, theirs = logits[:, : len(self.accept)], logits[:, len(self.accept) :]
            return ours.logsumexp(-1) - theirs.logsumexp(-1)

        return mi.Metric(of, name=f"log-odds of {self.accept} over {self.reject}")


def published(subject: mi.Subject) -> Remarks:
    """`this` over `not`."""
    tokens = remark_tokens(subject.tokenizer)
    return Remarks((tokens.works,), (tokens.fails,))


def candidates(subject: mi.Subject, texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """Token ids that accept and that reject, as the first token after ` (`."""
    word = [text.strip().lower() for text in texts]
    said = published(subject)
    accept = {i for i, one in enumerate(word) if one in ACCEPTS} | set(said.accept)
    reject = {i for i, one in enumerate(word) if one in REJECTS} | set(said.reject)
    return sorted(accept - set(said.reject)), sorted(reject - set(said.accept) - accept)


def choose_remarks(observed: Observations, subject: mi.Subject, texts: Sequence[str]) -> Remarks:
    """Of the candidates, those with a mean probability of `SAID` after attempts of their own class.

    Where the model uses none of a class, the published word stands for it.
    """
    right, wrong = observed.rows(observed.fit, right=True), observed.rows(observed.fit, right=False)
    accept, reject = candidates(subject, texts)
    said = published(subject)

    def used(tokens: list[int], rows: np.ndarray) -> tuple[int, ...]:
        mean = np.exp(_of(observed.log_p[rows], observed.candidates, tokens)).mean(0)
        return tuple(token for token, p in zip(tokens, mean, strict=True) if p >= SAID)

    return Remarks(used(accept, right) or said.accept, used(reject, wrong) or said.reject)


def _of(log_p: np.ndarray, tokens: Sequence[int], part: Sequence[int]) -> np.ndarray:
    """Of log-probabilities (n, K) of `tokens`, the columns of some."""
    at = {token: column for column, token in enumerate(tokens)}
    return log_p[:, [at[token] for token in part]]
