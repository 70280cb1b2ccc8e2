"""Without these heads, are the success value vectors silent?

Part III of the discussion plots the activations of the value vectors of success before and after the heads are turned
off. Activations are weighted here by what they write along the probe: fifty neurons, three of which write, are three.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from claims.measured.bars import PAIRS
from mechinterp import Evidence, PreconditionUnmet, Threshold

CLAIM = Claim(
    "heads.silence_values",
    statement="With those heads off, the success value vectors no longer fire.",
    source=f"{DISCUSSION}, Part III",
    published="a plot of activations before and after",
)
AT_LEAST = 0.5


@CLAIM.as_published(
    measure="relative drop of what the success value vectors write along the probe after right attempts, heads zeroed",
    threshold=Threshold(AT_LEAST, reason="the plot shows most of it gone", alpha=None),
    quirks=("one class: what falls may have been no sign of success", "no other heads are turned off for comparison"),
)
def test_success_values_are_silent(lab: measured.Laboratory, judge: Judge) -> None:
    """With the heads off, the success value vectors write less after right attempts."""
    off = lab.heads
    off.require()
    before, after = off.clean("target_edited").right[:, 1], off.ablated("target_edited", "zero").right[:, 1]
    if before.mean() <= 0:
        raise PreconditionUnmet(f"the success value vectors write nothing along the probe ({before.mean():.3g})")
    effect, interval = measured.share(before - after, before, seed=lab.seed)
    judge(Evidence(effect, interval, len(before), details={"before": before.mean(), "after": after.mean()}))


@CLAIM.audited(
    measure="necessity: the part of what the success value vectors write along the probe at ` (`, right minus wrong "
    "attempts, that right attempts lose when the heads are zeroed from the result to ` (`",
    threshold=Threshold(AT_LEAST, reason="the larger part of their signal comes through the heads"),
    null="sets of as many other heads of the same layers, matched by output norm",
)
@pytest.mark.parametrize("pairs", PAIRS)
def test_the_signal_of_success_values_is_lost(lab: measured.Laboratory, pairs: str, judge: Judge) -> None:
    """Without these heads the success value vectors lose what they say of right attempts."""
    lab.ladder.require_by_role()
    off, seed = lab.heads, lab.seed
    off.require()
    clean, ablated = off.clean(pairs), off.ablated(pairs, "zero")
    gap = (clean.right - clean.wrong)[:, 1]
    low, high = mi.mean_interval(gap, seed=seed)
    if low <= 0:
        raise PreconditionUnmet(
            f"the success value vectors do not write more after right attempts: "
            f"gap {gap.mean():.3g} [{low:.3g}, {high:.3g}]"
        )
    lost, lost_too = (clean.right - ablated.right)[:, 1], (clean.wrong - ablated.wrong)[:, 1]

    def without(heads: Sequence[mi.Head]) -> tuple[float, mi.Interval]:
        return measured.share((clean.right - off.ablated(pairs, "zero", heads).right)[:, 1], gap, seed=seed)

    effect, interval = without(off.selected)
    weights = np.sort(np.abs(lab.values.written.numpy()))[::-1]
    judge(
        Evidence(
            effect=effect,
            interval=interval,
            n=len(gap),
            controls=(measured.shift_rival(lost, lost_too, gap, at_least=AT_LEAST, seed=seed),),
            selected=measured.head_names(off.selected),
            details={
                "written before": measured.class_levels(clean.right[:, 1], clean.wrong[:, 1]),
                "written after": measured.class_levels(ablated.right[:, 1], ablated.wrong[:, 1]),
                "value vectors": len(weights),
                "share of the weights in the largest three": float(weights[:3].sum() / weights.sum()),
                **measured.frozen_heads(lab, without, interval, at_least=AT_LEAST),
            },
        ),
        null=off.draws(pairs, "zero", "right", lambda one: float((clean.right - one)[:, 1].mean() / gap.mean())),
    )
