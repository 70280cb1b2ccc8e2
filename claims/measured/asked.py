"""A model asked whether an attempt is right, in words: yes or no.

Asked       what it says, with heads on and off
QUESTIONS   in which words
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.once import once
from fixtures.task.sites import encode
from mechinterp import Head

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory

QUESTIONS = (
    "\nIs this result the target? Answer {first} or {second}: ",
    "\nDoes the last line reach the target ({first}/{second})? ",
    "\nQuestion: is the last attempt right, {first} or {second}?\nAnswer: ",
)
WORDS = ("yes", "no")


@dataclass(eq=False)
class Asked:
    """The attempts of a laboratory, cut before their ` (`, with a question behind."""

    lab: Laboratory

    @once
    def tokens(self) -> tuple[list[int], list[int]]:
        """Ids that say yes and no. Raises PreconditionUnmet where the vocabulary has none of a word."""
        found = tuple(
            [i for i, text in enumerate(self.lab.naming.texts) if text.strip().lower() == word] for word in WORDS
        )
        for word, ids in zip(WORDS, found, strict=True):
            if not ids:
                raise mi.PreconditionUnmet(f"the vocabulary of {self.lab.subject.name} has no token for {word}")
        return found[0], found[1]

    def prompts(self, rows: np.ndarray, question: int = 0, *, no_first: bool = False) -> list[list[int]]:
        """Token ids; the attempt's text ends with its result."""
        first, second = WORDS[::-1] if no_first else WORDS
        ask = QUESTIONS[question].format(first=first, second=second).rstrip(" ")
        texts = [self.lab.observed.sited[i].transcript.text.removesuffix(" (") + ask for i in rows]
        return [encode(self.lab.subject.tokenizer, text)[0] for text in texts]

    def log_odds(
        self, rows: np.ndarray, question: int = 0, *, no_first: bool = False, without: Sequence[Head] = ()
    ) -> np.ndarray:
        """(attempts,) of yes over no, in nats, with heads zeroed at all positions."""
        prompts, (yes, no) = self.prompts(rows, question, no_first=no_first), self.tokens

        def make() -> dict[str, Tensor]:
            found = torch.empty(len(prompts), dtype=torch.float64)
            with mi.under(self.lab.subject, mi.AblateHeads(without) if without else None):
                for part, batch in mi.batches(self.lab.subject, prompts, progress="asked"):
                    logits = mi.last_logits(self.lab.subject, batch).double()
                    found[part] = (logits[:, yes].logsumexp(-1) - logits[:, no].logsumexp(-1)).cpu()
            return {"v": found}

        return self.lab.kept(("asked", prompts, list(without), yes, no), make)["v"].numpy()

    def says_yes(self, rows: np.ndarray, *, without: Sequence[Head] = ()) -> np.ndarray:
        """(attempts,) P(yes) / (P(yes) + P(no)), asked in the first words."""
        return 1 / (1 + np.exp(-self.log_odds(rows, without=without)))
