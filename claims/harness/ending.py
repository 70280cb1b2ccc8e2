"""Reports and table, also after an interruption.

unreached   remember why a claim was not measured
status      a verdict as pytest's word for a test
finish      write every report
summarise   print the table
"""

from __future__ import annotations

from hashlib import sha256
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from claims.harness.cases import case_of, facts_about
from claims.harness.measuring import LONGEST
from claims.harness.options import CHOSEN
from claims.harness.resume import UNREACHED
from claims.harness.session import SESSION, Session, record
from claims.harness.subject_facts import bare_facts
from fixtures.checkpoints import Checkpoint
from mechinterp.visible import visible
from reports import changes
from reports.collector import Run, outcome
from reports.finding import finding_without
from reports.ladder import Ladder
from reports.schema import FileFacts, ReportError, SubjectFacts
from reports.terminal import render
from reports.text import plain, short


def unreached(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    """Remember why a claim is not measured: a fixture failed, or a mark skips it."""
    case = case_of(item)
    if case is not None and call.when == "setup" and call.excinfo is not None:
        item.config.stash[SESSION].unreached[case.key] = short(call.excinfo.exconly(), LONGEST)


def status(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    """The verdict in place of passed or failed, where a claim was measured."""
    verdict = dict(getattr(report, "user_properties", ())).get("verdict")
    if verdict is None or report.when != "call" or hasattr(report, "wasxfail"):
        return None
    if report.failed:
        return "failed", "F", f"{verdict} (unexpected)".upper()
    return ("passed", ".", str(verdict).upper()) if report.passed else None


def finish(pytest_session: pytest.Session) -> None:
    """Record what was never reached and write every report, also when the run was interrupted."""
    config = pytest_session.config
    session = config.stash.get(SESSION, None)
    if session is None or not session.runs:
        return
    if session.bar is not None:
        session.bar.close()
    for case in session.cases.values():
        if case.key not in session.findings:
            reason = session.unreached.get(case.key, UNREACHED)
            facts = facts_about(case, session.options)
            record(config, case, finding_without("not_run", reason, case.protocol.threshold, **facts))
    for name in session.runs:
        _write(session, name)
    code = _exit_status(session)
    if pytest_session.exitstatus == 0:
        pytest_session.exitstatus = 1 if session.unwritten else code


def summarise(terminal: pytest.TerminalReporter) -> None:
    config = terminal.config
    session = config.stash.get(SESSION, None)
    if session is None:
        return
    for name, run in session.runs.items():
        terminal.section(f"findings on {name}", sep="=")
        text = StringIO()
        console = Console(
            file=text, width=terminal._tw.fullwidth, force_terminal=terminal.hasmarkup, highlight=False
        )  # fmt: skip
        ladder = _ladder(session, run, session.options.models[name])
        verbose = config.getoption("verbose") > 0
        render(run.findings, console, ladder, verbose, expected=session.options.baseline is None)
        if run.comparison is not None:
            changes.render(run.comparison, console, verbose)
        terminal.write_line(text.getvalue())
        terminal.write_line(session.unwritten.get(name) or f"report: {visible(str(run.directory / 'report.html'))}")


def _exit_status(session: Session) -> int:
    """0 where all is as the baseline has it; without one, as models.toml has it."""
    if session.options.baseline is None:
        return outcome(list(session.findings.values()))[0]
    kept = [run.comparison is not None and run.comparison.passes for run in session.runs.values()]
    return 0 if all(kept) else 1


def _write(session: Session, name: str) -> None:
    options, run = session.options, session.runs[name]
    places = {key: place for place, key in enumerate(session.cases)}
    run.findings.sort(key=lambda finding: places[finding.subject, finding.label])
    try:
        run.finish(
            command=run.begun.command if run.begun else "",
            subject=_facts(session, run, options.models[name]),
            reference=_facts_of_reference(session),
            seeds=options.seeds,
            tiers=options.tiers,
            ladder=_ladder(session, run, options.models[name]),
            baseline=options.baseline,
            chosen=_chosen(session, name),
            settings=run.begun.settings if run.begun else None,
        )
    except ReportError as error:
        session.unwritten[name] = plain(str(error))


def _chosen(session: Session, name: str) -> FileFacts | None:
    """Keep what the claims chose, beside the report; None where nothing was measured."""
    bench = session.benches.get(session.options.models[name])
    path = session.runs[name].directory / CHOSEN
    try:
        gone_on_with = session.options.resume is not None and path.exists()
        if not (bench is not None and bench.keep_chosen(path)) and not gone_on_with:
            return None
        return FileFacts(name=path.name, size=path.stat().st_size, sha256=sha256(path.read_bytes()).hexdigest())
    except OSError as error:
        raise ReportError(f"cannot write {visible(str(path))!r}: {error.strerror}") from error


def _facts(session: Session, run: Run, checkpoint: Checkpoint) -> SubjectFacts:
    """Of the loaded subject; where it was not loaded, what is known without, or since the run was begun."""
    bench = session.benches.get(checkpoint)
    if bench is not None and bench.facts.n_layers is not None:
        return bench.facts
    return run.begun.subject if run.begun else bare_facts(checkpoint)


def _facts_of_reference(session: Session) -> SubjectFacts | None:
    """None where no claim compared with it."""
    bench = session.benches.get(session.options.reference) if session.options.reference else None
    return bench.facts if bench else None


def _ladder(session: Session, run: Run, checkpoint: Checkpoint) -> Ladder | None:
    bench = session.benches.get(checkpoint)
    known = run.begun.ladder if run.begun else None
    return (bench.ladder if bench else None) or known
