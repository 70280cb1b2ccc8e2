"""One case, on every seed, as a finding. The verdict is the test's outcome.

run   measure an item's case, record its finding, and fail in a line unless its verdict is the expected one
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

from claims.harness.bar import bar
from claims.harness.cases import Case, case_of, facts_about
from claims.harness.resume import keep_facts
from claims.harness.session import SESSION, Session, bench_of, record, say, uncaptured
from claims.harness.types import Judge
from fixtures.checkpoints import Checkpoint
from mechinterp.errors import MechinterpError
from mechinterp.evidence import Evidence, InstrumentError, PreconditionUnmet
from mechinterp.nulls import Draws, with_null
from mechinterp.visible import visible
from reports.comparison import against
from reports.finding import Finding, finding_from, finding_without
from reports.schema import Origin, ReportError
from reports.seeds import over_seeds
from reports.text import plain, short

if TYPE_CHECKING:
    from claims.harness.workbench import Workbench

EXPLAINED = (MechinterpError, InstrumentError)
"""Errors that say what is wrong; of any other a traceback is of use."""
LONGEST = 500
"""Characters of a reason that a foreign error gives."""


def run(item: pytest.Function) -> bool | None:
    """Measure the item's case; None for a test that is no claim.

    A case is measured once a run: a test that is run again (--reruns, --count) gives the finding that it gave.
    """
    case = case_of(item)
    if case is None:
        return None
    session = item.config.stash[SESSION]
    problems: list[str] = []
    if case.key not in session.findings:
        with uncaptured(item.config):
            record(item.config, case, _measured(item, case, problems))
            _climb(item.config, case)
            _keep_facts(item.config, case)
    finding = session.findings[case.key]
    said, word = _unexpected(session, case, finding)
    item.user_properties += [each for each in _properties(finding, word) if each not in item.user_properties]
    if said:
        shown = problems if item.config.getoption("verbose", 0) > 0 else []
        pytest.fail("\n".join([said, *shown]), pytrace=False)
    return True


def _properties(finding: Finding, word: str) -> list[tuple[str, str]]:
    """What JUnit XML and other plugins are told of a finding, as text."""
    facts = {
        "verdict": finding.verdict,
        "claim": finding.claim,
        "tier": finding.tier,
        "case": finding.case,
        "effect": finding.effect,
        "interval": "" if finding.interval is None else "{} {}".format(*finding.interval),
        "n": finding.n,
        "expected": finding.expected,
        "change": word,
    }
    return [(name, plain(str(value))) for name, value in facts.items() if value not in (None, "")]


def _unexpected(session: Session, case: Case, finding: Finding) -> tuple[str, str]:
    """Why the test fails, in a line, or nothing; and the word of the comparison, if there is a baseline."""
    baseline = session.options.baseline
    if baseline is None:
        return "" if finding.as_expected else _line(finding), ""
    bench = session.benches.get(session.options.models[case.subject])
    facts = bench.facts if bench else None
    run = Origin(
        created=session.runs[case.subject].created,
        dataset_hash=facts.dataset_hash if facts else None,
        seeds=list(session.options.seeds),
    )
    change = against(baseline, finding, run)
    return "" if change.passes else plain(f"{finding.label}: {change.word}. {change.why}"), change.word


def _measured(item: pytest.Function, case: Case, problems: list[str]) -> Finding:
    """The finding over all seeds; tracebacks of errors that do not explain themselves go into `problems`."""
    session = item.config.stash[SESSION]
    found = {}
    for seed in session.options.seeds:
        with bar(session, case, seed):
            found[seed] = _on_seed(item, case, seed, problems)
    return over_seeds(found)


def _climb(config: pytest.Config, case: Case) -> None:
    """Find out how far the subject verifies at all, which the report says above its findings: once, if it is loaded."""
    session = config.stash[SESSION]
    bench = session.benches.get(session.options.models[case.subject])
    try:
        if bench is not None:
            bench.climb()
    except Exception as error:  # it belongs to no claim: findings do not fail with it
        say(config, f"the ladder is not measured: {error}")


def _keep_facts(config: pytest.Config, case: Case) -> None:
    with suppress(ReportError):  # that the folder cannot be written is said where a finding is recorded
        keep_facts(config.stash[SESSION], case)


def _on_seed(item: pytest.Function, case: Case, seed: int, problems: list[str]) -> Finding:
    options, threshold, began = item.config.stash[SESSION].options, case.protocol.threshold, perf_counter()
    given: list[Evidence] = []

    def judge(evidence: Evidence, null: Draws | None = None) -> None:
        if null is None and case.protocol.tier == "audited":
            raise MechinterpError("an audited claim gives its null with its evidence: judge(evidence, null=Draws(...))")
        given.append(evidence if null is None else with_null(evidence, null, threshold, family=case.family))

    def facts() -> dict[str, Any]:
        compared = options.reference.name if options.reference and case.compares else None
        return facts_about(case, options) | {"reference": compared, "seconds": perf_counter() - began}

    try:
        item.obj(**_arguments(item, case, seed, judge))
        if len(given) != 1:
            raise MechinterpError(f"the claim gave {len(given)} pieces of evidence, not one")
        return finding_from(given[0], threshold, **facts())
    except PreconditionUnmet as unmet:
        return finding_without("not_applicable", plain(str(unmet)), threshold, **facts())
    except pytest.skip.Exception as skipped:
        return finding_without("not_run", plain(str(skipped)), threshold, **facts())
    except (Exception, pytest.fail.Exception) as error:
        if not isinstance(error, EXPLAINED):
            problems += (visible(line) for line in "".join(traceback.format_exception(error)).split("\n"))
        name = "" if isinstance(error, MechinterpError) else f"{type(error).__name__}: "
        return finding_without("error", short(f"{name}{error}", LONGEST), threshold, **facts())


def _arguments(item: pytest.Function, case: Case, seed: int, judge: Judge) -> dict[str, Any]:
    """What the test asks for: pytest's fixtures, and what is measured on the subject."""
    options = item.config.stash[SESSION].options
    other = options.reference
    if case.compares and other is None:  # said before anything is loaded
        raise PreconditionUnmet("this claim compares with a reference; name one with --reference")

    def bench(checkpoint: Checkpoint) -> Workbench:
        return bench_of(item.config, checkpoint)

    model = options.models[case.subject]
    given: dict[str, Callable[[], Any]] = {
        "judge": lambda: judge,
        "lab": lambda: bench(model).lab(seed),
        "subject": lambda: bench(model).subject,
    }
    if other is not None:
        given |= {"reference": lambda: bench(other).subject, "reference_lab": lambda: bench(other).lab(seed)}
    fixtures: dict[str, Callable[[], Any]] = {name: partial(item.funcargs.get, name) for name in item.funcargs} | given
    return {name: fixtures[name]() for name in inspect.signature(item.obj).parameters if name in fixtures}


def _line(finding: Finding) -> str:
    reasons = "; ".join(finding.reasons)
    return plain(f"{finding.label}: {finding.verdict}, expected {finding.expected}. {reasons}")
