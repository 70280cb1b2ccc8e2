"""Are the weights that verify nearly the same in R1 and in its base?

The discussion plots cosines and norms of them in both models and finds them nearly equal. So are most weights of a
fine-tuned model: what is asked here is whether those that verify have moved less than others of their kind, and
whether the reference's do the same work in their place.
"""

from __future__ import annotations

import pytest

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, PAPER, Claim
from claims.harness.types import Judge
from claims.measured.bars import LITTLE_MOVED, PAIRS
from mechinterp import Control, Evidence, PreconditionUnmet, Threshold

CLAIM = Claim(
    "weights.near_identical",
    statement="The weights that verify are nearly the same in the model and in the base that it was trained from.",
    source=f"{DISCUSSION}, Comparing the Verification Mechanism of R1 vs. Base Model; {PAPER}",
    published="plots of cosines and norms, near 1 and near equal",
)
KEPT = 0.9
"""Share of the gap between right and wrong attempts that the reference's weights must keep."""
WEIGHTS = ("heads", "value_vectors")


@CLAIM.as_published(
    measure="mean cosine of these weights and the reference's; n counts weights (parts of heads, or value vectors)",
    threshold=Threshold(
        0.95, reason="near 1: an angle of less than 18 degrees; the source gives plots", alpha=None, min_n=4
    ),
    quirks=(
        "a cosine hides scale",
        "no other weights beside them: where little has moved anywhere, all pass",
        "no weight is exchanged, so that what the difference does is not seen",
    ),
)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_cosines_are_near_one(
    lab: measured.Laboratory, reference_lab: measured.Laboratory, weights: str, judge: Judge
) -> None:
    """Weights that verify have a cosine near 1 with those of the base."""
    moved = measured.MovedWeights(lab, reference_lab, weights)
    moved.changes  # noqa: B018 (refuses other shapes before anything is run)
    if weights == "heads":
        chosen = lab.a_prev[0]
    else:
        chosen = [
            *dict.fromkeys(one for says in ("success", "failure") for one in measured.nearest_to_column(lab, says))
        ]
    if not chosen:
        raise PreconditionUnmet("no head attends to the target with more than a tenth of its attention")
    cosines = moved.cosines(chosen)
    judge(
        Evidence(
            cosines.mean(),
            mi.mean_interval(cosines, seed=lab.seed),
            len(cosines),
            details={"components": len(chosen), "norm, of the reference's": moved.norm_ratio(chosen)},
        )
    )


@CLAIM.audited(
    measure="1 - distance to the reference's weights as a share of their norm, mean over these weights; n counts "
    "weights (parts of heads, or value vectors), which are compared whole",
    threshold=Threshold(
        1 - LITTLE_MOVED,
        reason="equivalent within a twentieth of the norm: the interval of the distance lies below it",
        min_n=4,
    ),
    null="as many other components of the same layers, matched by what they write: have these moved less than others?",
)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_these_weights_have_moved_less_than_others(
    lab: measured.Laboratory, reference_lab: measured.Laboratory, weights: str, judge: Judge
) -> None:
    """Weights that verify are nearly the base's, nearer than others, and the base's do the same work in their place."""
    moved = measured.MovedWeights(lab, reference_lab, weights)
    moved.require_moved()
    lab.ladder.require_by_role()
    distance = moved.of(moved.components)
    low, high = mi.mean_interval(distance, seed=lab.seed)
    kept = {pairs: measured.share(*moved.kept(pairs), seed=lab.seed) for pairs in PAIRS}
    left, (least, most) = kept["role_swapped"]
    judge(
        Evidence(
            effect=1 - distance.mean(),
            interval=(1 - high, 1 - low),
            n=len(distance),
            controls=(
                Control(
                    f"the reference's weights in their place keep less than {KEPT} of the gap",
                    left - KEPT,
                    (least - KEPT, most - KEPT),
                ),
            ),
            selected=measured.component_names(moved.components, weights),
            details={
                "p that the mean distance is below the margin (two one-sided tests)": mi.equivalence_p(
                    distance, margin=LITTLE_MOVED
                ),
                "percentile among all of the kind, by part": moved.percentiles(),
                "gains and biases beside them, largest distance": moved.beside(),
                "median distance of all of the kind": float(moved.distance.median()),
                "share of the gap kept with the reference's weights": {
                    pairs: {"share": share, "interval": list(interval)} for pairs, (share, interval) in kept.items()
                },
                "norm, of the reference's": moved.norm_ratio(moved.components),
            },
        ),
        null=moved.null(),
    )
