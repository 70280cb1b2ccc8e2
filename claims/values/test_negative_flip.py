"""Do value vectors of the other kind fire negatively, and so write the same words?

Part II of the discussion concludes from tables of turned vectors that "inactive negative value vectors also get flipped
to promote similar tokens". Half of all neurons are negative anyway: what counts is how many more are so after the
attempts that they would speak for, and whether what they then write is a part of what tells the classes apart.
"""

from __future__ import annotations

import pytest

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from claims.measured.bars import CLUSTER, CLUSTER_TOP, NEAREST, PAIRS
from mechinterp import Control, Draws, Evidence, PreconditionUnmet, Threshold
from mechinterp.nulls import MOST

CLAIM = Claim(
    "values.negative_flip",
    statement="Value vectors of the other kind fire negatively, and so promote the same words.",
    source=f"{DISCUSSION}, Part II",
    published="tables of five vectors of each kind, turned round; no activations are shown",
)
AT_LEAST = 0.2
PART = 0.1
"""Of what value vectors of both kinds write along the probe, what must come from those that are turned round."""
SAYS = pytest.mark.parametrize("says", ["success", "failure"])
"""What they promote where they are negative: vectors of failure after right attempts, of success after wrong ones."""
OTHER = {"success": "failure", "failure": "success"}


@CLAIM.as_published(
    measure=f"share of the {NEAREST} value vectors nearest to the other kind's column that are negative on average "
    f"after attempts of the class and, times -1, have {CLUSTER} or more of {CLUSTER_TOP} top tokens in its lexicon",
    threshold=Threshold(0.1, reason="five vectors of fifty fill a table as the source's", alpha=None),
    quirks=(
        "one class: half of all neurons are negative after any attempt",
        "what they write is not compared with what others write",
        "n counts vectors, or problems where they are fewer",
    ),
)
@SAYS
def test_negative_vectors_name_the_other_words(lab: measured.Laboratory, says: str, judge: Judge) -> None:
    """After attempts of a class, vectors of the other kind are negative and, turned round, name its words."""
    neurons, observed = measured.nearest_to_column(lab, OTHER[says]), lab.observed
    rows = observed.rows(observed.test, "correct" if says == "success" else "incorrect")
    _, named = measured.names_as_published(lab, neurons, says, -1)
    negative = measured.activations(measured.fired(lab, rows), neurons).mean(0) < 0
    both = (named & negative).double().numpy()
    judge(
        Evidence(
            both.mean(),
            mi.share_interval(both, seed=lab.seed),
            min(len(both), len(observed.test)),
            details={"negative": float(negative.double().mean()), "name them, times -1": float(named.double().mean())},
        )
    )


@CLAIM.audited(
    measure=f"of the {NEAREST} value vectors of the second half nearest to the other end of the probe, the share that "
    "is negative and so writes towards this end, after attempts of the class minus after those of the other",
    threshold=Threshold(AT_LEAST, reason="ten vectors of fifty that turn round with the class"),
    null="as many neurons of the same layers, as active as these and writing as much",
)
@pytest.mark.parametrize("pairs", PAIRS)
@SAYS
def test_the_other_kind_turns_round(lab: measured.Laboratory, says: str, pairs: str, judge: Judge) -> None:
    """Vectors of the other kind turn negative with the class, and what they then write tells it from the other."""
    lab.ladder.require_by_role()
    lab.require_probe()
    firing, values, seed = measured.Firing(lab, pairs, says), lab.values, lab.seed
    sign = 1 if says == "success" else -1
    others = values.nearest(-sign)
    gap = firing.gap([*others, *values.nearest(sign)])
    low, high = mi.mean_interval(gap, seed=seed)
    if low <= 0:
        raise PreconditionUnmet(
            f"value vectors near the probe do not write more of {says} after attempts of the class: "
            f"gap {gap.mean():.3g} [{low:.3g}, {high:.3g}]"
        )
    found = firing.flips(others)
    part, (part_low, part_high) = measured.share(found.written, gap, seed=seed)
    matches = values.matched(others, pool=10 * max(1, len(others) // len(values.second_half)))
    sets = mi.draw_matched(matches, draws=MOST, seed=seed)
    judge(
        Evidence(
            effect=found.more.mean(),
            interval=mi.mean_interval(found.more, seed=seed),
            n=len(found.more),
            controls=(
                Control(
                    f"vectors that turn round and write next to nothing: {PART} of the gap must be theirs",
                    part - PART,
                    (part_low - PART, part_high - PART),
                ),
            ),
            selected=tuple("MLP[{}, {}]".format(*one) for one in others),
            by_problem=measured.parts(lab.observed.problem[firing.rows[0]], found.more),
            details={
                "negative and towards this end": {"the class": found.own.mean(), "the other": found.other.mean()},
                "part of the gap": part,
                "gap, along the probe": gap.mean(),
            },
        ),
        null=Draws(lambda numbers: [firing.flips(sets[i]).more.mean() for i in numbers]),
    )
