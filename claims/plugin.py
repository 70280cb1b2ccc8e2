"""How pytest runs claims: conftest.py delegates to these functions.

add_options  --model and the others
configure    resolve what was asked for; bad input ends here, with exit status 4
parametrize  one test a model
order        all claims of a model before the next model; open a run folder for each
load         the subject under test
cache_folder where measurements are kept
uncaptured   let progress bars through
judge        take a claim's evidence
conclude     turn what a test did into a finding and an outcome
finish       write the reports
summarise    print the table
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claims.claim import CASES, Claim
from claims.laboratory import dataset_hash, the_transcripts
from fixtures.checkpoints import Checkpoint, precheck, resolve
from mechinterp.errors import MechinterpError
from mechinterp.evidence import Evidence, InstrumentError, PreconditionUnmet

if TYPE_CHECKING:
    from mechinterp import Subject
    from reports.collector import Run
    from reports.schema import Finding, SubjectFacts

REPORTS = Path(__file__).resolve().parent.parent / "reports"
FEWEST = 4
EXPLAINED = (MechinterpError, InstrumentError, PreconditionUnmet)


@dataclass
class State:
    """What a pytest session knows of the claims it runs."""

    models: dict[str, Checkpoint]
    reference: Checkpoint | None
    runs: dict[str, Run] = field(default_factory=dict)
    facts: dict[str, SubjectFacts] = field(default_factory=dict)
    waiting: dict[str, pytest.Item] = field(default_factory=dict)


STATE = pytest.StashKey[State]()
EVIDENCE = pytest.StashKey[list[Evidence]]()


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("mechanistic claims")
    add = group.addoption
    add("--model", action="append", metavar="SPEC", help="checkpoint to examine: an alias (fixtures/models.toml), "
        "owner/name[@revision] on the hub, a folder, a .gguf, NAME=SPEC; repeatable (default: base)")  # fmt: skip
    add("--reference", metavar="SPEC", help="checkpoint to compare with, for claims about what training changed")
    add("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    add("--dtype", default="auto", metavar="DTYPE", help="auto, float32, bfloat16 or float16 (default: auto)")
    add("--seed", type=int, default=0, metavar="N", help="seed of problems, splits and controls (default: 0)")
    add("--n-problems", type=int, default=72, metavar="N", help="Countdown problems, half of them to select on and "
        "half to judge on (default: 72)")  # fmt: skip
    add("--no-cache", action="store_true", help="measure everything anew; by default what was measured on the same "
        "weights, data and code is read from .pytest_cache (at most 2 GiB; --cache-clear empties it)")  # fmt: skip
    add("--report-dir", type=Path, default=REPORTS, metavar="FOLDER", help="where runs/ is written (default: reports/)")


def configure(config: pytest.Config) -> None:
    option = config.option
    if option.n_problems < FEWEST:
        raise pytest.UsageError(
            f"--n-problems {option.n_problems}: at least {FEWEST} are needed, two to select on and two to judge on"
        )
    if option.seed < 0:
        raise pytest.UsageError(f"--seed {option.seed}: expected a number from 0 up")
    try:
        models = [resolve(spec) for spec in option.model or ["base"]]
        reference = resolve(option.reference) if option.reference else None
        for checkpoint in [*models, *([reference] if reference else [])]:
            precheck(checkpoint)
    except MechinterpError as error:
        raise pytest.UsageError(str(error)) from None
    by_name = {checkpoint.name: checkpoint for checkpoint in models}
    if len(by_name) < len(models):
        raise pytest.UsageError("two models have the same name; give each one with --model NAME=SPEC")
    config.stash[STATE] = State(by_name, reference)


def parametrize(metafunc: pytest.Metafunc) -> None:
    if "subject" in metafunc.fixturenames and claim_of(metafunc.definition):
        models = metafunc.config.stash[STATE].models
        metafunc.parametrize("subject", models, indirect=True, scope="session")


def order(config: pytest.Config, items: list[pytest.Item]) -> None:
    state = config.stash[STATE]
    claims = [item for item in items if claim_of(item)]
    if not claims:
        return
    names = list(state.models)
    items.sort(key=lambda item: names.index(_model(item)) if claim_of(item) else -1)
    if config.option.collectonly:
        return
    from reports.collector import open_run
    from reports.schema import ReportError

    state.waiting = {item.nodeid: item for item in items if claim_of(item)}
    try:
        state.runs = {name: open_run(config.option.report_dir, name) for name in dict.fromkeys(map(_model, claims))}
    except ReportError as error:
        raise pytest.UsageError(str(error)) from None


def load(config: pytest.Config, name: str) -> Subject:
    """The subject called `name`, loaded, with its provenance kept for the report."""
    from claims.provenance import facts_of
    from fixtures.loading import load as load_checkpoint

    state = config.stash[STATE]
    checkpoint = state.reference if name == "reference" else state.models[name]
    if checkpoint is None:
        raise PreconditionUnmet("this claim compares with a reference; name one with --reference")
    subject = load_checkpoint(checkpoint, device=config.option.device, dtype=config.option.dtype)
    transcripts = the_transcripts(config.option.n_problems, config.option.seed)
    state.facts[name] = facts_of(checkpoint, subject, dataset_hash(transcripts))
    return subject


def cache_folder(config: pytest.Config) -> Path | None:
    """Where measurements are kept, in pytest's own cache; None where they are not to be."""
    cache = getattr(config, "cache", None)  # not there under -p no:cacheprovider
    return None if cache is None or config.option.no_cache else cache.mkdir("mechanistic-claims")


def uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """Let what is said on stderr through while claims run: loading and sweeps take minutes on a real model."""
    state = config.stash.get(STATE, None)
    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture and state and state.runs else nullcontext()


def judge(item: pytest.Item) -> Callable[[Evidence], None]:
    """The function that a claim hands its evidence to, once."""

    def take(evidence: Evidence) -> None:
        item.stash.setdefault(EVIDENCE, []).append(evidence)

    return take


def conclude(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Record the finding of a claim that has ended, and let the test pass if its verdict is the expected one."""
    claim = claim_of(item)
    if claim is None or report.when == "teardown" or (report.when == "setup" and report.passed):
        return
    state = item.config.stash[STATE]
    finding = _finding(item, claim, call.excinfo.value if call.excinfo else None, call.duration)
    state.waiting.pop(item.nodeid, None)
    state.runs[_model(item)].record(finding)
    item.user_properties.append(("verdict", finding.verdict))
    report.user_properties = list(item.user_properties)
    line = f"{finding.label}: {finding.verdict}, expected {finding.expected}. {'; '.join(finding.reasons)}".strip()
    if finding.as_expected:
        report.outcome, report.longrepr = "passed", None
        if report.when == "setup":  # pytest would go on to call a test whose fixtures failed
            report.outcome, report.longrepr = "skipped", (str(item.path), 0, line)
    else:
        report.outcome = "failed"
        ours = call.excinfo is None or isinstance(
            call.excinfo.value, (MechinterpError, InstrumentError, PreconditionUnmet)
        )
        if ours or item.config.option.verbose < 1:
            report.longrepr = line


def status(report: pytest.TestReport) -> tuple[str, str, str] | None:
    verdict = dict(getattr(report, "user_properties", ())).get("verdict")  # a failed collection has none
    if verdict is None or report.when == "teardown" or (report.when == "setup" and report.passed):
        return None
    if report.failed:
        return "failed", "F", f"{verdict} (unexpected)".upper()
    return "passed", ".", str(verdict).upper()


def finish(session: pytest.Session) -> None:
    """Record what was never reached and write every report, also when the run was interrupted."""
    config = session.config
    state = config.stash.get(STATE, None)
    if state is None or not state.runs:
        return
    from claims.provenance import bare_facts
    from reports.collector import outcome
    from reports.finding import finding_without
    from reports.schema import Settings

    for item in state.waiting.values():
        claim = claim_of(item)
        assert claim is not None  # noqa: S101
        reason = "the run ended before this claim"
        state.runs[_model(item)].record(finding_without("not_run", reason, claim.threshold, **_facts(item, claim)))
    for name, run in state.runs.items():
        run.finish(
            command=shlex.join(["pytest", *map(str, config.invocation_params.args)]),
            subject=state.facts.get(name) or bare_facts(state.models[name]),
            reference=state.facts.get("reference"),
            seeds=[config.option.seed],
            tiers=["audited"],
            settings=Settings(
                n_problems=config.option.n_problems, device=config.option.device, dtype=config.option.dtype
            ),
        )
    code, _ = outcome([finding for run in state.runs.values() for finding in run.findings])
    if session.exitstatus == 0:
        session.exitstatus = code


def summarise(terminal: pytest.TerminalReporter) -> None:
    state = terminal.config.stash.get(STATE, None)
    if state is None or not state.runs:
        return
    from rich.console import Console

    from reports.terminal import render

    for name, run in state.runs.items():
        terminal.section(f"findings on {name}", sep="=")
        text = StringIO()
        width = terminal._tw.fullwidth
        render(run.findings, Console(file=text, width=width, force_terminal=terminal.hasmarkup, highlight=False))
        terminal.write_line(text.getvalue())
        terminal.write_line(f"report: {run.directory / 'report.md'}")


def claim_of(item: Any) -> Claim | None:
    """The claim on a test or on its definition."""
    mark = item.get_closest_marker("claim")
    return mark.args[0] if mark else None


def _model(item: pytest.Item) -> str:
    return item.callspec.params["subject"]  # type: ignore[attr-defined]


def _case(item: pytest.Item) -> str:
    params = item.callspec.params  # type: ignore[attr-defined]
    return "/".join(str(value) for name, value in params.items() if name != "subject")


def _facts(item: pytest.Item, claim: Claim) -> dict[str, Any]:
    state = item.config.stash[STATE]
    expected = state.models[_model(item)].expects(claim.id, _case(item) or None, claim.tier)
    return {
        "claim": claim.id,
        "tier": claim.tier,
        "case": _case(item),
        "subject": _model(item),
        "statement": claim.statement,
        "measure": claim.measure,
        "published": claim.published,
        "source": claim.source,
        "null_of": claim.control,
        "expected": expected.verdict,
        "expected_reason": expected.reason if expected.verdict != "holds" else None,
    }


def _finding(item: pytest.Item, claim: Claim, error: BaseException | None, seconds: float) -> Finding:
    from reports.finding import finding_from, finding_without

    facts = {**_facts(item, claim), "seconds": seconds}
    given = item.stash.get(EVIDENCE, [])
    if isinstance(error, PreconditionUnmet):
        return finding_without("not_applicable", str(error), claim.threshold, **facts)
    if isinstance(error, pytest.skip.Exception):
        return finding_without("not_run", str(error), claim.threshold, **facts)
    if error is not None:
        name = "" if isinstance(error, MechinterpError) else f"{type(error).__name__}: "
        text = str(error).strip().splitlines() or [""]
        return finding_without("error", f"{name}{text[0]}", claim.threshold, **facts)
    if len(given) != 1:
        return finding_without(
            "error", f"the claim gave {len(given)} pieces of evidence, not one", claim.threshold, **facts
        )
    return finding_from(given[0], claim.threshold, family=CASES, **facts)
