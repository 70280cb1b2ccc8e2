"""Evidence and verdict. No torch here, so that reports can read it.

Evidence    what was measured: effect, interval, n, null of matched controls, corrected p-value
Threshold   what was demanded of it, written before the run
Control     a rival explanation, and by how much the effect exceeds it
verdict_of  the verdict: a pure function of the two
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Verdict = Literal["holds", "refuted", "inconclusive", "not_applicable", "error", "not_run"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Interval = tuple[float, float]


class PreconditionUnmet(Exception):
    """What must be true of the subject for the claim to mean anything is not: the verdict is not_applicable."""


class InstrumentError(Exception):
    """An instrument check failed: every claim that stands on it is an error."""


@dataclass(frozen=True)
class Threshold:
    """The effect must reach `at_least`, with a corrected p-value of `alpha` at most, on `min_n` problems or more."""

    at_least: float
    alpha: float = 0.05
    min_n: int = 16

    def __str__(self) -> str:
        return f"effect >= {self.at_least:g}, p <= {self.alpha:g}, n >= {self.min_n}"


@dataclass(frozen=True)
class Control:
    """A rival explanation. `margin` is by how much the effect exceeds it; an interval above 0 rules the rival out."""

    name: str
    margin: float
    interval: Interval


@dataclass(frozen=True)
class Evidence:
    """What was measured on one subject for one case of a claim.

    Attributes:
        effect: in the unit that the claim states.
        interval: 95 % interval of the effect, clustered by problem.
        n: problems it was judged on (never those it was selected on).
        p_value: corrected over the layers, heads and claims tried.
        null: the effect under each draw of the matched control.
        controls: further rivals, each of which must be exceeded.
        noise: by how much the effect moves between attention kernels and batch sizes, in its own unit.
        series: named curves worth a picture, such as accuracy by layer.
        details: anything else a reader needs to redo or doubt the measurement, as JSON values.
    """

    effect: float
    interval: Interval
    n: int
    p_value: float
    null: tuple[float, ...] = ()
    controls: tuple[Control, ...] = ()
    noise: float = 0.0
    series: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


def verdict_of(evidence: Evidence, threshold: Threshold) -> tuple[Verdict, list[str]]:
    """The verdict, and the reasons for it in sentences.

    Holds only if everything demanded is shown: interval above the threshold by more than the noise, every
    control exceeded, p small enough, n large enough. Refuted if the interval, widened by the noise, lies below
    the threshold, or a control explains the effect. Anything that is not a number is an error, never a pass.
    """
    low, high = evidence.interval
    margins = [value for control in evidence.controls for value in (control.margin, *control.interval)]
    measured = [evidence.effect, low, high, evidence.n, evidence.p_value, evidence.noise, *evidence.null, *margins]
    if not all(math.isfinite(value) for value in measured):
        return "error", ["the measurement is not finite"]
    if not all(math.isfinite(value) for value in (threshold.at_least, threshold.alpha, threshold.min_n)):
        return "error", ["the threshold is not finite"]
    if not low <= high or not 0 <= evidence.p_value <= 1 or evidence.noise < 0:
        return "error", ["the measurement is inconsistent (interval reversed, or p-value or noise out of range)"]
    slack = 1e-6 * max(1.0, abs(evidence.effect))  # rounding, where interval and effect coincide
    if not low - slack <= evidence.effect <= high + slack:
        return "error", [f"the effect {evidence.effect:.3g} lies outside its interval [{low:.3g}, {high:.3g}]"]
    if evidence.n < threshold.min_n:
        return "inconclusive", [f"n = {evidence.n} is too small for a verdict; {threshold.min_n} problems are needed"]
    refuted, open_ = [], []
    if high + evidence.noise < threshold.at_least:
        refuted.append(f"the effect stays below {threshold.at_least:g}")
    elif low - evidence.noise < threshold.at_least:
        open_.append(f"the interval (noise {evidence.noise:.2g}) straddles the threshold {threshold.at_least:g}")
    for control in evidence.controls:
        c_low, c_high = control.interval
        if c_high < 0:
            refuted.append(f"control explains it: {control.name} (margin {control.margin:.3g})")
        elif c_low <= 0:
            open_.append(f"not told apart from control: {control.name} (margin {control.margin:.3g})")
    if evidence.p_value > threshold.alpha:
        open_.append(f"p = {evidence.p_value:.3g} (corrected) is above {threshold.alpha:g}")
    if refuted:
        return "refuted", refuted
    if open_:
        return "inconclusive", open_
    return "holds", []
