"""Which words a direction names, through the unembedding.

Naming            the lexicon of a subject's vocabulary, and what directions name of it
random_directions drawn with the covariance of the residual stream

Forms of one word count once: "Correct", " correct" and "correctly" are one lemma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.once import once
from fixtures.lexicon import Lexicon, lemma, lexicon, matched_lexicons, vocabulary
from mechinterp import Subject

AT_ONCE = 64
"""Directions unembedded at a time: their logits over a large vocabulary are large."""


@dataclass(eq=False)
class Naming:
    """What directions name in a subject's vocabulary."""

    subject: Subject
    exclude: frozenset[int]

    @once
    def texts(self) -> list[str]:
        """The text of every token."""
        return vocabulary(self.subject.tokenizer)

    @once
    def lexicon(self) -> Lexicon:
        return lexicon(self.texts, exclude=set(self.exclude))

    @once
    def lemmas(self) -> np.ndarray:
        """(vocab,) number of each token's lemma."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(lemma(text), len(numbers)) for text in self.texts])

    @property
    def k(self) -> int:
        """How many of a direction's lemmas are looked at: 50, or 1 % of a small vocabulary."""
        return max(10, min(50, len(self.texts) // 100))

    def words(self, says: str) -> tuple[int, ...]:
        """Token ids of "success" or "failure"."""
        return self.lexicon.success if says == "success" else self.lexicon.failure

    def top(self, directions: Tensor, k: int) -> list[np.ndarray]:
        """Of each direction (n, d_model), its first k tokens of different lemmas."""
        found = []
        for part in directions.split(AT_ONCE):
            logits = mi.unembed_directions(self.subject, part)[:, : len(self.texts)]
            for tokens in logits.topk(min(8 * k, logits.shape[1]), dim=-1).indices.cpu().numpy():
                _, first = np.unique(self.lemmas[tokens], return_index=True)
                found.append(tokens[np.sort(first)[:k]])
        return found

    def counts(self, directions: Tensor, says: str, k: int) -> np.ndarray:
        """(n,) how many of the k first lemmas of each direction are of the lexicon."""
        words = np.unique(self.lemmas[list(self.words(says))])
        return np.array([np.isin(self.lemmas[tokens], words).sum() for tokens in self.top(directions, k)])

    def share(self, directions: Tensor, says: str) -> np.ndarray:
        """(n,) share of the first `k` lemmas of each direction that are of the lexicon, above their base rate."""
        words = np.unique(self.lemmas[list(self.words(says))])
        return self.counts(directions, says, self.k) / self.k - len(words) / len(np.unique(self.lemmas))

    def stand_ins(self, says: str, *, draws: int, seed: int) -> np.ndarray:
        """(draws, words): random lexicons of the same kind and frequency."""
        banned = set(self.exclude) | set(self.lexicon.success) | set(self.lexicon.failure)
        return matched_lexicons(self.texts, self.words(says), exclude=banned, draws=draws, seed=seed)

    def show_tokens(self, tokens: Sequence[int]) -> list[str]:
        """Their texts."""
        return [self.texts[i] for i in tokens]

    def show(self, direction: Tensor, k: int = 20) -> list[str]:
        """The texts of a direction's first k tokens."""
        return [text for _, text, _ in mi.nearest_tokens(self.subject, direction[None], k)[0]]


def random_directions(residual: Tensor, draws: int, *, seed: int) -> Tensor:
    """(draws, d_model), with the covariance of residual streams (n, d_model): sums of centred rows at random."""
    centred = residual.double() - residual.double().mean(0)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(draws, len(centred), generator=generator, dtype=torch.float64) @ centred
