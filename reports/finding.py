"""A finding: a claim on a subject, with its evidence and verdict.

finding_from     the finding for what was measured
finding_without  the finding for what could not be measured
Finding          what was demanded, what was measured, and the verdict
ControlRecord    a rival explanation, and by how much the effect exceeded it
NullSummary      the effect under the draws of the matched control
Strict           the base of every model in a report
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from mechinterp.evidence import Evidence, Threshold, Verdict, verdict_of
from reports.text import finite, jsonable, well_formed

MAX_NULL = 1000
Tier = Literal["as_published", "audited"]


def finding_from(evidence: Evidence, threshold: Threshold, **facts: Any) -> Finding:
    """The finding for what was measured.

    Args:
        evidence: the measurement; what is not finite in it makes the verdict an error.
        threshold: what was demanded of it.
        facts: what the claim says of itself, by the names in `Finding`: claim, tier and subject at least;
            case, reference, statement, measure, control, published, source, expected, expected_reason,
            series_axis, series_unit and seconds where they apply.
    """
    verdict, reasons = verdict_of(evidence, threshold)
    null: list[float | None] = [float(draw) for draw in evidence.null]
    return Finding(
        **facts,
        verdict=verdict,
        reasons=reasons,
        effect=float(evidence.effect),
        interval=(float(evidence.interval[0]), float(evidence.interval[1])),
        n=int(evidence.n) if math.isfinite(evidence.n) else None,
        p_value=None if evidence.p_value is None else float(evidence.p_value),
        threshold=str(threshold),
        at_least=float(threshold.at_least),
        draws=len(null),
        null_summary=_summary(null),
        null=null if len(null) <= MAX_NULL else [],
        controls=[ControlRecord(name=c.name, margin=c.margin, interval=c.interval) for c in evidence.controls],
        noise=float(evidence.noise),
        series={name: [float(value) for value in curve] for name, curve in evidence.series.items()},
        details=evidence.details,
    )


def finding_without(
    verdict: Literal["not_applicable", "error", "not_run"],
    reason: str,
    threshold: Threshold | None = None,
    **facts: Any,
) -> Finding:
    """The finding for what could not be measured: no effect, only the reason. For `facts` see `finding_from`."""
    if threshold is not None:
        facts |= {"threshold": str(threshold), "at_least": threshold.at_least}
    return Finding(**facts, verdict=verdict, reasons=[reason])


def _summary(null: list[float | None]) -> NullSummary | None:
    if not null:
        return None
    with np.errstate(all="ignore"):  # what overflows becomes None
        draws = np.asarray(null, dtype=float)
        return NullSummary(mean=draws.mean(), p95=np.percentile(draws, 95), max=draws.max())


def _interval(value: Any) -> Any:
    """None for an interval with an end that is not a number."""
    if isinstance(value, list | tuple) and len(value) == 2 and None in map(finite, value):
        return None
    return value


Text = Annotated[str, BeforeValidator(well_formed)]
Number = Annotated[float | None, BeforeValidator(finite)]
Bounds = Annotated[tuple[float, float] | None, BeforeValidator(_interval)]
Details = Annotated[dict[str, JsonValue], BeforeValidator(jsonable)]


class Strict(BaseModel):
    """A model that knows its fields, all documented, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ControlRecord(Strict):
    """A rival explanation, and by how much the effect exceeded it."""

    name: Text
    """The rival, in words."""
    margin: Number = None
    """Effect minus rival, in the unit of the effect."""
    interval: Bounds = None
    """95 % interval of the margin; above 0 rules the rival out."""


class NullSummary(Strict):
    """The effect under the draws of the matched control, in three numbers."""

    mean: Number = None
    """Mean over the draws."""
    p95: Number = None
    """95th percentile of the draws."""
    max: Number = None
    """Largest draw."""


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
    measure: Text = ""
    """What the effect is, with its unit."""
    threshold: Text = ""
    """What was demanded of the effect, written before the run."""
    at_least: Number = None
    """The number in the threshold that the effect had to reach."""
    control: Text = ""
    """The matched control that the null was drawn from."""
    verdict: Verdict
    """holds, refuted, inconclusive, not_applicable, error or not_run."""
    reasons: list[Text] = []
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
    """Corrected over the layers, heads and claims tried."""
    draws: int = Field(default=0, ge=0)
    """Number of draws of the matched control."""
    null_summary: NullSummary | None = None
    """The draws in short."""
    null: list[Number] = Field(default=[], max_length=1000)
    """The effect under each draw; empty if there were more than a thousand."""
    controls: list[ControlRecord] = []
    """Further rivals."""
    noise: Number = None
    """By how much the effect moves between attention kernels and batch sizes, in its own unit."""
    series: dict[Text, list[Number]] = {}
    """Named curves, such as accuracy by layer."""
    series_axis: Text = "layer"
    """What the curves run over. A curve of this name holds the positions; without it they are 0, 1, 2, ..."""
    series_unit: Text = ""
    """What the curves show. If it equals `measure`, the threshold is drawn across them."""
    details: Details = {}
    """Anything else a reader needs to redo or doubt the measurement."""
    seconds: Number = None
    """Time it took."""

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the expected one."""
        return self.verdict == self.expected

    @property
    def label(self) -> str:
        """The claim with its case, and its tier where that is not the audited one: `probe.decodable[as published]`."""
        marks = [mark for mark in (self.case, "as published" if self.tier == "as_published" else "") if mark]
        return f"{self.claim}[{', '.join(marks)}]" if marks else self.claim

    @model_validator(mode="after")
    def _holds_needs_a_measurement(self) -> Finding:
        if self.verdict != "holds":
            return self
        needed = {"effect": self.effect, "interval": self.interval, "n": self.n, "p_value": self.p_value}
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            raise ValueError(f"the verdict holds needs a finite {', '.join(missing)}")
        if self.interval is not None and self.interval[0] > self.interval[1]:
            raise ValueError("the verdict holds needs an interval [low, high] with low <= high")
        if (self.n is not None and self.n < 1) or (self.p_value is not None and not 0 <= self.p_value <= 1):
            raise ValueError("the verdict holds needs n >= 1 and a p_value between 0 and 1")
        return self
