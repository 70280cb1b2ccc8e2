"""Evidence and verdict. No torch here, so that reports can read it.

Evidence         what was measured: effect, interval, n, controls, the null of matched controls and its p-value
Threshold        what was demanded of it, written before the run
Control          a rival explanation, or a check that the measurement means something
verdict_of       the verdict: a pure function of the two
verdict_of_seeds the verdict of a case that was run on several seeds
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mechinterp.pictures import Picture

Verdict = Literal["holds", "refuted", "inconclusive", "not_applicable", "error", "not_run"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Interval = tuple[float, float]
Kind = Literal["rival", "validity"]
KINDS: tuple[Kind, ...] = get_args(Kind)
STABLE = 0.8
"""The share of seeds that must agree: four of five."""
TIE = 1e-9
"""Two numbers this close are equal: rounding must not decide a verdict."""


class PreconditionUnmet(Exception):
    """What must be true of the subject for the claim to mean anything is not: the verdict is not_applicable."""


class InstrumentError(Exception):
    """An instrument check failed: every claim that stands on it is an error."""


@dataclass(frozen=True)
class Threshold:
    """What is demanded of an effect, written before it is first measured on a real model.

    Attributes:
        at_least: what the whole interval must reach.
        reason: why this much, in a sentence.
        alpha: the largest p-value over the null, shared by the cases of the claim; None for a protocol without a null
            (`as_published`).
        min_n: problems below which nothing is decided.
    """

    at_least: float
    reason: str = ""
    alpha: float | None = 0.05
    min_n: int = 16

    def __str__(self) -> str:
        p = "" if self.alpha is None else f"p <= {self.alpha:g}, "
        return f"effect >= {self.at_least:g}, {p}n >= {self.min_n}"


@dataclass(frozen=True)
class Control:
    """Something else that the measurement is held against.

    Attributes:
        margin: for a rival, by how much the effect exceeds it; for a validity check, by how much it is passed.
        interval: 95 % interval of the margin; wholly above 0 rules the rival out, or passes the check.
        kind: a `rival` is another explanation: an effect that does not exceed it is refuted. A `validity` check says
            that the measurement means something: without it the verdict is inconclusive.
    """

    name: str
    margin: float
    interval: Interval
    kind: Kind = "rival"


@dataclass(frozen=True)
class Evidence:
    """What was measured on one subject for one case of a claim.

    Attributes:
        effect: in the unit that the claim states.
        interval: 95 % interval of the effect, clustered by problem.
        n: problems it was judged on (never those it was selected on).
        p_value: raw, over the null; None before the null is drawn, and for a protocol without one.
        null: the effect under each draw of the matched control.
        distinct: how many different draws exist, where that is known and few; None where there is no such limit.
        controls: rivals and validity checks.
        noise: by how much the effect moves between attention kernels and batch sizes, in its own unit.
        selected: what was chosen on the fit half (heads, layers, neurons), for how well seeds agree on it.
        by_problem: each problem's part of the effect, by the problem's id: the effect is their mean. Runs on the same
            problems are then compared problem by problem. Empty for an effect that is no mean.
        series: named curves worth a picture, such as accuracy by layer.
        series_axis: what they run over; a curve of that name holds the positions.
        bands: by the name of a curve, an interval at each of its points, such as the random band of a head count.
        pictures: grids, texts and tables to look at.
        details: anything else a reader needs to redo or doubt the measurement, as JSON values.
    """

    effect: float
    interval: Interval
    n: int
    p_value: float | None = None
    null: tuple[float, ...] = ()
    distinct: int | None = None
    controls: tuple[Control, ...] = ()
    noise: float = 0.0
    selected: tuple[str, ...] = ()
    by_problem: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)
    series_axis: str = "layer"
    bands: dict[str, list[Interval]] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def verdict_of(evidence: Evidence, threshold: Threshold, *, family: int = 1) -> tuple[Verdict, list[str]]:
    """The verdict, and the reasons for it in sentences.

    Holds only if everything demanded is shown: interval above the threshold by more than the noise, every rival ruled
    out, every validity check passed, p small enough, n large enough. A validity check that is not passed makes it
    inconclusive whatever else was found. Refuted if the interval, widened by the noise, lies below the threshold, or a
    rival explains the effect. Anything that is not a number is an error, never a pass.

    Args:
        family: cases of this claim in this tier; alpha is divided by it (Bonferroni).
    """
    try:
        problem = _malformed(evidence, threshold, family)
    except (TypeError, ValueError, OverflowError):
        problem = "the measurement, or what is demanded of it, is not made of numbers"
    if problem:
        return "error", [problem]
    (low, high), bar, tie = evidence.interval, threshold.at_least, _tie(threshold.at_least)
    if evidence.n < threshold.min_n:
        return "inconclusive", [f"n = {evidence.n} is too small for a verdict; {threshold.min_n} problems are needed"]
    invalid = [
        f"validity not shown: {control.name} (margin {control.margin:.3g})"
        for control in evidence.controls
        if control.kind == "validity" and control.interval[0] <= TIE
    ]
    refuted, open_ = [], []
    if high + evidence.noise < bar - tie:
        refuted.append(f"the effect stays below {bar:g}")
    elif low - evidence.noise < bar - tie:
        open_.append(f"the interval (noise {evidence.noise:.2g}) straddles the threshold {bar:g}")
    for control in evidence.controls:
        if control.kind == "rival" and control.interval[1] < -TIE:
            refuted.append(f"a rival explains it: {control.name} (margin {control.margin:.3g})")
        elif control.kind == "rival" and control.interval[0] <= TIE:
            open_.append(f"not told apart from a rival: {control.name} (margin {control.margin:.3g})")
    chance = _chance(evidence, threshold, family)
    decided = invalid or refuted or open_
    few = threshold.alpha is not None and 1 / (1 + len(evidence.null)) > threshold.alpha / family + TIE
    if not (decided and few and evidence.distinct is None):  # draws made for the reader only say nothing of p
        open_ += chance
    if invalid:
        return "inconclusive", [*invalid, *refuted, *open_]
    if refuted:
        return "refuted", refuted
    return ("inconclusive", open_) if open_ else ("holds", [])


def verdict_of_seeds(verdicts: Sequence[Verdict]) -> tuple[Verdict, list[str]]:
    """The verdict that four of five seeds agree on; disagreement is inconclusive.

    One seed with an error, or one that was not run, decides for all: what is missing is never outvoted.
    """
    if not verdicts or "error" in verdicts:
        return "error", ["a seed ended in an error" if verdicts else "no seed was run"]
    if "not_run" in verdicts:
        return "not_run", ["not every seed was run"]
    word, count = Counter(verdicts).most_common(1)[0]
    if count >= STABLE * len(verdicts) - TIE:
        return word, []
    found = ", ".join(f"{word} on {count}" for word, count in Counter(verdicts).most_common())
    return "inconclusive", [f"the verdict changes with the seed: {found} of {len(verdicts)} seeds"]


def _chance(evidence: Evidence, threshold: Threshold, family: int) -> list[str]:
    """Why the null does not allow "holds", if it does not."""
    if threshold.alpha is None or evidence.p_value is None:
        return []
    allowed = threshold.alpha / family
    if evidence.p_value <= allowed + TIE:
        return []
    shared = "" if family == 1 else f" = {threshold.alpha:g} / {family} cases"
    if evidence.distinct is not None and 1 / (1 + evidence.distinct) > allowed:
        return [
            f"not testable here: only {evidence.distinct} matched controls exist, and p cannot fall to {allowed:.2g}"
        ]
    return [f"p = {evidence.p_value:.3g} is above {allowed:.2g}{shared}"]


def _malformed(evidence: Evidence, threshold: Threshold, family: int) -> str | None:
    low, high = evidence.interval
    margins = [value for control in evidence.controls for value in (control.margin, *control.interval)]
    measured = [evidence.effect, low, high, evidence.n, evidence.noise, *evidence.null, *margins]
    measured += evidence.by_problem.values()
    measured += [] if evidence.p_value is None else [evidence.p_value]
    if not all(math.isfinite(value) for value in measured):
        return "the measurement is not finite"
    demanded = [threshold.at_least, threshold.min_n, family] + ([] if threshold.alpha is None else [threshold.alpha])
    if not all(math.isfinite(value) for value in demanded) or family < 1:
        return "the threshold is not finite"
    if threshold.alpha is not None and evidence.p_value is None:
        return "there is no p-value: no null was drawn"
    if low > high or not 0 <= (evidence.p_value or 0) <= 1 or evidence.noise < 0:
        return "the measurement is inconsistent (interval reversed, or p-value or noise out of range)"
    if odd := [control.kind for control in evidence.controls if control.kind not in KINDS]:
        return f"a control is neither {' nor '.join(KINDS)}, but {odd[0]!r}"
    if any(control.interval[0] > control.interval[1] for control in evidence.controls):
        return "the measurement is inconsistent (the interval of a control is reversed)"
    slack = 1e-6 * max(1.0, abs(evidence.effect))  # rounding, where interval and effect coincide
    if not low - slack <= evidence.effect <= high + slack:
        return f"the effect {evidence.effect:.3g} lies outside its interval [{low:.3g}, {high:.3g}]"
    if parts := list(evidence.by_problem.values()):
        mean = sum(parts) / len(parts)
        if abs(mean - evidence.effect) > 1e-4 * max(1.0, abs(evidence.effect)):  # sums of fp32 differ by less
            return f"the effect {evidence.effect:.3g} is not the mean {mean:.3g} of its problems' parts"
    return None


def _tie(value: float) -> float:
    return TIE * max(1.0, abs(value))
