"""Do these heads alone bring the verdict back?

The other half of the exchange of Part III: where wrong attempts get the heads' outputs of the right attempt beside
them, does the model take them for right? Necessity and sufficiency are never added up: patched both ways at once, all
heads together give 2.0 by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from claims.measured.bars import PAIRS
from mechinterp import Evidence, Threshold

if TYPE_CHECKING:
    from mechinterp import Head, Interval

CLAIM = Claim(
    "heads.rescue",
    statement="Those heads alone bring the verdict back: with their outputs of a right attempt, a wrong one passes.",
    source=f"{DISCUSSION}, Part III (implied; the source has no protocol for it)",
    published="-",
)

AT_LEAST = 0.5


@CLAIM.audited(
    measure="sufficiency: the part of the log-odds gap that wrong attempts gain when the heads' outputs, from the "
    "result to ` (`, are those of the right attempt beside them",
    threshold=Threshold(AT_LEAST, reason="the larger part of what tells right from wrong comes through them alone"),
    null="sets of as many other heads of the same layers, matched by output norm and size of the change",
)
@pytest.mark.parametrize("pairs", PAIRS)
def test_these_heads_bring_the_verdict_back(lab: measured.Laboratory, pairs: str, judge: Judge) -> None:
    """Wrong attempts with these heads' outputs of right ones are taken for right."""
    lab.ladder.require_by_role()
    off, seed = lab.heads, lab.seed
    off.require()
    clean, patched, same = off.clean(pairs), off.ablated(pairs, "resample"), off.ablated(pairs, "same_class")
    gap = clean.right[:, 0] - clean.wrong[:, 0]
    gained = patched.wrong[:, 0] - clean.wrong[:, 0]

    def given(heads: Sequence[Head]) -> tuple[float, Interval]:
        return measured.share(off.ablated(pairs, "resample", heads).wrong[:, 0] - clean.wrong[:, 0], gap, seed=seed)

    effect, interval = given(off.selected)
    circuit, circuit_interval = measured.share(off.circuit_only(pairs)[:, 0] - clean.wrong[:, 0], gap, seed=seed)
    judge(
        Evidence(
            effect=effect,
            interval=interval,
            n=len(gap),
            controls=(measured.beyond_rival(gained, (same.wrong - clean.wrong)[:, 0], gap, seed=seed),),
            selected=measured.head_names(off.selected),
            details={
                "V before": measured.class_levels(clean.right[:, 0], clean.wrong[:, 0]),
                "V of wrong attempts, patched": float(patched.wrong[:, 0].mean()),
                "circuit only: right attempts with all other heads those of the wrong ones": {
                    "share of the gap": circuit,
                    "interval": list(circuit_interval),
                },
                **measured.frozen_heads(lab, given, interval, at_least=AT_LEAST),
            },
        ),
        null=off.draws(pairs, "resample", "wrong", lambda one: float((one - clean.wrong)[:, 0].mean() / gap.mean())),
    )
