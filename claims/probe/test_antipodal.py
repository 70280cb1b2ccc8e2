"""Are the directions of right and of wrong opposite?

The released probe has two columns a layer, and they point in opposite directions. They must: a softmax sees only their
difference, so training moves two random columns apart by the same amount, and their cosine comes out as -1 + 1/norm^2
whatever was learnt. Here right and wrong attempts are told from a third class, each on problems of its own: the same
texts without a target, of which no one can say whether they are right.
"""

from __future__ import annotations

import numpy as np
import pytest

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from claims.measured.bars import SITES
from mechinterp import Draws, Evidence, Threshold

CLAIM = Claim(
    "probe.antipodal",
    statement="The probe's directions of right and of wrong are opposite.",
    source=f"{DISCUSSION}, Part I; the released probe",
    published="the cosine of the two columns is -1 + 1/norm^2 in all 36 layers of the released probe, within 0.0004",
)
AT_LEAST = 0.5
WHY = "more than 120 degrees apart: as vectors of three classes, neutral lies between the two"
RESAMPLES = 200
"""Refits for the interval."""


@CLAIM.as_published(
    measure="-cosine of the published probe's two columns, mean over layers from 1/12 of the depth",
    threshold=Threshold(AT_LEAST, reason=WHY, alpha=None, min_n=4),
    quirks=(
        "the columns are opposite by construction, as far as training has moved them: the cosine is -1 + 1/norm^2",
        "n counts layers",
    ),
)
@pytest.mark.parametrize("site", SITES)
def test_the_columns_are_opposite(lab: measured.Laboratory, site: str, judge: Judge) -> None:
    """The two columns of the probe point in opposite directions."""
    columns = lab.published_probe(site).columns.double()  # (layers, d_model, 2)
    one, other = columns.unbind(-1)
    cosines = ((one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))).numpy()
    by_construction = (-1 + 1 / columns.square().sum(1).mean(1)).numpy()
    opposite = -cosines[-(-len(cosines) // 12) :]
    judge(
        Evidence(
            opposite.mean(),
            mi.mean_interval(opposite, seed=lab.seed),
            len(opposite),
            series={"cosine of the columns": cosines.tolist(), "-1 + 1/norm^2": by_construction.tolist()},
            details={"farthest from -1 + 1/norm^2": float(np.abs(cosines - by_construction).max())},
        )
    )


@CLAIM.audited(
    measure="-cosine of the directions that tell right, and that tell wrong attempts from the same texts without a "
    "target, fitted on problems of their own, in the layer that reads the verdict best on the fit half",
    threshold=Threshold(AT_LEAST, reason=WHY),
    null="each problem's three texts take the three classes at random, directions refitted",
)
@pytest.mark.parametrize("site", SITES)
def test_right_and_wrong_are_opposite(lab: measured.Laboratory, site: str, judge: Judge) -> None:
    """From where nothing can be judged, right lies one way and wrong the other."""
    lab.require_probe(site)
    opposites, layer = measured.Opposites(lab, site), int(lab.probing[site].loss.argmin())
    n, depth = len(lab.observed.test), lab.subject.anatomy.n_layers
    judge(
        Evidence(
            effect=opposites.effect(layer),
            interval=mi.statistic_interval(
                lambda rows: opposites.resampled(layer, rows), n, seed=lab.seed, resamples=RESAMPLES, at_once=True
            ),
            n=n,
            selected=(f"layer {layer}",),
            series={"-cosine": [opposites.effect(at) for at in range(depth)]},
            details={"layer": layer, "distance of the means from neutral": opposites.lengths(layer)},
        ),
        null=Draws(lambda numbers: opposites.split_at_random(layer, numbers)),
    )
