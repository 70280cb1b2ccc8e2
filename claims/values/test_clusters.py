"""Do value vectors near the probe name verification words?

Part II of the discussion takes the MLP value vectors (columns of `down_proj`) nearest to the probe's direction and
finds that they unembed to words of success and failure, English and Chinese. A vector that has the probe's direction
in it names what the probe names: synthetic vectors of the same cosine tell how much of that is left.
"""

from __future__ import annotations

import pytest

from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from claims.measured.bars import CLUSTER, CLUSTER_TOP, NEAREST, TABLES
from mechinterp import Threshold

CLAIM = Claim(
    "values.clusters",
    statement="Value vectors near the probe's direction unembed to verification words.",
    source=f"{DISCUSSION}, Part II",
    published="two tables of value vectors of the 3B model, English and Chinese",
)
AT_LEAST = 0.1
WHY = "five vectors of fifty fill a table as the source's; of a table by chance there would be no token"
SAYS = pytest.mark.parametrize("says", ["success", "failure"])


@CLAIM.as_published(
    measure=f"share of the {NEAREST} value vectors nearest to the published probe's column with {CLUSTER} or more of "
    f"their {CLUSTER_TOP} top tokens in the lexicon; of a published table, share of its tokens that are among the "
    f"{CLUSTER_TOP} nearest to the same vector",
    threshold=Threshold(AT_LEAST, reason=WHY, alpha=None),
    quirks=(
        "no comparison: a vector near the probe names what the probe names",
        "forms of one word count as so many words; n counts vectors (of a table tokens), or fewer problems",
        "tables are chosen examples, and whether it is their model is told by its shape",
    ),
)
@pytest.mark.parametrize("of", ["success", "failure", *TABLES])
def test_value_vectors_name_verification(lab: measured.Laboratory, of: str, judge: Judge) -> None:
    """Value vectors near the probe's column unembed to verification words."""
    if of in TABLES:
        judge(measured.table_overlap(lab, TABLES[of]))
    else:
        judge(measured.named_near_column(lab, of))


@CLAIM.audited(
    measure=f"share of the {NEAREST} nearest value vectors of the second half of the layers with {CLUSTER} or more of "
    f"their first {CLUSTER_TOP} words in the lexicon, above synthetic vectors of the same cosine; n counts value "
    "vectors, or problems where they are fewer",
    threshold=Threshold(AT_LEAST, reason="five vectors of fifty more than their direction alone explains"),
    null="synthetic vectors: the same cosine to the probe, and otherwise like another value vector of the layer",
)
@SAYS
def test_value_vectors_name_more_than_the_probe(lab: measured.Laboratory, says: str, judge: Judge) -> None:
    """Value vectors near the probe name verification words, more than their nearness explains."""
    judge(*measured.named_near_probe(lab, says))
