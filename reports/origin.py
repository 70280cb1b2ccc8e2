"""Where two reports come from, and what of that differs: said before anything else of a comparison.

origin_of      the run that a finding of a report came from
same_problems  whether two findings were judged on the same problems
contrast       what differs between the runs of two reports
Difference     one such fact
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

from reports.fields import Strict, Text
from reports.schema import Origin, Report, SubjectFacts

SHAPE = ("family", "n_layers", "n_heads", "n_kv_heads", "d_model", "d_mlp")
RUN_IN = ("dtype", "device", "attention")


class Difference(Strict):
    """A fact that is not the same of both runs."""

    name: Text
    """Which fact."""
    baseline: Text
    """As it was."""
    new: Text
    """As it is."""
    kind: Literal["point", "caution"]
    """point: other weights, which is what a comparison is for. caution: anything else, which may move numbers too."""


def origin_of(report: Report, label: str | None = None) -> Origin:
    """The run that a finding came from: of a baseline, that from which it was accepted."""
    if label is not None and label in report.accepted:
        return report.accepted[label].origin
    return Origin(
        created=report.created,
        sha256=report.subject.sha256,
        dataset_hash=report.subject.dataset_hash,
        seeds=report.seeds,
        suite_revision=report.environment.suite_revision,
    )


def same_problems(one: Origin, other: Origin) -> bool:
    """Whether two runs were on the same problems, in the same halves; what is not known is not the same."""
    return one.dataset_hash is not None and (one.dataset_hash, one.seeds) == (other.dataset_hash, other.seeds)


def contrast(old: Report, new: Report) -> list[Difference]:
    """What differs between the runs of two reports, weights first."""
    return [*_contrast(old, new)]


def _contrast(old: Report, new: Report) -> Iterator[Difference]:
    before, now = old.subject, new.subject
    yield from _unequal("weights", _weights(before), _weights(now), kind="point")
    for name in (*SHAPE, *RUN_IN):
        yield from _unequal(name, getattr(before, name), getattr(now, name))
    yield from _unequal("problems", before.dataset_hash, now.dataset_hash)
    yield from _unequal("number of problems", old.settings.n_problems, new.settings.n_problems)
    yield from _unequal("seeds", old.seeds, new.seeds)
    yield from _unequal("tiers", sorted(old.tiers), sorted(new.tiers))
    yield from _unequal("reference", _weights(old.reference), _weights(new.reference))
    if len(runs := _runs(old)) > 1:
        several = ", ".join(f"{count} of {begun:%Y-%m-%d %H:%M}" for begun, count in sorted(runs.items()))
        yield Difference(name="findings by run", baseline=several, new=str(len(new.findings)), kind="caution")
    yield from _unequal("suite", _suite(old), _suite(new))
    versions = old.environment.versions, new.environment.versions
    for package in dict.fromkeys([*versions[0], *versions[1]]):
        yield from _unequal(package, versions[0].get(package), versions[1].get(package))
    for name in ("python", "platform"):
        yield from _unequal(name, getattr(old.environment, name), getattr(new.environment, name))


def _unequal(name: str, old: Any, new: Any, kind: Literal["point", "caution"] = "caution") -> Iterator[Difference]:
    if old != new:
        yield Difference(name=name, baseline=_said(old), new=_said(new), kind=kind)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)


def _weights(facts: SubjectFacts | None) -> str | None:
    """Their digest; where that is not known, their name and revision, so far as these tell."""
    if facts is None:
        return None
    return facts.sha256 or "@".join(part for part in (facts.hub or facts.name, facts.revision) if part)


def _runs(baseline: Report) -> Counter[datetime]:
    """From how many runs its findings were accepted."""
    return Counter(origin_of(baseline, finding.label).created for finding in baseline.findings)


def _suite(report: Report) -> str | None:
    revision = report.environment.suite_revision
    return f"{revision} with local changes" if revision and report.environment.suite_dirty else revision
