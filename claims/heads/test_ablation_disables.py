"""Without these heads, is a right answer no longer recognised?

Part III of the discussion turns off the heads that attend to the target and sees that the model does not recognise
its own right answer. The published run kept no wrong attempts, so that a model which always says `not` would have
passed it. Here necessity is measured in log-odds on pairs of a right and a wrong attempt, in three ways of replacing
what the heads read out, and both classes' levels stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, PAPER, Claim
from claims.harness.types import Judge
from claims.measured.bars import FEWEST, KINDS, PAIRS
from mechinterp import Control, Evidence, PreconditionUnmet, Threshold

CLAIM = Claim(
    "heads.ablation_disables",
    statement="Turning those heads off, the model no longer recognises its own right answer.",
    source=f"{DISCUSSION}, Part III; {PAPER}",
    published="29 of 576 heads (discussion); 33: 96.0 % no longer verified, n = 300 (paper)",
)
AT_LEAST = 0.5
DAMAGE = 0.5
"""Nats a token that other text may lose to an ablation before it counts as damage."""


@CLAIM.as_published(
    measure="share of the right attempts called right (`this` over `not`) that are no longer, with the heads zeroed at "
    "all positions",
    threshold=Threshold(AT_LEAST, reason="more than half of the answers are lost; published 0.96", alpha=None),
    quirks=(
        "right attempts only: a model that then says `not` to everything passes",
        "zeroed at all positions: damage passes as well",
        "heads by the published rule, averaged over four attempts",
        "judged by the next word, where the source lets the model go on",
    ),
)
def test_right_answers_are_not_recognised(lab: measured.Laboratory, judge: Judge) -> None:
    """With the heads off, right answers are not called right."""
    heads, _, _ = lab.a_prev
    rows = lab.observed.rows(lab.observed.test, "correct")
    rows = rows[lab.says_this[rows]]
    if not heads or len(rows) < FEWEST:
        raise PreconditionUnmet(
            f"{len(heads)} heads attend to the target and {len(rows)} right attempts are called right; "
            f"1 and {FEWEST} are needed"
        )
    lost = (~measured.called_right_without(lab, heads, rows)).astype(float)
    judge(
        Evidence(
            lost.mean(),
            mi.share_interval(lost, seed=lab.seed),
            len(lost),
            by_problem=measured.parts(lab.observed.problem[rows], lost),
            selected=measured.head_names(heads),
            details={"heads": measured.head_names(heads)},
        )
    )


@CLAIM.audited(
    measure="necessity: the part of the log-odds gap between right and wrong attempts that right attempts lose when "
    "the heads' outputs, from the result to ` (`, are replaced",
    threshold=Threshold(AT_LEAST, reason="the larger part of what tells right from wrong goes through them"),
    null="sets of as many other heads of the same layers, matched by output norm and size of the change",
)
@pytest.mark.parametrize("by", KINDS)
@pytest.mark.parametrize("pairs", PAIRS)
def test_right_attempts_lose_what_tells_them_apart(lab: measured.Laboratory, pairs: str, by: str, judge: Judge) -> None:
    """Without these heads right attempts lose most of what tells them from wrong ones."""
    lab.ladder.require_by_role()
    off, seed = lab.heads, lab.seed
    off.require()
    clean, ablated = off.clean(pairs), off.ablated(pairs, by)
    gap = clean.right[:, 0] - clean.wrong[:, 0]  # (problems,)
    lost = clean.right[:, 0] - ablated.right[:, 0]

    def without(heads: Sequence[mi.Head]) -> tuple[float, mi.Interval]:
        return measured.share(clean.right[:, 0] - off.ablated(pairs, by, heads).right[:, 0], gap, seed=seed)

    effect, interval = without(off.selected)
    if by == "resample":
        same = off.ablated(pairs, "same_class")
        controls = [measured.beyond_rival(lost, (clean.right - same.right)[:, 0], gap, seed=seed)]
    else:
        lost_too = (clean.wrong - ablated.wrong)[:, 0]
        controls = [
            measured.shift_rival(lost, lost_too, gap, at_least=AT_LEAST, seed=seed),
            survives(measured.damage(lab, off.selected, by), seed),
        ]
    judge(
        Evidence(
            effect=effect,
            interval=interval,
            n=len(gap),
            controls=tuple(controls),
            selected=measured.head_names(off.selected),
            details={
                "V before": measured.class_levels(clean.right[:, 0], clean.wrong[:, 0]),
                "V after": measured.class_levels(ablated.right[:, 0], ablated.wrong[:, 0]),
                "AUC before": measured.pair_auc(clean.right[:, 0], clean.wrong[:, 0]),
                "AUC after": measured.pair_auc(ablated.right[:, 0], ablated.wrong[:, 0]),
                "gap lost by both classes": float((lost - (clean.wrong - ablated.wrong)[:, 0]).mean() / gap.mean()),
                "heads": measured.head_names(off.selected),
                **measured.frozen_heads(lab, without, interval, at_least=AT_LEAST),
            },
        ),
        null=off.draws(pairs, by, "right", lambda one: float((clean.right - one)[:, 0].mean() / gap.mean())),
    )


def survives(damage: np.ndarray, seed: int) -> Control:
    left = DAMAGE - damage
    return Control(
        f"other text loses less than {DAMAGE} nats a token with the heads off everywhere",
        float(left.mean()),
        mi.mean_interval(left, seed=seed),
        "validity",
    )
