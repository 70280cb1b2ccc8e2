"""What a run knows.

configure     read the options; what is wrong with them ends the command
Session       the cases to come, the findings made, the reports
record        keep a finding
bench_of      the workbench of a checkpoint; one subject at a time is in memory
workbench     the room that needs torch
command_of    the command that is run
cache_folder  where measurements are kept for later runs
say           a line for the user, while the run goes on
uncaptured    let what is said on stderr through
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

import pytest
from tqdm import tqdm

from claims.harness.cases import Case
from claims.harness.one_process import stay_in_one_process
from claims.harness.options import Options, read_options
from fixtures.checkpoints import Checkpoint
from reports.collector import Run
from reports.finding import Finding
from reports.schema import ReportError
from reports.text import plain

if TYPE_CHECKING:
    from claims.harness.workbench import Workbench

Key = tuple[str, str]


@dataclass
class Session:
    """What a run knows.

    Attributes:
        cases: those that are to be run, in the order of the suite.
        findings: those made so far, one a case.
        unreached: why a case was never measured, where that is known.
        runs: the report of each model.
        unwritten: what keeps a report from being written; the run goes on without.
        benches: by checkpoint.
        folder: where measurements are kept for later runs; None for nowhere.
        bar: how far the run is.
    """

    options: Options
    cases: dict[Key, Case] = field(default_factory=dict)
    findings: dict[Key, Finding] = field(default_factory=dict)
    unreached: dict[Key, str] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    unwritten: dict[str, str] = field(default_factory=dict)
    benches: dict[Checkpoint, Workbench] = field(default_factory=dict)
    folder: Path | None = None
    bar: tqdm[NoReturn] | None = None


SESSION = pytest.StashKey[Session]()


def configure(config: pytest.Config) -> None:
    if advice := stay_in_one_process(config):
        say(config, advice)
    config.stash[SESSION] = Session(read_options(config))


def record(config: pytest.Config, case: Case, finding: Finding) -> None:
    """Keep a finding, on disk at once. A report that can no longer be written is said once; the run goes on."""
    session = config.stash[SESSION]
    session.findings[case.key] = finding
    try:
        session.runs[case.subject].record(finding)
    except ReportError as error:
        if case.subject not in session.unwritten:
            session.unwritten[case.subject] = plain(str(error))
            say(config, session.unwritten[case.subject])


def bench_of(config: pytest.Config, checkpoint: Checkpoint) -> Workbench:
    """The workbench of a checkpoint. Beside the reference one subject at a time is in memory."""
    session = config.stash[SESSION]
    if checkpoint not in session.benches:
        session.benches[checkpoint] = workbench().Workbench(checkpoint, session.options, session.folder)
    for other, bench in session.benches.items():
        if other not in (checkpoint, session.options.reference) and checkpoint != session.options.reference:
            bench.clear()
    return session.benches[checkpoint]


def workbench() -> ModuleType:
    """The room that needs torch, which is paid for when the first claim is to run."""
    from claims.harness import workbench

    return workbench


def cache_folder(config: pytest.Config) -> Path | None:
    """Where measurements are kept, in pytest's own cache; None where they are not to be, or cannot be."""
    cache = getattr(config, "cache", None)  # not there under -p no:cacheprovider
    if cache is None or not config.stash[SESSION].options.keep:
        return None
    try:
        folder = cache.mkdir("mechanistic-claims")
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        say(config, f"measurements are not kept for later runs: {error}; set cache_dir, or give --no-cache")
        return None


def command_of(config: pytest.Config) -> str:
    """The command that is run."""
    return shlex.join(["pytest", *map(str, config.invocation_params.args)])


def say(config: pytest.Config, line: str) -> None:
    """A line for the user, while the run goes on."""
    with uncaptured(config):
        print(plain(line), file=sys.stderr, flush=True)


def uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """Let what is said on stderr through: loading and sweeps take minutes on a real model."""
    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture else nullcontext()
