"""Command-line options and fixtures: one-line delegations to claims/plugin.py and claims/laboratory.py."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

from claims import laboratory, plugin

if TYPE_CHECKING:
    from claims.laboratory import Laboratory
    from mechinterp import Evidence, Subject


def pytest_addoption(parser: pytest.Parser) -> None:
    plugin.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    plugin.configure(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    plugin.parametrize(metafunc)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    plugin.order(config, items)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    with plugin.uncaptured(request.config):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    with plugin.uncaptured(pyfuncitem.config):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    plugin.conclude(item, call, report)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    return plugin.status(report)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    plugin.finish(session)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    plugin.summarise(terminalreporter)


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The checkpoint under test."""
    return plugin.load(request.config, request.param)


@pytest.fixture(scope="session")
def reference(request: pytest.FixtureRequest) -> Subject:
    """The checkpoint that it is compared with; a claim without one is not applicable."""
    return plugin.load(request.config, "reference")


@pytest.fixture(scope="session")
def lab(subject: Subject, request: pytest.FixtureRequest) -> Laboratory:
    """What is measured once on a subject and used by several claims."""
    return laboratory.open_for(subject, request.config.option, plugin.cache_folder(request.config))


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Callable[[Evidence], None]:
    """Hands a claim's evidence in."""
    return plugin.judge(request.node)
