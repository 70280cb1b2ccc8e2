"""A finding: a claim on a subject, with its evidence and verdict.

finding_from     the finding for what was measured
finding_without  the finding for what could not be measured
Finding          what was demanded, what was measured, and the verdict
ControlRecord    a rival explanation or a validity check, with its margin
SeedRecord       what one of several seeds found
NullSummary      the effect under the draws of matched controls
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from mechinterp.evidence import Evidence, Threshold, Verdict, verdict_of
from reports.fields import Bounds, Details, Number, Strict, Text
from reports.pictures import Picture, stored

MAX_NULL = 1000
Tier = Literal["as_published", "audited"]


def finding_from(evidence: Evidence, threshold: Threshold, *, family: int = 1, **facts: Any) -> Finding:
    """The finding for what was measured.

    Args:
        evidence: the measurement; what is not finite in it makes the verdict an error.
        threshold: what was demanded of it.
        family: cases of this claim in this tier; alpha is divided by it.
        facts: what the claim says of itself, by the names in `Finding`: claim, tier and subject at least;
            case, reference, statement, measure, null_of, published, setting, quirks, source, expected,
            expected_reason, series_unit and seconds where they apply.
    """
    verdict, reasons = verdict_of(evidence, threshold, family=family)
    if verdict == "holds" and evidence.p_value is None and facts.get("tier") == "audited":
        verdict, reasons = "error", ["an audited claim was judged without a null"]
    null: list[float | None] = [float(draw) for draw in evidence.null]
    return Finding(
        **facts,
        **_demanded(threshold),
        family=family,
        verdict=verdict,
        reasons=reasons,
        effect=float(evidence.effect),
        interval=(float(evidence.interval[0]), float(evidence.interval[1])),
        n=int(evidence.n) if math.isfinite(evidence.n) else None,
        p_value=None if evidence.p_value is None else float(evidence.p_value),
        draws=len(null),
        distinct=evidence.distinct,
        null_summary=_summary(null),
        null=null if len(null) <= MAX_NULL else [],
        controls=[
            ControlRecord(name=c.name, kind=c.kind, margin=c.margin, interval=c.interval) for c in evidence.controls
        ],
        noise=float(evidence.noise),
        selected=list(evidence.selected),
        by_problem={name: float(part) for name, part in evidence.by_problem.items()},
        series={name: [float(value) for value in curve] for name, curve in evidence.series.items()},
        series_axis=evidence.series_axis,
        bands={name: [(float(low), float(high)) for low, high in band] for name, band in evidence.bands.items()},
        pictures=stored(evidence.pictures),
        details=evidence.details,
    )


def finding_without(
    verdict: Literal["not_applicable", "error", "not_run"],
    reason: str,
    threshold: Threshold | None = None,
    **facts: Any,
) -> Finding:
    """The finding for what could not be measured: no effect, only the reason. For `facts` see `finding_from`."""
    demanded = {} if threshold is None else _demanded(threshold)
    return Finding(**facts, **demanded, verdict=verdict, reasons=[reason])


def _demanded(threshold: Threshold) -> dict[str, Any]:
    return {
        "threshold": str(threshold),
        "threshold_reason": threshold.reason,
        "at_least": threshold.at_least,
        "alpha": threshold.alpha,
    }


def _summary(null: list[float | None]) -> NullSummary | None:
    if not null:
        return None
    with np.errstate(all="ignore"):  # what overflows becomes None
        draws = np.asarray(null, dtype=float)
        return NullSummary(mean=draws.mean(), p95=np.percentile(draws, 95), max=draws.max())


class ControlRecord(Strict):
    """Something else that the measurement was held against."""

    name: Text
    """What it is, in words."""
    kind: Literal["rival", "validity"] = "rival"
    """rival: another explanation, which the effect has to exceed. validity: a check that the measurement means
    something."""
    margin: Number = None
    """By how much the effect exceeds the rival, or the check is passed."""
    interval: Bounds = None
    """95 % interval of the margin; above 0 rules the rival out, or passes the check."""


class NullSummary(Strict):
    """The effect under the draws of matched controls, in three numbers."""

    mean: Number = None
    """Mean over the draws."""
    p95: Number = None
    """95th percentile of the draws."""
    max: Number = None
    """Largest draw."""


class SeedRecord(Strict):
    """What one seed found: other problems, other halves, other draws."""

    seed: int
    """The seed."""
    verdict: Verdict
    """Its verdict."""
    effect: Number = None
    """Its effect."""
    interval: Bounds = None
    """95 % interval of its effect."""
    p_value: Number = None
    """Its p-value, raw."""
    reasons: list[Text] = Field(default_factory=list)
    """Why its verdict is not holds."""
    selected: list[Text] = Field(default_factory=list)
    """What it chose on the fit half."""


class Finding(Strict):
    """A claim on a subject: what was demanded, what was measured, and the verdict."""

    claim: Text
    """Id of the claim, such as heads.ablation_disables."""
    tier: Tier
    """as_published: the source's own protocol. audited: with the controls that make it mean something."""
    case: Text = ""
    """Which case of the claim, such as last_digit; empty for a claim with one case."""
    subject: Text
    """Name of the checkpoint that was examined."""
    reference: Text | None = None
    """Name of the checkpoint it was compared with."""
    statement: Text = ""
    """The claim in one sentence."""
    source: Text = ""
    """Where the claim was published."""
    published: Text = ""
    """The published figure, for the reader; the verdict does not depend on it."""
    setting: Text = ""
    """What the published figure was measured on, and how."""
    quirks: list[Text] = Field(default_factory=list)
    """as_published only: what of the source's protocol is known to mislead, kept on purpose."""
    measure: Text = ""
    """What the effect is, with its unit."""
    threshold: Text = ""
    """What was demanded of the effect, written before the run."""
    threshold_reason: Text = ""
    """Why this much was demanded."""
    at_least: Number = None
    """The number in the threshold that the effect had to reach."""
    alpha: Number = None
    """The largest p-value, shared by the family; null for a protocol without a null."""
    family: int = Field(default=1, ge=1)
    """Cases of this claim in this tier: alpha is divided by it."""
    null_of: Text = ""
    """What the draws of the null are, such as random heads of the same layers."""
    verdict: Verdict
    """holds, refuted, inconclusive, not_applicable, error or not_run."""
    reasons: list[Text] = Field(default_factory=list)
    """Why the verdict is not holds, in sentences."""
    expected: Verdict = "holds"
    """The verdict that is expected on this subject."""
    expected_reason: Text | None = None
    """Why another verdict than holds is expected."""
    effect: Number = None
    """What was measured, in the unit of `measure`; null if it was not measured or is not finite."""
    interval: Bounds = None
    """95 % interval of the effect, [low, high]."""
    n: int | None = None
    """Problems that it was judged on."""
    p_value: Number = None
    """Raw, over the null: (1 + draws that reach the effect) / (1 + draws)."""
    draws: int = Field(default=0, ge=0)
    """Draws of the null that were made: fewer than could be had, where no further draw could change the verdict."""
    distinct: int | None = None
    """How many different draws exist, where that is few; null where there is no such limit."""
    null_summary: NullSummary | None = None
    """The draws in short."""
    null: list[Number] = Field(default_factory=list, max_length=1000)
    """The effect under each draw; empty if there were more than a thousand."""
    controls: list[ControlRecord] = Field(default_factory=list)
    """Rivals and validity checks."""
    noise: Number = None
    """By how much the effect moves between attention kernels and batch sizes, in its own unit."""
    selected: list[Text] = Field(default_factory=list)
    """What was chosen on the fit half, such as heads."""
    seeds: list[SeedRecord] = Field(default_factory=list)
    """What each seed found, where there were several; all other fields are then of the first seed that found the
    verdict that most of them share."""
    spread: Number = None
    """Largest minus smallest effect over the seeds."""
    jaccard: Number = None
    """How well the seeds agree on what they chose: mean of |A and B| / |A or B| over all pairs of seeds."""
    by_problem: dict[Text, Number] = Field(default_factory=dict)
    """Each problem's part of the effect, which is their mean, by the problem's id; empty for an effect that is no mean.
    Runs on the same problems are compared problem by problem."""
    series: dict[Text, list[Number]] = Field(default_factory=dict)
    """Named curves, such as accuracy by layer."""
    series_axis: Text = "layer"
    """What the curves run over. A curve of this name holds the positions; without it they are 0, 1, 2, ..."""
    series_unit: Text = ""
    """What the curves show. If it equals `measure`, the threshold is drawn across them."""
    bands: dict[Text, list[Bounds]] = Field(default_factory=dict)
    """By the name of a curve, an interval at each of its points."""
    pictures: list[Picture] = Field(default_factory=list)
    """Grids, texts and tables to look at; no verdict depends on them."""
    details: Details = Field(default_factory=dict)
    """Anything else a reader needs to redo or doubt the measurement."""
    seconds: Number = None
    """Time it took."""

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the expected one."""
        return self.verdict == self.expected

    @property
    def label(self) -> str:
        """What tells it from all others, as models.toml does: `claim.id[case]`, or `claim.id[case]@as_published`."""
        case = f"[{self.case}]" if self.case else ""
        return f"{self.claim}{case}{'@as_published' if self.tier == 'as_published' else ''}"

    @model_validator(mode="after")
    def _holds_needs_a_measurement(self) -> Finding:
        if self.verdict != "holds":
            return self
        needed: dict[str, Any] = {"effect": self.effect, "interval": self.interval, "n": self.n}
        if self.tier == "audited":
            needed["p_value"] = self.p_value
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            raise ValueError(f"the verdict holds needs a finite {', '.join(missing)}")
        if self.interval is not None and self.interval[0] > self.interval[1]:
            raise ValueError("the verdict holds needs an interval [low, high] with low <= high")
        if (self.n is not None and self.n < 1) or (self.p_value is not None and not 0 <= self.p_value <= 1):
            raise ValueError("the verdict holds needs n >= 1 and a p_value between 0 and 1")
        return self
