"""Which tests are claims, and in which order they run.

parametrize   one test a model
select        the tiers asked for
arrange       all claims of a model before those of the next; whatever would end the run is said now
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from claims.harness.cases import Case, case_of, protocol_of, variants
from claims.harness.resume import begin
from claims.harness.session import SESSION, cache_folder, command_of, uncaptured
from claims.harness.start import check


def parametrize(metafunc: pytest.Metafunc) -> None:
    protocol = protocol_of(metafunc.definition)
    if protocol is None:
        return
    if hasattr(metafunc.config, "workerinput"):
        raise pytest.Collector.CollectError(f"{protocol.claim.id} cannot be run by pytest-xdist here; leave -n out")
    if "subject" not in metafunc.fixturenames:
        raise pytest.Collector.CollectError(
            f"{metafunc.function.__name__} ({protocol.claim.id}) is a claim, but takes no `judge` to give evidence to"
        )
    names = variants(metafunc.definition.iter_markers())
    if len(set(names)) < len(names):
        raise pytest.Collector.CollectError(
            f"{metafunc.function.__name__} ({protocol.claim.id}) has two cases of one name: {', '.join(names)}"
        )
    models = list(metafunc.config.stash[SESSION].options.models)
    metafunc.parametrize("subject", models, indirect=True, scope="session")


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    tiers = config.stash[SESSION].options.tiers
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        protocol = protocol_of(item)
        (kept if protocol is None or protocol.tier in tiers else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def arrange(collected: pytest.Session) -> None:
    """Put the claims in order and open their reports, once it is settled which tests will run.

    Raises:
        pytest.UsageError: two tests give the same finding, the device is not there, there are not so many problems,
            a checkpoint cannot be fetched, or reports cannot be written.
    """
    config, items = collected.config, collected.items
    session, option = config.stash[SESSION], config.option
    cases = {item: case for item in items if (case := case_of(item))}
    _refuse_twins(cases.values())
    names = list(session.options.models)
    items.sort(key=lambda item: names.index(cases[item].subject) if item in cases else -1)
    broken = collected.testsfailed and not option.continue_on_collection_errors
    if not cases or broken or option.collectonly or option.setuponly:
        return
    subjects = sorted({case.subject for case in cases.values()}, key=names.index)
    with uncaptured(config):
        check(session.options, subjects)
    session.folder = cache_folder(config)
    session.cases = {case.key: case for case in sorted(cases.values(), key=lambda case: case.place)}
    with uncaptured(config):
        begin(session, subjects, command_of(config), [item.path for item in cases])


def _refuse_twins(cases: Iterable[Case]) -> None:
    """One finding a case: of two tests that give the same one, a report would hold either."""
    places: dict[object, object] = {}
    for case in cases:
        if places.setdefault(case.key, case.place[:2]) != case.place[:2]:
            raise pytest.UsageError(f"two tests give the finding {case.label}; name their cases or claims apart")
