"""Do value vectors, turned round, name the opposite?

Part II of the discussion turns value vectors near the probe round: minus a vector of failure often unembeds to words of
success, and the other way. So a neuron that is negative would promote the same words as one of the other kind. Minus a
vector near the probe lies near minus the probe: synthetic vectors of the same cosine tell how much of that is left.
"""

from __future__ import annotations

import pytest

from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from claims.measured.bars import CLUSTER, CLUSTER_TOP, NEAREST, TABLES
from mechinterp import Threshold

CLAIM = Claim(
    "values.antipodes",
    statement="Value vectors near the probe's direction, turned round, unembed to the opposite words.",
    source=f"{DISCUSSION}, Part II",
    published='tables of five vectors of each kind of the 3B model: "sometimes (but not always!)"',
)
AT_LEAST = 0.1
WHY = "five vectors of fifty fill a table as the source's; of a table by chance there would be no token"
SAYS = pytest.mark.parametrize("says", ["success", "failure"])
"""Which kind of vectors is turned round."""


@CLAIM.as_published(
    measure=f"share of the {NEAREST} value vectors nearest to the published probe's column that, times -1, have "
    f"{CLUSTER} or more of their {CLUSTER_TOP} top tokens in the opposite lexicon; of a published table, share of its "
    f"tokens that are among the {CLUSTER_TOP} nearest to the same vector times -1",
    threshold=Threshold(AT_LEAST, reason=WHY, alpha=None),
    quirks=(
        "no comparison: minus a vector near one column is near the other, and names what that names",
        "forms of one word count as so many words; n counts vectors (of a table tokens), or fewer problems",
        "tables are chosen examples, not all of them opposite; whether it is their model is told by its shape",
    ),
)
@pytest.mark.parametrize("of", ["success", "failure", *TABLES])
def test_turned_round_they_name_the_opposite(lab: measured.Laboratory, of: str, judge: Judge) -> None:
    """Value vectors near the probe's column, times -1, unembed to the opposite words."""
    if of in TABLES:
        judge(measured.table_overlap(lab, TABLES[of], antipodes=True))
    else:
        judge(measured.named_near_column(lab, of, antipodes=True))


@CLAIM.audited(
    measure=f"share of the {NEAREST} nearest value vectors of the second half of the layers that, times -1, have "
    f"{CLUSTER} or more of their first {CLUSTER_TOP} words in the opposite lexicon, above synthetic vectors of the "
    "same cosine; n counts value vectors, or problems where they are fewer",
    threshold=Threshold(AT_LEAST, reason="five vectors of fifty more than their direction alone explains"),
    null="synthetic vectors: the same cosine to the probe, and otherwise like another value vector of the layer",
)
@SAYS
def test_antipodes_name_more_than_minus_the_probe(lab: measured.Laboratory, says: str, judge: Judge) -> None:
    """Value vectors near the probe, times -1, name the opposite words, more than their nearness explains."""
    judge(*measured.named_near_probe(lab, says, antipodes=True))
