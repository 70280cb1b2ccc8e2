"""Is verification the same where the answer is not in the context?

The discussion names it as the main open question: there, attention to an earlier mention of the answer has nothing to
attend to. Sums are judged (`27 + 25 = 52 (`), and Countdown attempts whose target is stated as twice another number.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from claims.measured.bars import TELLS
from mechinterp import Draws, Evidence, PreconditionUnmet, Threshold

CLAIM = Claim(
    "prior.verification",
    statement="Where the answer is not in the context, other parts verify: the heads that attend to the target are "
    "needed in context, and not there.",
    source=f'{DISCUSSION}: "what about problems where the correct answer is not in the context?", an open question',
    published="-",
)


@CLAIM.audited(
    measure="necessity of the heads where the target stands in the context minus their necessity where it does not, "
    "each the part of the log-odds gap that right attempts lose when they are zeroed from the result to ` (`",
    threshold=Threshold(0.3, reason="a third of the gap more goes through them where there is something to attend to"),
    null="sets of as many other heads of the same layers, matched by output norm and size of the change",
)
@pytest.mark.parametrize("task", ["sums", "twice"])
def test_the_heads_are_needed_in_context_only(lab: measured.Laboratory, task: str, judge: Judge) -> None:
    """The heads that attend to the target carry less where it does not stand in the context."""
    lab.ladder.require_by_role()
    off, there, seed = lab.heads, lab.prior[task], lab.seed
    off.require()
    before, after = there.v([(), off.selected])  # (2, pairs) each
    told = measured.pair_auc(*before)
    if told < TELLS:
        raise PreconditionUnmet(
            f"where the answer is not in the context ({task}) it tells right from wrong with AUC {told:.2f}; "
            f"{TELLS} is needed"
        )
    clean, ablated = off.clean("target_edited"), off.ablated("target_edited", "zero")
    gap, gap_there = (clean.right - clean.wrong)[:, 0], before[0] - before[1]
    n = min(len(gap), len(gap_there))

    def difference(right: np.ndarray, right_there: np.ndarray, pairs: np.ndarray) -> float:
        """Of (problems,) V of right attempts with heads off, in the context and there."""
        in_context = (clean.right[:, 0] - right)[pairs].mean() / gap[pairs].mean()
        return float(in_context - (before[0] - right_there)[pairs].mean() / gap_there[pairs].mean())

    effect = partial(difference, ablated.right[:, 0], after[0])
    everyone, sets = np.arange(n), off.null_sets("target_edited", "zero")

    def drawn(numbers: range) -> list[float]:
        pairs = zip(
            off.null("target_edited", "zero", "right", numbers)[..., 0], there.null(sets.sets, numbers), strict=True
        )
        return [difference(right, right_there[0], everyone) for right, right_there in pairs]

    accuracy = there.probe_accuracy
    best = int(lab.probing["open_paren"].loss.argmin())
    judge(
        Evidence(
            effect=effect(everyone),
            interval=mi.statistic_interval(effect, n, seed=seed),
            n=n,
            selected=measured.head_names(off.selected),
            series={"probe of the context, accuracy here": accuracy.tolist()},
            details={
                "necessity in context": float((clean.right - ablated.right)[:, 0].mean() / gap.mean()),
                "necessity there": float((before[0] - after[0]).mean() / gap_there.mean()),
                "V there": measured.class_levels(*before),
                "V there, heads off": measured.class_levels(*after),
                "AUC there": told,
                "gap in context, nats": float(gap.mean()),
                "gap there, nats": float(gap_there.mean()),
                "the context's probe at ` (`, best layer, reads it there": float(accuracy[best]),
            },
        ),
        null=Draws(drawn, len(sets.sets), sets.distinct),
    )
