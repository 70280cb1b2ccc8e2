"""Command-line options and fixtures: one-line delegations to claims/harness."""

from __future__ import annotations

from typing import Any

import pytest

from claims.harness import collection, ending, measuring, options, session


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    session.configure(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    collection.parametrize(metafunc)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    collection.select(config, items)


def pytest_collection_finish(session: pytest.Session) -> None:
    collection.arrange(session)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    return measuring.run(pyfuncitem)


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    ending.unreached(item, call)


def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    return ending.status(report)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    ending.finish(session)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ending.summarise(terminalreporter)


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> str:
    """The checkpoint under test: its name, in whose place the harness gives a claim the loaded Subject."""
    return request.param


@pytest.fixture
def lab(subject: str) -> None:
    """What is measured once on the subject and used by several claims. The harness gives a claim that of each seed."""


@pytest.fixture
def reference() -> None:
    """The checkpoint that the subject is compared with. The harness gives a claim the loaded Subject."""


@pytest.fixture
def reference_lab() -> None:
    """What is measured once on the reference. The harness gives a claim that of each seed."""


@pytest.fixture
def judge(subject: str) -> None:
    """Takes a claim's evidence: `judge(Evidence(...), null=Draws(...))`. The harness gives a claim one a seed."""
