"""Do the words of success in the middle layers come from the value vectors near the probe?

Part II of the discussion zeroes the 50 value vectors of each layer of the second half that are nearest to the probe
(0.2 % of all): in layer 26 P("SUCCESS") falls from 0.73 to 0.38, and the model still says `this`. With the vectors
nearest to the opposite direction off as well, more is lost.
"""

from __future__ import annotations

import numpy as np
import pytest

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from claims.measured.bars import VECTORS
from mechinterp import Control, Draws, Evidence, PreconditionUnmet, Threshold
from mechinterp.nulls import MOST

CLAIM = Claim(
    "values.ablation_lens",
    statement="Zeroing the value vectors nearest to the probe lowers the success words of the middle layers.",
    source=f"{DISCUSSION}, Part II",
    published='50 a layer in the second half (0.2 % of all): P("SUCCESS") in layer 26 from 0.73 to 0.38, by 0.48',
)
AT_LEAST = 0.25
SHOWS = 0.05
"""Probability of success words from which there is something to lower."""
KEEPS = 0.5
"""Of the gap that right attempts stand above wrong ones, what they must keep for the remark to have survived."""


@CLAIM.as_published(
    measure="relative drop of the success words' probability at ` (` after right attempts, in the middle layer that "
    "shows them most",
    threshold=Threshold(AT_LEAST, reason="half of the published drop of 0.48", alpha=None),
    quirks=("one class", "no other neurons are zeroed for comparison", "the layer is picked by its value"),
)
@pytest.mark.parametrize("vectors", VECTORS)
def test_zeroing_value_vectors_lowers_success_words(lab: measured.Laboratory, vectors: str, judge: Judge) -> None:
    """Zeroing the value vectors nearest to the probe lowers the success words of the middle layers."""
    off = measured.NeuronsOff(lab, shown_layer(lab, fit=False))
    before, after = off.run([None, measured.zeroed(lab, vectors)])[..., 0]
    effect, interval = drop(before, after, lab.seed)
    judge(
        Evidence(
            effect, interval, len(before), details={"layer": off.layer, "before": before.mean(), "after": after.mean()}
        )
    )


@CLAIM.audited(
    measure="relative drop of the success words' probability under the logit lens after right attempts, at ` (` in the "
    "middle layer of the second half that shows them most on the fit half",
    threshold=Threshold(AT_LEAST, reason="half of the published drop of 0.48"),
    null="as many neurons of the same layers, as active as these and writing as much",
)
@pytest.mark.parametrize("vectors", VECTORS)
def test_these_value_vectors_make_the_success_words(lab: measured.Laboratory, vectors: str, judge: Judge) -> None:
    """Zeroing these value vectors, and not others like them, lowers the success words of the middle layers."""
    lab.ladder.require_by_role()
    lab.require_probe()
    off = measured.NeuronsOff(lab, shown_layer(lab, fit=True))
    neurons = measured.zeroed(lab, vectors)
    clean, ablated, valid = off.run([None, neurons, measured.zeroed(lab, "valid")])  # (right attempts, 2) each
    before, after = clean[:, 0], ablated[:, 0]
    effect, interval = drop(before, after, lab.seed)
    observed = lab.observed
    gap = (lab.v[observed.rows(observed.test, "correct")] - lab.v[observed.rows(observed.test, "target_edited")]).mean()
    kept = (1 - (clean[:, 1] - ablated[:, 1]) / gap) - KEEPS  # of each right attempt
    sets, curve = measured.matched_sets(lab, neurons, MOST), off.doses(vectors, float(gap))
    more, bounds = measured.share(valid[:, 0] - after, before, seed=lab.seed)

    def null(numbers: range) -> list[float]:
        return [1 - one[:, 0].mean() / before.mean() for one in off.run(sets[numbers.start : numbers.stop])]

    judge(
        Evidence(
            effect=effect,
            interval=interval,
            n=len(before),
            controls=(
                Control(
                    f"the remark survives: V of right attempts keeps {KEEPS} of the gap",
                    float(kept.mean()),
                    mi.mean_interval(kept, seed=lab.seed),
                    "validity",
                ),
            ),
            selected=tuple(f"MLP[{layer}, {i}]" for layer, i in neurons),
            series=curve.series,
            series_axis=measured.DOSE,
            bands=curve.bands,
            details={
                "layer": off.layer,
                "before": before.mean(),
                "after": after.mean(),
                "value vectors": len(neurons),
                "drop beyond that of the valid ones alone": [more, *bounds],
                "band": "as many matched neurons, 95 %",
                "V of right attempts": {"before": clean[:, 1].mean(), "after": ablated[:, 1].mean()},
            },
        ),
        null=Draws(null),
    )


def shown_layer(lab: measured.Laboratory, *, fit: bool) -> int:
    """The layer of the second half that shows success words most after right attempts; the last layers left out."""
    observed = lab.observed
    layers = [layer for layer in lab.lens.middle if layer in lab.values.second_half] or [lab.lens.last]
    shown = lab.lens.probability(
        "open_paren", observed.rows(observed.fit if fit else observed.test, "correct"), layers, "success"
    )
    best = int(shown.mean(0).argmax())
    if not (p := float(shown[:, best].mean())) >= SHOWS:
        raise PreconditionUnmet(f"layer {layers[best]} shows success words with probability {p:.3f}; {SHOWS} is needed")
    return layers[best]


def drop(before: np.ndarray, after: np.ndarray, seed: int) -> tuple[float, mi.Interval]:
    def relative(rows: np.ndarray) -> np.ndarray:
        return 1 - after[rows].mean(-1) / before[rows].mean(-1)

    everyone = np.arange(len(before))
    return float(relative(everyone)), mi.statistic_interval(relative, len(before), seed=seed, at_once=True)
