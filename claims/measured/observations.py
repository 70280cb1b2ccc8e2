"""What a subject does on Countdown attempts, captured once and only at the sites.

Observations   activations, attention and remarks of every attempt
Half           the problems to choose and fit on, or those to judge on
observe        run the attempts through a subject
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from claims.measured.at_sites import run_attempts
from claims.measured.bars import SITES, WRONG
from claims.measured.dataset import halves
from claims.measured.once import kept
from fixtures.task.sites import Sited, site
from fixtures.task.transcripts import Transcript
from mechinterp import MechinterpError, Store, Subject

ATTENDED = ("correct", "target_edited", "role_swapped")
"""Kinds whose attention is read, of the role-swapped ones a pair a problem: that needs the slow kernel."""


@dataclass(frozen=True, eq=False)
class Half:
    """Some of the problems. A half to choose and fit on, another to judge on."""

    problems: np.ndarray

    def __len__(self) -> int:
        return len(self.problems)


@dataclass(frozen=True, eq=False)
class Observations:
    """n attempts; L layers, H heads, K candidate tokens. Activations are fp32 on the CPU.

    Attributes:
        problem: (n,) number of the problem, the unit of every interval.
        right: (n,) whether the last attempt reaches the stated target.
        kind: (n,) correct, target_edited, incorrect, foil or role_swapped.
        wording: (n,) of the prompt.
        fit, test: the halves.
        residual: by site, (n, L, d_model).
        single: (n,) False for all role-swapped pairs of a problem but one, which is of another wording each time.
        to_target: (n, L, H), attention from the result's last digit to all earlier mentions of the target; NaN for
            attempts that are not `single` or not of a kind in ATTENDED.
        to_prompt: the same to the last token of each mention in the prompt, the published rule.
        to_rival: the same to the other number of a role-swapped pair; 0 elsewhere.
        to_own: from the last digit of each input number of the last attempt to its own earlier mentions, as many of
            them as the target has; the mean over the input numbers.
        activity: (2, L, d_mlp), mean absolute activation and mean activation at ` (` over the right attempts of the
            fit half (`correct`).
        activity_wrong: (L, d_mlp), mean activation over its target-edited attempts.
        candidates: (K,) token ids whose probability after ` (` was kept.
        log_p: (n, K), their log-probabilities, nats.
    """

    sited: tuple[Sited, ...]
    problem: np.ndarray
    right: np.ndarray
    kind: np.ndarray
    wording: np.ndarray
    single: np.ndarray
    fit: Half
    test: Half
    residual: dict[str, Tensor]
    to_target: Tensor
    to_prompt: Tensor
    to_rival: Tensor
    to_own: Tensor
    activity: Tensor
    activity_wrong: Tensor
    candidates: tuple[int, ...]
    log_p: np.ndarray

    def rows(
        self, half: Half, *kinds: str, right: bool | None = None, wording: str | None = None, single: bool = False
    ) -> np.ndarray:
        """Attempts of a half, problem by problem; of some kinds (all by default), class and wording only."""
        chosen = np.isin(self.problem, half.problems) & (self.single | (not single))
        if kinds:
            chosen &= np.isin(self.kind, kinds)
        if right is not None:
            chosen &= self.right == right
        if wording is not None:
            chosen &= self.wording == wording
        found = np.flatnonzero(chosen)
        return found[np.argsort(self.problem[found], kind="stable")]

    def sharing(self, half: Half, digit: str) -> np.ndarray:
        """Wrong attempts of a half that share a digit ("tens" or "last") with the target; no role-swapped ones."""
        fact = {"tens": "shares_tens", "last": "shares_last_digit"}[digit]
        rows = self.rows(half, *WRONG)
        return rows[np.array([getattr(self.sited[i].transcript, fact) for i in rows], dtype=bool)]

    @property
    def wordings(self) -> tuple[str, ...]:
        """Of the role-swapped pairs."""
        return tuple(dict.fromkeys(self.wording[self.kind == "role_swapped"].tolist()))


def observe(
    subject: Subject,
    transcripts: Sequence[Transcript],
    candidates: Sequence[int],
    *,
    seed: int,
    store: Store | None = None,
) -> Observations:
    """Run every attempt once, or read from the store what that gave.

    Raises:
        MechinterpError: a tokenizer whose tokens do not allow it, logits that are not finite, no attempts.
    """
    if not transcripts:
        raise MechinterpError("no problem is left to examine the model on; raise --n-problems")
    sited = tuple(site(subject.tokenizer, transcript) for transcript in transcripts)
    numbers = {problem: i for i, problem in enumerate(dict.fromkeys(t.problem.id for t in transcripts))}
    problem = np.array([numbers[t.problem.id] for t in transcripts])
    fit, test = map(Half, halves(len(numbers), seed))
    on_fit = np.isin(problem, fit.problems)
    kind, wording = (np.array([getattr(t, name) for t in transcripts]) for name in ("kind", "wording"))
    single = _single(problem, kind, wording, fit, test)
    attended = np.isin(kind, ATTENDED) & single

    def make() -> dict[str, Tensor]:
        return run_attempts(subject, sited, on_fit, attended, list(candidates))

    what = ("observations", [one.input_ids for one in sited], kind.tolist(), on_fit, attended, list(candidates))
    found = kept(store, what, make)
    return Observations(
        sited=sited,
        problem=problem,
        right=np.array([t.is_right for t in transcripts]),
        kind=kind,
        wording=wording,
        single=single,
        fit=fit,
        test=test,
        residual={name: found[f"residual {name}"] for name in SITES},
        to_target=found["to_target"],
        to_prompt=found["to_prompt"],
        to_rival=found["to_rival"],
        to_own=found["to_own"],
        activity=found["activity"],
        activity_wrong=found["activity_wrong"],
        candidates=tuple(candidates),
        log_p=found["log_p"].numpy(),
    )


def _single(problem: np.ndarray, kind: np.ndarray, wording: np.ndarray, fit: Half, test: Half) -> np.ndarray:
    """Of each problem's role-swapped pairs one, wordings in turn; all other attempts."""
    wordings = list(dict.fromkeys(wording[kind == "role_swapped"].tolist()))
    turns = {number: place for half in (fit, test) for place, number in enumerate(half.problems)}
    own = np.array([wordings[turns[number] % len(wordings)] if wordings else "" for number in problem])
    alone = {number for number in set(problem) if len(set(wording[(problem == number) & (kind == "role_swapped")])) < 2}
    return (kind != "role_swapped") | (wording == own) | np.isin(problem, list(alone))
