"""Does the base verify with the heads of the model that was trained from it?

The discussion asks the base whether R1's attempts are right, turns R1's heads off in it, and sees P(yes) fall from .958
to .009, on right attempts alone. Here the heads that were chosen on one model are turned off in the other, both ways,
on both classes, and do as much as those that would have been chosen there. Read is the remark that each model makes
itself: by yes and no, in several wordings and both orders, a null of hundreds of head sets would take hours.
"""

from __future__ import annotations

import numpy as np
import pytest

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, PAPER, Claim
from claims.harness.types import Judge
from mechinterp import Evidence, PreconditionUnmet, Threshold

CLAIM = Claim(
    "base.shared_circuit",
    statement="The base, asked to judge the attempts of the model that was trained from it, uses the same heads.",
    source=f"{DISCUSSION}, Verifying Verification Mechanism in Base Model; {PAPER}",
    published="29 of 576 heads of R1, off in the base: P(yes) / (P(yes) + P(no)) of right attempts from .958 to .009",
)
AT_LEAST = 0.5
MARGIN = 0.15
"""Share of the gap within which heads chosen on the one model and on the other do the same."""


@CLAIM.as_published(
    measure="fall of P(yes) / (P(yes) + P(no)) of right attempts in the reference, asked whether they are right, with "
    "the subject's heads zeroed at all positions",
    threshold=Threshold(AT_LEAST, reason="more than half of the yes is lost; published 0.949", alpha=None),
    quirks=(
        "right attempts only: heads without which it says no to everything pass",
        "one question, with yes named first",
        "zeroed at all positions: damage passes as well",
    ),
)
def test_the_base_no_longer_says_yes(
    lab: measured.Laboratory, reference_lab: measured.Laboratory, judge: Judge
) -> None:
    """With the heads of R1 off, the base no longer says yes to right attempts."""
    measured.require_counterparts(lab, reference_lab)
    heads, _, _ = lab.a_prev
    asked = measured.Asked(reference_lab)
    rows = reference_lab.observed.rows(reference_lab.observed.test, "correct")
    wrong = reference_lab.observed.rows(reference_lab.observed.test, "target_edited")
    before = asked.says_yes(rows)
    if not heads or not before.mean() >= AT_LEAST:
        raise PreconditionUnmet(
            f"{len(heads)} heads attend to the target, and asked, {reference_lab.subject.name} says yes to right "
            f"attempts with probability {before.mean():.2f}; 1 and {AT_LEAST} are needed"
        )
    after = asked.says_yes(rows, without=heads)
    judge(
        Evidence(
            float((before - after).mean()),
            mi.mean_interval(before - after, seed=lab.seed),
            len(rows),
            by_problem=measured.parts(reference_lab.observed.problem[rows], before - after),
            selected=measured.head_names(heads),
            details={
                "P(yes) before": float(before.mean()),
                "P(yes) after": float(after.mean()),
                "P(yes) of wrong attempts": [float(asked.says_yes(wrong, without=off).mean()) for off in ((), heads)],
            },
        )
    )


@CLAIM.audited(
    measure="necessity in one model of the heads that were chosen on the other: the part of the gap of role-swapped "
    "pairs that right attempts lose when those heads' outputs, from the result to ` (`, are the partner's",
    threshold=Threshold(AT_LEAST, reason="the larger part of what tells right from wrong goes through them"),
    null="sets of as many other heads of the same layers, matched by output norm and size of the change",
)
@pytest.mark.parametrize("turned_off_in", ["reference", "subject"])
def test_both_need_the_same_heads(
    lab: measured.Laboratory, reference_lab: measured.Laboratory, turned_off_in: str, judge: Judge
) -> None:
    """Each of the two models needs the heads of the other as it needs its own."""
    here, other = (lab, reference_lab) if turned_off_in == "subject" else (reference_lab, lab)
    shared = measured.SharedCircuit(here, other)
    shared.require()
    lost, gap, refit = shared.lost(shared.off), shared.gap, shared.refit()
    clean, ablated = shared.off.clean("role_swapped"), shared.off.ablated("role_swapped", "resample")
    same = shared.off.ablated("role_swapped", "same_class")
    effect, interval = measured.share(lost, gap, seed=lab.seed)
    judge(
        Evidence(
            effect=effect,
            interval=interval,
            n=len(gap),
            controls=(
                measured.beyond_rival(lost, (clean.right - same.right)[:, 0], gap, seed=lab.seed),
                measured.same_within(
                    refit, MARGIN, seed=lab.seed,
                    name=f"the model's own heads take another share of the gap, by more than {MARGIN}",
                ),
            ),
            selected=measured.head_names(other.heads.selected),
            details={
                "V before": measured.class_levels(clean.right[:, 0], clean.wrong[:, 0]),
                "V after": measured.class_levels(ablated.right[:, 0], ablated.wrong[:, 0]),
                "AUC after": measured.pair_auc(ablated.right[:, 0], ablated.wrong[:, 0]),
                "own heads' share beyond theirs": float(refit.mean()),
                "p that it is within the margin (two one-sided tests)": mi.equivalence_p(refit, margin=MARGIN),
                "rank correlation of every head's necessity": shared.rank_correlation(),
                "heads in common (Jaccard)": measured.jaccard(here.heads.selected, other.heads.selected),
                "distance of weights; where small, shared by descent": shared.moved(),
            },
        ),
        null=shared.off.draws(
            "role_swapped", "resample", "right", lambda one: float(np.mean((clean.right - one)[:, 0]) / gap.mean())
        ),
    )  # fmt: skip
