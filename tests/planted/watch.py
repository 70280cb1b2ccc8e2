"""A variant at work: what its parts do on attempts, measured with mechinterp alone, without the suite's laboratory.

watched   a variant on attempts of every kind and wording, run once and kept
watch     the same for any subject and attempts
Watched   what it said, and where and when which part was active
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from fixtures.task.countdown import make_problems
from fixtures.task.sites import RemarkTokens, Sited, remark_tokens, site
from fixtures.task.transcripts import Transcript, make_attempts
from mechinterp import Head, Subject

from .model import planted


@dataclass(frozen=True, eq=False)
class Watched:
    """n attempts, L layers.

    Attributes:
        v: (n,) log p(this) - log p(not) after ` (`, nats.
        attention: by attempt, (L, n_heads, tokens), from the result.
        heads: (n, L, n_heads, d_model), what each head writes at the result.
        neurons: (n, L, d_mlp), activations at ` (`.
        residual: (n, L, d_model), at ` (`.
    """

    subject: Subject
    attempts: Sequence[Transcript]
    sited: Sequence[Sited]
    remarks: RemarkTokens
    v: np.ndarray
    attention: list[Tensor]
    heads: Tensor
    neurons: Tensor
    residual: Tensor

    @property
    def right(self) -> np.ndarray:
        return np.array([attempt.is_right for attempt in self.attempts])

    def rows(self, kind: str, wording: str | None = None) -> np.ndarray:
        """Which attempts are of a kind, and of a wording."""
        return np.array([a.kind == kind and wording in (None, a.wording) for a in self.attempts])

    def mass(self, row: int, heads: Sequence[Head], numbers: Sequence[int | None]) -> Tensor:
        """(heads,) attention from the result to some numbers, wherever they stand before the attempt's line."""
        ids, text = (
            self.sited[row].input_ids,
            {f" {number}" for number in numbers} | {str(number) for number in numbers},
        )
        before = range(self.sited[row].attempt[0])
        places = [at for at in before if self.subject.tokenizer.decode([ids[at]]) in text]
        return torch.stack([self.attention[row][layer, head, places].sum() for layer, head in heads])

    def without(self, heads: Sequence[Head], rows: np.ndarray) -> np.ndarray:
        """V of some attempts with heads off from the result on."""
        chosen = [self.sited[row] for row in np.flatnonzero(rows)]
        metric, scope = mi.log_odds(self.remarks.works, self.remarks.fails), mi.since([s.result[0] for s in chosen])
        swept = mi.sweep(
            self.subject, [s.input_ids for s in chosen], [mi.AblateHeads(tuple(heads))], metric, scope=scope
        )
        return swept[:, 0].numpy()


@cache
def watched(variant: str) -> Watched:
    """6 problems, 72 attempts; the target's role comes first in half of them."""
    return watch(planted(variant), make_attempts(make_problems(6, seed=1, size=3, foils=True), seed=1))


def watch(subject: Subject, attempts: Sequence[Transcript]) -> Watched:
    sited, remarks = [site(subject.tokenizer, attempt) for attempt in attempts], remark_tokens(subject.tokenizer)
    anatomy = subject.anatomy
    layers = range(anatomy.n_layers)
    v, attention = np.empty(len(sited)), [torch.empty(0)] * len(sited)
    heads = torch.empty(len(sited), anatomy.n_layers, anatomy.n_heads, anatomy.d_model)
    neurons = torch.empty(len(sited), anatomy.n_layers, anatomy.d_mlp)
    residual = torch.empty(len(sited), anatomy.n_layers, anatomy.d_model)
    for rows, batch in mi.batches(subject, [one.input_ids for one in sited], size=32):
        places = [[sited[row].last_digit, sited[row].open_paren] for row in rows]
        with mi.capture(subject, places, residual=layers, heads=layers, neurons=layers, attention=layers) as seen:
            said = mi.last_logits(subject, batch).log_softmax(-1)
        v[rows] = said[:, remarks.works] - said[:, remarks.fails]
        heads[rows] = torch.stack([mi.head_outputs(subject, layer, seen.heads[layer][:, 0]) for layer in layers], 1)
        neurons[rows] = torch.stack([seen.neurons[layer][:, 1] for layer in layers], 1)
        residual[rows] = torch.stack([seen.residual[layer][:, 1] for layer in layers], 1)
        by_row = torch.stack([seen.attention[layer][:, 0] for layer in layers], 1)  # (rows, L, n_heads, tokens)
        for row, one in zip(rows, by_row, strict=True):
            attention[row] = one
    return Watched(subject, attempts, sited, remarks, v, attention, heads, neurons, residual)
