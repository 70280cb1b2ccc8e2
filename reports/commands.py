"""What the commands of `python -m reports` do. Each takes parsed arguments and gives an exit status.

list_claims      claims, sources, thresholds
show             a report, or one claim of it
compare_reports  a run beside its baseline
accept_report    put what changed in a run into its baseline
render_reports   write pages anew
summarise        a run in a screenful of Markdown
Refused          what was asked for is understood, and not done
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from reports import changes, models_page, terminal
from reports.baseline import accept, baseline_of
from reports.collector import BEGUN, COMPARISON, PAGE, REPORT, torn, write_pages
from reports.comparison import Comparison, compare
from reports.figures import Picture
from reports.files import write_whole
from reports.finding import Finding
from reports.outcome import by_claim
from reports.schema import Report, ReportError, first_problem, read_report, to_json
from reports.section import section
from reports.summary import counts, summary
from reports.text import plain, short

MODELS = "models.html"


class Refused(ReportError):
    """What was asked for is understood, and not done, for a reason in one line."""


def list_claims(given: Namespace) -> int:
    """Print the claims of the suite; what they say of themselves is theirs, so they are asked."""
    from claims.catalogue import catalogue  # pytest is paid for by this command alone

    entries = [entry for entry in catalogue() if given.part in entry["id"]]
    if not entries:
        raise ReportError(f"no claim's id holds {plain(given.part)!r}; `python -m reports list` names all")
    if given.json:
        _print(json.dumps(entries, indent=2))
        return 0
    console = _console()
    for entry in entries:
        console.print(Text(entry["id"], style="bold"))
        console.print(Text(f"  {entry['statement']}"))
        console.print(Text(f"  source: {entry['source']}"))
        console.print(Text(f"  published: {entry['published']}"))
        for tier in entry["tiers"]:
            cases = f" ({len(tier['cases'])} cases)" if len(tier["cases"]) > 1 else ""
            console.print(Text(f"  {tier['tier']}{cases}: {tier['threshold']}; {tier['threshold_reason']}"))
    return 0


def show(given: Namespace) -> int:
    """Print a report as the run itself did; of one claim all that stands behind it."""
    report = _read(given.report)
    findings = by_claim(report.findings)
    if given.claim:
        findings = [finding for finding in findings if given.claim in (finding.claim, finding.label)]
        if not findings:
            known = ", ".join(dict.fromkeys(short(finding.claim, 80) for finding in by_claim(report.findings)))
            raise ReportError(f"the report has no finding {short(given.claim, 80)!r}; its claims are {known}")
    if given.json:
        _print(to_json(report, indent=2) if not given.claim else _dumped(findings))
    elif given.claim:
        _print("\n".join(section(findings, [Picture()] * len(findings))))
    else:
        terminal.render(findings, _console(), report.ladder)
    return 0


def compare_reports(given: Namespace) -> int:
    """0 if every finding of the baseline is kept, else 1."""
    comparison = compare(_read(given.old), _read(given.new), _read(given.first) if given.first else None)
    if given.json:
        _print(to_json(comparison, indent=2))
    else:
        changes.render(comparison, _console(), verbose=given.verbose)
    return 0 if comparison.passes else 1


def accept_report(given: Namespace) -> int:
    """0 if the baseline now has what the run found, 1 if that was refused."""
    report = _read(given.report)
    path = given.baseline or baseline_of(report.subject.name)
    baseline = read_report(path) if path.exists() else None
    try:
        done = accept(report, baseline, reason=given.reason, only=given.claims)
    except ReportError as refusal:
        raise Refused(str(refusal)) from None
    if done.changed:
        _write(path, to_json(done.baseline, indent=2) + "\n")
    told = {"written": done.written, "dropped": done.dropped, "kept": done.kept, "not run": done.not_run}
    if given.json:
        _print(json.dumps({"baseline": str(path), **told}, indent=2))
        return 0
    for word in ("written", "dropped", "not run"):
        for label in told[word]:
            _print(plain(f"{word}: {short(label, 160)}"))
    if done.rung:
        _print("written: the ladder")
    nothing = "" if done.changed else "; nothing changed, the file is as it was"
    _print(plain(f"{path}: {len(done.written)} written, {len(done.dropped)} dropped, {len(done.kept)} kept{nothing}"))
    return 0


def render_reports(given: Namespace) -> int:
    """Write report.html and report.md anew; several reports make one page, models.html."""
    baseline = _read(given.baseline) if given.baseline else None
    if len(given.reports) > 1:
        return _render_together([_read(path) for path in given.reports], given.into or Path.cwd())
    for path in given.reports:
        report = _read(path)
        folder = given.into or (path if path.is_dir() else path.parent)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_pages(report, folder, compare(baseline, report) if baseline else None)
        except OSError as error:
            raise _unwritable(folder, error) from error
        _print(plain(str(folder / PAGE)))
    return 0


def _render_together(reports: list[Report], folder: Path) -> int:
    """Several reports make one page."""
    _write(folder / MODELS, models_page.render(reports))
    _print(plain(str(folder / MODELS)))
    return 0


def summarise(given: Namespace) -> int:
    """Print Markdown for the page of a CI job, and add counts of verdicts to a file of its outputs."""
    report = _read(given.report)
    comparison = compare(_read(given.baseline), report) if given.baseline else _compared(given.report)
    _print(summary(report, comparison))
    if given.outputs:
        lines = "".join(f"{name}={value}\n" for name, value in counts(report, comparison).items())
        try:
            with given.outputs.open("a", encoding="utf-8") as stream:
                stream.write(lines)
        except OSError as error:
            raise _unwritable(given.outputs, error) from error
    return 0


def _compared(path: Path) -> Comparison | None:
    """What the run itself was compared with, as it stands in its folder."""
    file = path / COMPARISON
    if not file.is_file():
        return None
    try:
        return Comparison.model_validate_json(file.read_bytes())
    except (OSError, ValueError) as error:
        said = first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise ReportError(f"cannot read {plain(str(file))!r}: {plain(said)}; run `python -m reports compare`") from None


def _read(path: Path) -> Report:
    """The report in a file, or in the folder of a run; of a run that was killed, what it had found."""
    if not path.is_dir():
        return read_report(path)
    killed = (path / BEGUN).exists() and not (path / REPORT).exists()
    return torn(path) if killed else read_report(path / REPORT)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ReportError:
    return ReportError(f"cannot write {plain(str(path))!r}: {error.strerror or error}; choose another place")


def _dumped(findings: list[Finding]) -> str:
    return json.dumps([finding.model_dump(mode="json") for finding in findings], indent=2)


def _console() -> Console:
    return Console(file=sys.stdout, highlight=False, soft_wrap=False)


def _print(text: str) -> None:
    print(text)
