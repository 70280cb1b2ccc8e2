"""Baselines: committed reports that later runs are compared with.

accept       put what changed in a run into a baseline, with the reason
Accepting    what became of the baseline
baseline_of  where the baseline of a subject lies
BASELINES    the committed ones
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from reports.change import Change
from reports.comparison import compare
from reports.finding import Finding
from reports.origin import origin_of
from reports.schema import Acceptance, Origin, Report, ReportError
from reports.text import file_name, short

BASELINES = Path(__file__).resolve().parent / "baselines"
BULKY = ("null", "series", "bands", "pictures", "details", "seeds", "controls", "selected", "quirks")
"""Fields that say nothing of drift."""


@dataclass(frozen=True)
class Accepting:
    """What became of a baseline. Findings are named by their labels.

    Attributes:
        baseline: as it is now; the very one that was given where nothing had changed.
        written: taken from the run.
        dropped: gone from the baseline, for the run does not have them any more.
        kept: left as they were.
        not_run: left as they were, for the run has no result of them.
    """

    baseline: Report
    written: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()
    rung: bool = False
    """Whether the ladder's rung was taken from the run."""

    @property
    def changed(self) -> bool:
        return bool(self.written or self.dropped or self.rung)


def baseline_of(subject: str) -> Path:
    """Where the baseline of a subject lies, or is to lie."""
    return BASELINES / f"{file_name(subject)}.json"


def accept(
    run: Report, baseline: Report | None, *, reason: str = "", only: Collection[str] = (), at: datetime | None = None
) -> Accepting:
    """The baseline with what changed in a run; what did not change stays as it is, to the last digit.

    Args:
        run: the report of a finished run.
        baseline: as it is; None where there is none yet.
        reason: why what changed is right; in a first baseline, why verdicts are other than holds. A verdict that was
            expected keeps the reason that it was expected for.
        only: labels or ids of claims to accept; all by default.
        at: when, by default now.

    Raises:
        ReportError: a verdict is error, the reason is missing, or `only` names nothing.
    """
    at = at or datetime.now(UTC)
    chosen = [finding for finding in run.findings if _is_chosen(finding, only)]
    _refuse(run, baseline, chosen, only)
    if baseline is None:
        _require_reason(
            [finding.label for finding in chosen if finding.verdict != "holds" and not _why(finding, reason)]
        )
        accepted = {
            each.label: Acceptance(reason=_why(each, reason), at=at, origin=origin_of(run, each.label))
            for each in chosen
        }
        findings = [_expected(finding, reason) for finding in chosen]
        first = run.model_copy(update={"findings": findings, "accepted": accepted})
        return Accepting(first, written=tuple(accepted))
    changes = {change.label: change for change in compare(baseline, run).changes}
    found = {finding.label: finding for finding in chosen}
    written = {label: found[label] for label, change in changes.items() if label in found and _is_new(change)}
    dropped = [each.label for each in baseline.findings if _is_chosen(each, only) and _vanished(changes, each.label)]
    rung = not only and (run.ladder.rung if run.ladder else None) != (baseline.ladder.rung if baseline.ladder else None)
    not_run = [label for label, finding in found.items() if finding.verdict == "not_run" and label not in written]
    stays = [label for label in found if label not in written and label not in not_run]
    if not (written or dropped or rung):
        return Accepting(baseline, kept=tuple(stays), not_run=tuple(not_run))
    told = [label for label, finding in written.items() if not _why(finding, reason)]
    _require_reason([] if reason.strip() else [*told, *dropped, *(["the ladder"] if rung else [])])
    return Accepting(
        _merged(baseline, run, written, dropped, reason=reason, at=at, rung=rung),
        written=tuple(written),
        dropped=tuple(dropped),
        kept=tuple(stays),
        not_run=tuple(not_run),
        rung=rung,
    )


def _merged(
    baseline: Report,
    run: Report,
    written: dict[str, Finding],
    dropped: Collection[str],
    *,
    reason: str,
    at: datetime,
    rung: bool,
) -> Report:
    """Old findings in their places, new ones behind them. Of a baseline that is replaced whole the run is the head."""
    accepted = {label: entry for label, entry in baseline.accepted.items() if label not in dropped}
    for label, finding in written.items():
        first, begun = _first(baseline, label, finding)
        accepted[label] = Acceptance(
            reason=_why(finding, reason), at=at, origin=origin_of(run, label), first=first, first_origin=begun
        )
    stays = [each for each in baseline.findings if each.label not in dropped]
    findings = [_expected(written[each.label], reason) if each.label in written else each for each in stays]
    known = {each.label for each in stays}
    findings += [_expected(finding, reason) for label, finding in written.items() if label not in known]
    head = run if all(each.label in written for each in findings) else baseline
    tiers = [*dict.fromkeys([*baseline.tiers, *run.tiers])]
    ladder = run.ladder if rung else head.ladder
    return head.model_copy(update={"findings": findings, "accepted": accepted, "tiers": tiers, "ladder": ladder})


def _first(baseline: Report, label: str, finding: Finding) -> tuple[Finding | None, Origin | None]:
    """The finding that drift begins with: the one accepted first since it last came to hold."""
    before = next((each for each in baseline.findings if each.label == label), None)
    if before is None or (before.verdict, finding.verdict) != ("holds", "holds"):
        return None, None
    entry = baseline.accepted.get(label)
    if entry is not None and entry.first is not None:
        return entry.first, entry.first_origin
    blank = Finding(claim=before.claim, tier=before.tier, subject=before.subject, verdict="error")
    return before.model_copy(update={name: getattr(blank, name) for name in BULKY}), origin_of(baseline, label)


def _expected(finding: Finding, reason: str) -> Finding:
    """In a baseline a verdict is the expected one, for the reason that it was accepted for."""
    why = _why(finding, reason) if finding.verdict != "holds" else None
    return finding.model_copy(update={"expected": finding.verdict, "expected_reason": why})


def _why(finding: Finding, reason: str) -> str:
    """A verdict that was expected keeps the reason that it was expected for."""
    own = finding.expected_reason if finding.as_expected else None
    return own or reason.strip()


def _is_chosen(finding: Finding, only: Collection[str]) -> bool:
    return not only or finding.claim in only or finding.label in only


def _is_new(change: Change) -> bool:
    """Whether the run has a result that the baseline does not have, or has otherwise."""
    measured = change.new is not None and (change.new.verdict != "not_run" or change.baseline is None)
    return measured and not change.passes


def _vanished(changes: dict[str, Change], label: str) -> bool:
    return label in changes and changes[label].new is None


def _refuse(run: Report, baseline: Report | None, chosen: list[Finding], only: Collection[str]) -> None:
    if not run.findings:
        raise ReportError("the report has no findings; expected those of a finished run: there is nothing to accept")
    known = [*run.findings, *(baseline.findings if baseline else [])]
    if unknown := [name for name in only if not any(_is_chosen(finding, [name]) for finding in known)]:
        raise ReportError(
            f"no finding is called {', '.join(short(name, 80) for name in unknown[:5])}; expected ids of claims or "
            "labels such as heads.rescue[role_swapped]: `python -m reports show` lists them"
        )
    if failed := [finding.label for finding in chosen if finding.verdict == "error"]:
        raise ReportError(
            f"{_named(failed)} ended in an error; expected verdicts, for an error is no result: mend it and run the "
            "claims again, or name what else to accept"
        )


def _require_reason(labels: Collection[str]) -> None:
    if labels:
        raise ReportError(f"{_named([*labels])} would be accepted without a reason; expected one: give --reason TEXT")


def _named(labels: list[str]) -> str:
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return ", ".join(short(label, 80) for label in labels[:5]) + more
