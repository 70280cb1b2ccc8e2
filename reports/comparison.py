"""A run beside its baseline: one function for `python -m reports compare` and for `pytest --baseline`.

by_label    the findings of a report, each by its label
compare     what became of every finding of the baseline
against     the change of one finding, as `compare` would say it
Comparison  provenance first, then the ladder, then a change a finding
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports.change import WORDS, Change, change_of
from reports.fields import Strict, Text
from reports.finding import Finding, Tier
from reports.origin import Difference, contrast, origin_of, same_problems
from reports.outcome import by_claim
from reports.schema import Origin, Report, ReportError
from reports.text import short

MOST_NAMED = 10


class RungChange(Strict):
    """How far both subjects verify at all; null where that was not measured."""

    baseline: Text | None
    """Rung of the baseline's subject."""
    new: Text | None
    """Rung of the subject."""


class Comparison(Strict):
    """A run beside its baseline."""

    baseline: Text
    """Name of the baseline's subject."""
    new: Text
    """Name of the subject."""
    same_weights: bool
    """Whether both are known to be the very same weights."""
    provenance: list[Difference]
    """What differs between the runs, weights first."""
    rung: RungChange
    """The ladder."""
    changes: list[Change]
    """One for each finding of either, claim by claim; those that vanished last."""
    left_out: list[Tier]
    """Tiers of the baseline that the run was not asked for."""
    passes: bool
    """Whether there is nothing to accept: every finding is kept, and so is the rung."""
    line: Text
    """What it comes to, in a line."""


def compare(old: Report, new: Report, first: Report | None = None) -> Comparison:
    """Compare a run with its baseline.

    Args:
        old: the baseline, or an earlier report.
        new: the run.
        first: the report that slow drift is judged against; by default the findings that the baseline accepted first.

    Raises:
        ReportError: a report has two findings of one label.
    """
    before, now = by_label(old), by_label(new)
    asked = set(new.tiers) or {finding.tier for finding in new.findings}
    left_out = [tier for tier in dict.fromkeys(f.tier for f in old.findings) if tier not in asked]
    missing = [label for label, finding in before.items() if label not in now and finding.tier not in left_out]
    changes = [against(old, finding, new, first) for finding in by_claim(new.findings)]
    changes += [_vanished(before[label]) for label in missing]
    rung = RungChange(baseline=old.ladder.rung if old.ladder else None, new=new.ladder.rung if new.ladder else None)
    passes = bool(new.findings) and all(each.passes for each in changes) and rung.baseline == rung.new
    known = old.subject.sha256 is not None
    return Comparison(
        baseline=old.subject.name,
        new=new.subject.name,
        same_weights=known and old.subject.sha256 == new.subject.sha256,
        provenance=contrast(old, new),
        rung=rung,
        changes=changes,
        left_out=left_out,
        passes=passes,
        line=_line(changes, rung, passes),
    )


def against(old: Report, finding: Finding, run: Report | Origin, first: Report | None = None) -> Change:
    """The change of one finding of a run.

    What is kept step by step may drift all the same. A finding that is clearly weaker than the first accepted one is so
    called, unless the baseline was so already: then it was accepted.
    """
    origin = run if isinstance(run, Origin) else origin_of(run, finding.label)
    holding = sum(each.verdict == "holds" for each in old.findings)
    before = next((each for each in old.findings if each.label == finding.label), None)
    change = _step(before, old, finding, origin, holding)
    begun, begun_at = _first(old, finding.label, first)
    if before is None or begun is None:
        return change
    drift = change_of(begun, finding, same_problems=same_problems(begun_at, origin), holding=holding)
    changed: dict[str, object] = {"drift": drift.change, "drift_interval": drift.interval}
    if change.word == "kept" and drift.word in ("degraded", "lost"):
        accepted = change_of(
            begun, before, same_problems=same_problems(begun_at, origin_of(old, finding.label)), holding=holding
        )
        if accepted.word not in ("degraded", "lost"):
            why = f"drift, step by step, since the first accepted run of {begun_at.created:%Y-%m-%d}: {drift.why}"
            changed |= {"word": drift.word, "passes": False, "why": short(why, 300)}
    return change.model_copy(update=changed)


def _step(before: Finding | None, old: Report, finding: Finding, origin: Origin, holding: int) -> Change:
    same = before is not None and same_problems(origin_of(old, finding.label), origin)
    return change_of(before, finding, same_problems=same, holding=holding)


def _vanished(finding: Finding) -> Change:
    return change_of(finding, None, same_problems=False)


def _first(old: Report, label: str, first: Report | None) -> tuple[Finding | None, Origin]:
    if first is not None:
        found = next((each for each in first.findings if each.label == label), None)
        return found, origin_of(first, label)
    accepted = old.accepted.get(label)
    if accepted is None or accepted.first is None or accepted.first_origin is None:
        return None, origin_of(old, label)
    return accepted.first, accepted.first_origin


def by_label(report: Report) -> dict[str, Finding]:
    """Raises ReportError: two findings have one label."""
    found = {finding.label: finding for finding in report.findings}
    if len(found) < len(report.findings):
        twice = Counter(finding.label for finding in report.findings).most_common(1)[0][0]
        raise ReportError(
            f"the report on {short(report.subject.name, 80)!r} has two findings {short(twice, 120)!r}; expected one a "
            "label: compare reports of one run each"
        )
    return found


def _line(changes: Sequence[Change], rung: RungChange, passes: bool) -> str:
    if not changes:
        return "no claim was run, and a comparison without findings is a failure"
    counts = Counter(change.word for change in changes)
    said = ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
    named = [f"{short(each.label, 120)} {each.word}" for each in changes if not each.passes]
    if rung.baseline != rung.new:
        named.insert(0, f"the ladder went from {rung.baseline or 'not measured'} to {rung.new or 'not measured'}")
    more = len(named) - MOST_NAMED
    told = ", ".join(named[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"{said}; nothing to accept" if passes else f"{said}; to be accepted: {told or 'no finding was made'}"
