"""Is the verdict written in the residual stream, and in almost every layer?

Part I of the discussion fits a linear probe for each layer on the ` (` before `this works` / `not 51`. The published
probes saw the model's own rollouts, where an attempt's index, its length and its having been seen before all go with
the label. Here a probe must also tell pairs apart in which only the role of the result differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, PAPER, Claim
from claims.harness.types import Judge
from claims.measured.bars import PROBE_READS, SITES
from mechinterp import Control, Draws, Evidence, Threshold

if TYPE_CHECKING:
    from torch import Tensor

CLAIM = Claim(
    "probe.decodable",
    statement="The verdict is linearly decodable from the residual stream, in almost every layer.",
    source=f"{DISCUSSION}, Part I; {PAPER}",
    published="near perfect in every layer from the 4th of 36",
)
FAR = 0.9
BAR = Threshold(FAR, reason="`near perfect`; 72 problems hold it nearly always at .99 and half the time at .97")


@CLAIM.as_published(
    measure="accuracy of the published probe, mean over layers from 1/12 of the depth",
    threshold=Threshold(FAR, reason=BAR.reason, alpha=None),
    quirks=(
        "labels are the model's own next word, not the truth",
        "stopped early on the very set whose accuracy is reported",
        "right results have been seen before, wrong ones have not",
        "the released code reads one token early: what is called ` (` there is the last digit",
    ),
)
@pytest.mark.parametrize("site", SITES)
def test_own_remarks_are_decodable(lab: measured.Laboratory, site: str, judge: Judge) -> None:
    """The model's next word is linearly decodable in almost every layer."""
    probe = lab.published_probe(site)
    depth = lab.subject.anatomy.n_layers
    accuracy = probe.accuracy[:, -(-depth // 12) :].mean(1)
    problems = np.unique(probe.problem)
    by_problem = np.array([accuracy[probe.problem == p].mean() for p in problems])
    judge(
        Evidence(
            by_problem.mean(),
            mi.mean_interval(by_problem, seed=lab.seed),
            len(by_problem),
            by_problem=measured.parts(problems, by_problem),
            series={"accuracy": probe.accuracy.mean(0).tolist()},
        )
    )


@CLAIM.audited(
    measure="balanced accuracy on held-out problems: of the best layer, or the mean over layers from 1/12 of the depth",
    threshold=BAR,
    null="labels permuted within each problem in both halves, probes refitted",
)
@pytest.mark.parametrize("layers", ["best_layer", "almost_every_layer"])
@pytest.mark.parametrize("site", SITES)
def test_the_verdict_is_decodable(lab: measured.Laboratory, site: str, layers: str, judge: Judge) -> None:
    """The verdict is linearly decodable from the residual stream."""
    probing, seed = lab.probing[site], lab.seed
    depth = lab.subject.anatomy.n_layers
    lens = measured.lens_accuracy(lab, site)  # (problems, layers)
    every = list(range(-(-depth // 12), depth))
    which = [best_unread_layer(lab, site)] if layers == "best_layer" else every
    accuracy = probing.accuracy(probing.scores)  # (problems, layers)
    effect = accuracy[:, which].mean(1)
    swapped = probing.role_swapped(probing.scores)
    foils = probing.against(probing.scores, "foil")
    untrained = measured.untrained_accuracy(lab, site)
    interval = (mi.share_interval if layers == "best_layer" else mi.mean_interval)(effect, seed=seed)

    def reads(scores: Tensor, layer: int) -> tuple[float, mi.Interval]:
        found = probing.accuracy(scores.numpy())[:, [layer] if layers == "best_layer" else every].mean(1)
        return float(found.mean()), mi.mean_interval(found, seed=seed)

    judge(
        Evidence(
            effect=effect.mean(),
            interval=interval,
            n=len(effect),
            controls=(
                above(f"repetition: {PROBE_READS} of role-swapped pairs", swapped[:, which].mean(1), seed),
                above(f"repetition: {PROBE_READS} against foils", foils[:, which].mean(1), seed),
                *(sharing(probing, digit, which, seed) for digit in ("tens", "last")),
                margin("attempt index and length", effect - measured.surface_accuracy(lab), seed),
                margin("untrained weights", effect[: len(untrained)] - untrained[:, which].mean(1), seed),
                margin("the logit lens of the remark in the same layers", effect - lens[:, which].mean(1), seed),
            ),
            series={
                "accuracy": accuracy.mean(0).tolist(),
                "role-swapped pairs": swapped.mean(0).tolist(),
                "foils": foils.mean(0).tolist(),
                "logit lens of the remark": lens.mean(0).tolist(),
                "untrained weights": untrained.mean(0).tolist(),
            },
            by_problem=measured.parts(lab.observed.test.problems, effect),
            selected=tuple(f"layer {layer}" for layer in which) if layers == "best_layer" else (),
            details={"layers": which, "accuracy for its own remarks": measured.own_remarks(lab, probing, which)}
            | measured.frozen_probe(lab, site, reads, interval, at_least=BAR.at_least),
        ),
        null=Draws(lambda numbers: probing.null(numbers, which).mean(1)),
    )


def best_unread_layer(lab: measured.Laboratory, site: str) -> int:
    """The layer with the least loss on the fit half; where the lens reads the remark already, a probe says nothing new,
    so among those where it does not, if there are any."""
    unread = measured.lens_accuracy(lab, site, fit=True).mean(0) < FAR
    loss = lab.probing[site].loss
    return int(np.where(unread | ~unread.any(), loss, np.inf).argmin())


def sharing(probing: measured.Probing, digit: str, which: list[int], seed: int) -> Control:
    accuracy, _ = probing.sharing(probing.scores, digit)
    return above(f"the {digit} digit alone: {PROBE_READS} where it is shared", accuracy[:, which].mean(1), seed)


def above(name: str, accuracy: np.ndarray, seed: int) -> Control:
    return margin(name, accuracy - PROBE_READS, seed)


def margin(name: str, differences: np.ndarray, seed: int) -> Control:
    """A rival that the effect exceeds by these differences, one a problem; of one problem nothing is told apart."""
    if len(differences) < 2:
        return Control(name, 0.0, (-1.0, 1.0))
    return Control(name, float(differences.mean()), mi.mean_interval(differences, seed=seed))
