"""A run's findings, on disk from the moment each is made.

open_run  makes the folder of a run
reopen    goes on with the run in a folder
torn      the report of a run that was killed: what it had found, and not_run for the rest
Run       records findings as they come and writes the report at the end
write_pages  a report for readers
recover   the findings of a run that was killed
outcome   exit status and one line for all findings of a run
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reports import page
from reports.comparison import Comparison, compare
from reports.figures import draw
from reports.files import write_whole
from reports.finding import Finding, Tier
from reports.ladder import Ladder
from reports.markdown import render
from reports.outcome import outcome
from reports.provenance import environment
from reports.schema import (
    Environment,
    FileFacts,
    Report,
    ReportError,
    Settings,
    SubjectFacts,
    first_problem,
    read_report,
    to_json,
)
from reports.text import file_name, plain

__all__ = ["REPORT_DIR", "Run", "open_run", "outcome", "recover", "reopen", "torn", "write_pages"]

REPORT_DIR = Path(__file__).resolve().parent
FINDINGS, REPORT, COMPARISON = "findings.jsonl", "report.json", "comparison.json"
BEGUN = "begun.json"
PAGE, MARKDOWN, FIGURES = "report.html", "report.md", "figures"


def open_run(report_dir: Path | str = REPORT_DIR, model: str = "", now: datetime | None = None) -> Run:
    """Make `<report_dir>/runs/<model>-<UTC time>/`, a folder of its own for this run.

    Args:
        report_dir: where reports are kept; it is made if need be.
        model: name of the subject. It is not trusted: only a safe file name is made of it.
        now: when the run began, by default now.
    """
    now = (now or datetime.now(UTC)).astimezone(UTC)
    name = f"{file_name(model)}-{now:%Y%m%dT%H%M%SZ}"
    try:
        directory = _new_folder(Path(report_dir) / "runs", name)
        (directory / FINDINGS).touch(exist_ok=False)
    except (OSError, ValueError) as error:
        raise _unwritable(Path(report_dir), error) from error
    return Run(directory, now)


def reopen(run_dir: Path | str, created: datetime, findings: Sequence[Finding]) -> Run:
    """The run in a folder, which goes on with these findings."""
    run = Run(Path(run_dir), created)
    run.findings = list(findings)
    try:
        write_whole(run.directory / FINDINGS, "".join(to_json(finding) + "\n" for finding in findings))
    except OSError as error:
        raise _unwritable(run.directory, error) from error
    return run


def torn(run_dir: Path | str) -> Report:
    """The report of a run that did not end: what it had found, in the order of the suite, and not_run for the rest.

    Raises:
        ReportError: the folder holds no run, or one of a version that did not write down what it was to be.
    """
    begun = read_report(Path(run_dir) / BEGUN)
    found = {finding.label: finding for finding in recover(run_dir)}
    return begun.model_copy(update={"findings": [found.get(each.label, each) for each in begun.findings]})


def recover(run_dir: Path | str) -> list[Finding]:
    """The findings that a run had made, also if it was killed: a last line that was torn is left out."""
    path = Path(run_dir) / FINDINGS
    shown = plain(str(path))
    try:
        *lines, last = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ReportError(
            f"cannot read {shown!r}: {error.strerror}; expected the {FINDINGS} of a run: give the folder of a run"
        ) from error
    findings = [_parsed(line, f"line {place} of {shown!r}") for place, line in enumerate(lines, 1)]
    try:
        return [*findings, _parsed(last, shown)] if last else findings
    except ReportError:  # only what was never finished lacks its line end
        return findings


class Run:
    """One run of the suite: `record` each finding as it is made, `finish` at the end."""

    def __init__(self, directory: Path, created: datetime) -> None:
        self.directory = directory
        self.created = created
        self.findings: list[Finding] = []
        self.comparison: Comparison | None = None
        self.begun: Report | None = None

    def begin(self, planned: Report) -> None:
        """Write down what the run is to be, every finding not_run, so that it can be told if it is killed."""
        self.begun = planned
        try:
            write_whole(self.directory / BEGUN, to_json(planned, indent=2) + "\n")
        except OSError as error:
            raise _unwritable(self.directory, error) from error

    def record(self, finding: Finding) -> None:
        """Keep the finding, on disk before this returns: a run that is killed later loses nothing."""
        self.findings.append(finding)
        try:
            with (self.directory / FINDINGS).open("a", encoding="utf-8") as stream:
                stream.write(to_json(finding) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise _unwritable(self.directory, error) from error

    def finish(
        self,
        *,
        command: str,
        subject: SubjectFacts,
        reference: SubjectFacts | None = None,
        settings: Settings | None = None,
        seeds: Sequence[int] = (),
        tiers: Sequence[Tier] = (),
        ladder: Ladder | None = None,
        where: Environment | None = None,
        baseline: Report | None = None,
        chosen: FileFacts | None = None,
    ) -> Report:
        """Write report.json, report.html, and report.md with its figures, and return the report.

        With a baseline `comparison` and comparison.json say what became of its findings.

        Args:
            command: the command that was run.
            subject: the checkpoint under test.
            reference: the checkpoint it was compared with.
            settings: how it was examined.
            seeds: seeds of problems, halves and draws.
            tiers: the tiers that were run.
            ladder: how far the subject verifies at all, where that could be measured.
            where: machine and versions, by default those of this process.
            baseline: the report that the run is compared with.
            chosen: the file of what was chosen, if there is one.
        """
        report = Report(
            created=self.created,
            command=command,
            seeds=list(seeds),
            tiers=list(tiers),
            settings=settings or Settings(),
            subject=subject,
            reference=reference,
            environment=where or environment(),
            ladder=ladder,
            chosen=chosen,
            findings=self.findings,
        )
        try:
            write_whole(self.directory / REPORT, to_json(report, indent=2) + "\n")
            if baseline is not None:
                self.comparison = compare(baseline, report)
                write_whole(self.directory / COMPARISON, to_json(self.comparison, indent=2) + "\n")
            write_pages(report, self.directory, self.comparison)
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        return report


def write_pages(report: Report, folder: Path, comparison: Comparison | None = None) -> None:
    """report.html, and report.md with its figures; a folder that cannot be written is an OSError."""
    write_whole(folder / PAGE, page.render(report, comparison))
    pictures = draw(report.findings, folder / FIGURES)
    write_whole(folder / MARKDOWN, render(report, pictures, comparison))


def _new_folder(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, 1000):
        folder = parent / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:  # another run of the same second
            continue
        return folder
    raise FileExistsError(17, "a thousand runs of the same second exist")


def _parsed(line: bytes, where: str) -> Finding:
    try:
        data: Any = json.loads(line)
        return Finding.model_validate(data)
    except ValidationError as error:
        problem = first_problem(error)
    except (ValueError, RecursionError) as error:
        problem = str(error)
    raise ReportError(f"cannot read {where}: {plain(problem)}; expected one finding a line: remove what is no finding")


def _unwritable(folder: Path, error: Exception) -> ReportError:
    problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ReportError(
        f"cannot write to the report folder {plain(str(folder))!r}: {plain(problem)}; "
        "expected a folder that can be made and written: free it, or choose another one"
    )
