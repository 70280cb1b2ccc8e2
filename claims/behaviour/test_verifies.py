"""Does the model tell its right attempts from its wrong ones? The premise of everything else.

The source examines a model after reinforcement learning that writes `(this works)` after its right attempts and
`(not 51)` after the others. A model may do so by repetition: in a transcript of its own, a right result is a number
that stood there before. Here the attempts that decide are those in which it does not help.
"""

from __future__ import annotations

import numpy as np

import mechinterp as mi
from claims import measured
from claims.claim import PAPER, Claim
from claims.harness.types import Judge
from claims.measured.bars import TELLS
from mechinterp import Control, Draws, Evidence, Threshold
from mechinterp.nulls import MOST

CLAIM = Claim(
    "behaviour.verifies",
    statement="The model tells right attempts from wrong ones.",
    source=PAPER,
    published="its own right attempts are followed by `this works`; only those are examined",
)

FEWEST = 8
"""Wrong attempts that share a digit, below which nothing is told apart."""


@CLAIM.as_published(
    measure="share of right attempts after which `this` is likelier than `not`",
    threshold=Threshold(0.9, reason="the source examines a model that recognises its right attempts", alpha=None),
    quirks=(
        "one class: a model that says `this` after every attempt passes",
        "the right result stands in the prompt: to have seen the number before is enough",
    ),
)
def test_right_attempts_are_called_right(lab: measured.Laboratory, judge: Judge) -> None:
    """The model calls its right attempts right."""
    rows = lab.observed.rows(lab.observed.test, "correct")
    said = lab.says_this[rows].astype(float)
    judge(
        Evidence(
            said.mean(),
            mi.share_interval(said, seed=lab.seed),
            len(said),
            by_problem=measured.parts(lab.observed.problem[rows], said),
        )
    )


@CLAIM.audited(
    measure="AUC of V, the log-odds of accepting over rejecting words, for the kind of wrong attempts that is told "
    "apart worst: target_edited, incorrect, foil, or role-swapped in any wording",
    threshold=Threshold(TELLS, reason="half of the way from guessing to certainty"),
    null="right and wrong exchanged in every pair at random",
)
def test_right_attempts_are_told_from_wrong_ones(lab: measured.Laboratory, judge: Judge) -> None:
    """The model tells right attempts from wrong ones of every kind."""
    kinds = measured.by_kind(lab.observed, lab.v)
    n = len(lab.observed.test)
    judge(
        Evidence(
            effect=measured.hardest_auc(kinds, np.arange(n)),
            interval=mi.statistic_interval(lambda rows: measured.hardest_auc(kinds, rows), n, seed=lab.seed),
            n=n,
            controls=tuple(digit_rival(lab, digit) for digit in ("tens", "last")),
            details={
                "ladder": lab.ladder.rung,
                **lab.ladder.figures,
                "accepting words": lab.naming.show_tokens(lab.remarks.accept),
                "rejecting words": lab.naming.show_tokens(lab.remarks.reject),
            },
        ),
        null=Draws(lambda numbers: [exchanged(kinds, n, lab.seed, draw) for draw in numbers], MOST),
    )


def exchanged(kinds: dict[str, tuple[np.ndarray, np.ndarray]], n: int, seed: int, draw: int) -> float:
    """The effect where each problem's right and wrong attempts have changed places, or not, by a coin a problem."""
    swap = np.random.default_rng([seed, draw, 3]).integers(2, size=n).astype(bool)
    mixed = {
        kind: (np.where(swap, wrong, right), np.where(swap, right, wrong)) for kind, (right, wrong) in kinds.items()
    }
    return measured.hardest_auc(mixed, np.arange(n))


def digit_rival(lab: measured.Laboratory, digit: str) -> Control:
    """A model that compares one digit only cannot tell a right attempt from a wrong one that shares it."""
    observed = lab.observed
    right = lab.v[observed.rows(observed.test, "correct")]
    rows = observed.sharing(observed.test, digit)
    place = np.searchsorted(observed.test.problems, observed.problem[rows])

    def excess(problems: np.ndarray) -> float:
        times = np.bincount(problems, minlength=len(right))  # a problem drawn twice counts twice
        wrong = np.repeat(lab.v[rows], times[place])
        return measured.pair_auc(right[problems], wrong) - TELLS if len(wrong) else 0.0

    name = f"the {digit} digit alone: AUC {TELLS} on wrong attempts that share it"
    if len(rows) < FEWEST:
        return Control(name, 0.0, (-1.0, 1.0))
    everyone = np.arange(len(right))
    return Control(name, excess(everyone), mi.statistic_interval(excess, len(right), seed=lab.seed))
