"""Do middle layers show words of success after a right attempt?

Part II of the discussion applies the logit lens at the ` (` before `this works`: "success", "OK", "bingo", "yes"
stand in middle layers. Words that the last layer would say as well are no trace of a mechanism, so what the last
layer shows is taken off.
"""

from __future__ import annotations

import pytest

from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from claims.measured.bars import PAIRS, SITES
from mechinterp import Threshold

CLAIM = Claim(
    "lens.success_midlayers",
    statement="In middle layers the logit lens shows words of success after a right attempt.",
    source=f"{DISCUSSION}, Part II",
    published='"success", "OK", "bingo", "yes" in middle layers; P("SUCCESS") = 0.73 in layer 26 of 36',
)
AT_LEAST = 0.1


@CLAIM.as_published(
    measure="probability of the words of success at ` (` after right attempts, in the middle layer that shows them "
    "most",
    threshold=Threshold(AT_LEAST, reason="the most visible group of words in a layer's table", alpha=None),
    quirks=(
        "one class: what the layer shows after wrong attempts is not looked at",
        "the layer is picked by its value",
    ),
)
def test_middle_layers_say_success(lab: measured.Laboratory, judge: Judge) -> None:
    """In middle layers the logit lens shows words of success after a right attempt."""
    judge(measured.shown_most(lab, "success"))


@CLAIM.audited(
    measure="probability of the words of success under the lens in the chosen middle layer, right minus wrong "
    "attempts, minus the same in the last layer",
    threshold=Threshold(
        AT_LEAST, reason="a seventh of the published 0.73: clearly visible in a table of a layer's tokens"
    ),
    null="random lexicons of the same kind and frequency",
)
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("site", SITES)
def test_success_is_shown_before_it_is_said(lab: measured.Laboratory, site: str, pairs: str, judge: Judge) -> None:
    """Middle layers show words of success after right attempts, more than the last layer does."""
    judge(*measured.shown_before_said(lab, site, pairs, "success"))
