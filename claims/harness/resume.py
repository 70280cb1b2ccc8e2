"""A run that was killed can be gone on with: what it was to be stands on disk before anything is measured.

begin       write what the run of each model is to be, or take over what a killed run has found
keep_facts  what has become known since: the loaded subject, the ladder
code_hash   SHA-256 of the code that measures
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from pydantic import JsonValue

from claims.harness.cases import Case, facts_about
from claims.harness.options import Options, refusing
from claims.harness.session import Session
from claims.harness.subject_facts import bare_facts
from claims.measured.dataset import dataset_hash, the_attempts
from reports.collector import Run, open_run, reopen, torn
from reports.finding import Finding, finding_without
from reports.provenance import environment
from reports.schema import Report, Settings, SubjectFacts
from reports.text import plain, short

ROOT = Path(__file__).resolve().parents[2]
MEASURES = ("mechinterp", "fixtures", "claims")
UNREACHED = "the run ended before this claim"
DECIDE = (
    *(
        "claim",
        "tier",
        "case",
        "subject",
        "statement",
        "source",
        "published",
        "setting",
        "quirks",
        "measure",
        "null_of",
    ),
    *("threshold", "threshold_reason", "at_least", "alpha", "family", "expected", "expected_reason"),
)
"""What a finding says of its case before it is measured: taken over is only what would say the same today."""


def begin(session: Session, names: Iterable[str], command: str, files: Iterable[Path]) -> None:
    """Open the run of each model, or that which `--resume` names.

    Args:
        files: those that the claims stand in.

    Raises:
        pytest.UsageError: reports cannot be written, there is nothing to go on with, or it is of another provenance.
    """
    options, code = session.options, code_hash(files)
    for name in names:
        planned = _planned(session, name, command, code)
        if options.resume is None:
            with refusing("--report-dir: "):
                run = open_run(options.report_dir, name)
                run.begin(planned.model_copy(update={"created": run.created}))
        else:
            run = _gone_on_with(session, options.resume, planned)
        session.runs[name] = run


def keep_facts(session: Session, case: Case) -> None:
    """Write down what is known of the subject once it is loaded, for whoever goes on with the run."""
    run, bench = session.runs[case.subject], session.benches.get(session.options.models[case.subject])
    if run.begun is None or bench is None:
        return
    changed = {"subject": bench.facts, "ladder": bench.ladder or run.begun.ladder}
    if any(getattr(run.begun, name) != value for name, value in changed.items()):
        run.begin(run.begun.model_copy(update=changed))


def code_hash(files: Iterable[Path]) -> str:
    """SHA-256 of the Python files that measurements are made by, wherever the clone lies."""
    ours = [(str(path.relative_to(ROOT)), path) for folder in MEASURES for path in (ROOT / folder).rglob("*.py")]
    others = [(path.name, path) for path in set(files) if not path.is_relative_to(ROOT)]
    state = sha256()
    for name, path in sorted([*ours, *others]):
        state.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


def settings_of(options: Options, code: str | None = None) -> Settings:
    """How the subject is examined, as asked for."""
    other: dict[str, JsonValue] = {"code": code} if code else {}
    if options.frozen is not None:
        other["frozen"] = sha256(options.frozen.read_bytes()).hexdigest()
    return Settings(n_problems=options.n_problems, device=options.device, dtype=options.dtype, other=other)


def _planned(session: Session, name: str, command: str, code: str) -> Report:
    """The report of a run that has not measured anything yet: every finding is not_run."""
    options = session.options
    attempts = [one for seed in options.seeds for one in the_attempts(options.n_problems, seed)]
    facts = bare_facts(options.models[name]).model_copy(update={"dataset_hash": dataset_hash(attempts)})
    cases = [case for case in session.cases.values() if case.subject == name]
    return Report(
        created=datetime.now(UTC),
        command=command,
        seeds=list(options.seeds),
        tiers=list(options.tiers),
        settings=settings_of(options, code),
        subject=facts,
        reference=bare_facts(options.reference) if options.reference else None,
        environment=environment(),
        findings=[
            finding_without("not_run", UNREACHED, case.protocol.threshold, **facts_about(case, options))
            for case in cases
        ],
    )


def _gone_on_with(session: Session, folder: Path, planned: Report) -> Run:
    if len(session.options.models) > 1:
        raise pytest.UsageError("--resume goes on with the run of one model; give one --model")
    with refusing("--resume: "):
        before = torn(folder)
    if differs := _differing(before, planned):
        said = f"--resume {folder}: it was begun with other {', '.join(differs)}; expected the same"
        raise pytest.UsageError(plain(f"{said}: give what it was given, or leave --resume out"))
    wanted = {finding.label: finding for finding in planned.findings}
    taken = [each for each in before.findings if each.label in wanted and _holds_today(each, wanted[each.label])]
    with refusing("--resume: "):
        run = reopen(folder, before.created, taken)
        kept = {
            "created": before.created,
            "command": before.command,
            "subject": before.subject,
            "ladder": before.ladder,
        }
        run.begin(planned.model_copy(update=kept))
    session.findings.update({(each.subject, each.label): each for each in taken})
    return run


def _differing(before: Report, now: Report) -> list[str]:
    """What is not the same of both runs, by name; what is not known is not the same."""
    facts = {
        "weights": (before.subject.sha256, now.subject.sha256),
        "reference": (_digest(before.reference), _digest(now.reference)),
        "problems": (before.subject.dataset_hash, now.subject.dataset_hash),
        "seeds": (before.seeds, now.seeds),
        "settings": (before.settings.model_copy(update={"other": {}}), now.settings.model_copy(update={"other": {}})),
        "code": (before.settings.other.get("code"), now.settings.other.get("code")),
        "frozen choices": (before.settings.other.get("frozen"), now.settings.other.get("frozen")),
        "Python": (before.environment.python, now.environment.python),
        "machine": (before.environment.platform, now.environment.platform),
        "packages": (before.environment.versions, now.environment.versions),
    }
    unknown = {"weights", "problems", "code"}
    return [name for name, (old, new) in facts.items() if old != new or (old is None and name in unknown)]


def _digest(facts: SubjectFacts | None) -> str | None:
    return None if facts is None else short(facts.sha256 or facts.name, 80)


def _holds_today(found: Finding, wanted: Finding) -> bool:
    """Whether it was measured, and says of its case what it would say today. What failed is tried again."""
    return found.verdict not in ("error", "not_run") and all(
        getattr(found, name) == getattr(wanted, name) for name in DECIDE
    )
