"""Do middle layers show words of failure after a wrong attempt?

The discussion sees them beside the words of success: "not" and "failed" in middle layers, before `not 51` is written.
They are measured as those of success are, with the classes exchanged. `not` itself is what the model goes on to say, so
it is no word of the lexicon, and what the last layer shows is taken off.
"""

from __future__ import annotations

import pytest

from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from claims.measured.bars import PAIRS, SITES
from mechinterp import Threshold

CLAIM = Claim(
    "lens.failure_midlayers",
    statement="In middle layers the logit lens shows words of failure after a wrong attempt.",
    source=f"{DISCUSSION}, its findings of Feb 28 and Part III",
    published='"not", "failed", "incomplete" in middle layers; no probability is given',
)
AT_LEAST = 0.1


@CLAIM.as_published(
    measure="probability of the words of failure at ` (` after wrong attempts, in the middle layer that shows them "
    "most",
    threshold=Threshold(AT_LEAST, reason="the most visible group of words in a layer's table", alpha=None),
    quirks=(
        "one class: what the layer shows after right attempts is not looked at",
        "the layer is picked by its value",
    ),
)
def test_middle_layers_say_failure(lab: measured.Laboratory, judge: Judge) -> None:
    """In middle layers the logit lens shows words of failure after a wrong attempt."""
    judge(measured.shown_most(lab, "failure"))


@CLAIM.audited(
    measure="probability of the words of failure under the lens in the chosen middle layer, wrong minus right "
    "attempts, minus the same in the last layer",
    threshold=Threshold(
        AT_LEAST, reason="as for success, of which a probability is published: clearly visible in a table of tokens"
    ),
    null="random lexicons of the same kind and frequency",
)
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("site", SITES)
def test_failure_is_shown_before_it_is_said(lab: measured.Laboratory, site: str, pairs: str, judge: Judge) -> None:
    """Middle layers show words of failure after wrong attempts, more than the last layer does."""
    judge(*measured.shown_before_said(lab, site, pairs, "failure"))
