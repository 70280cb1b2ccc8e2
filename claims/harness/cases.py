"""Which finding a test is to give.

protocol_of   the claim on a test, in one of its tiers
variants      the names of a test's cases
case_of       the case that an item measures
Case          a claim in one tier, one of its variants, on one subject
expectation   the verdict that is expected of it
facts_about   what its finding says of it, whatever comes out
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from claims.claim import Protocol
from claims.harness.options import Options
from mechinterp.evidence import Verdict

CASE = pytest.StashKey["Case"]()
PARAM = type(pytest.param())
COMPARES = {"reference", "reference_lab"}
"""What a test asks for that compares the subject with the reference."""


@dataclass(frozen=True)
class Case:
    """A claim in one tier, one of its variants, on one subject.

    Attributes:
        name: the variant, such as `last_digit`; empty for a claim with one.
        family: how many variants the test has, whichever of them were asked for.
        place: sorts cases as the suite has them, whatever order they run in.
        compares: whether the test asks for the reference.
    """

    protocol: Protocol
    name: str
    subject: str
    family: int
    place: tuple[str, int, int]
    compares: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What tells its finding from all others of a run."""
        return self.subject, self.label

    @property
    def label(self) -> str:
        """As findings are labelled: `claim.id[case]`, or `claim.id[case]@as_published`."""
        name = f"[{self.name}]" if self.name else ""
        return f"{self.protocol.claim.id}{name}{'@as_published' if self.protocol.tier == 'as_published' else ''}"


def protocol_of(item: Any) -> Protocol | None:
    """The claim on a test or on its definition, in one of its tiers; None for any other test."""
    mark = item.get_closest_marker("claim")
    return mark.args[0] if mark else None


def variants(marks: Iterable[pytest.Mark]) -> list[str]:
    """The names of the cases of a test with these marks, such as `last_digit/best_layer`; `""` where there is one case.

    Only the test's own parametrize marks make cases: what plugins add (repetitions) measures the same case again.
    """
    return ["/".join(sum(values, ())) for values in product(*map(_values, _parametrize(marks)))]


def case_of(item: Any) -> Case | None:
    """The case that an item measures; None for a test that is no claim, or lies where conftest.py does not reach."""
    protocol = protocol_of(item)
    if protocol is None or "subject" not in getattr(item, "fixturenames", ()):
        return None
    if CASE not in item.stash:
        params, names = item.callspec.params, variants(item.iter_markers())
        name = "/".join(str(params[name]) for mark in _parametrize(item.iter_markers()) for name in _names(mark))
        place = (str(item.path), item.function.__code__.co_firstlineno, names.index(name))
        compares = bool(COMPARES & set(item.fixturenames))
        item.stash[CASE] = Case(protocol, name, params["subject"], len(names), place, compares)
    return item.stash[CASE]


def facts_about(case: Case, options: Options) -> dict[str, Any]:
    """What a finding says of its case, whatever comes out."""
    protocol, claim = case.protocol, case.protocol.claim
    expected, reason = expectation(case, options)
    return {
        "claim": claim.id,
        "tier": protocol.tier,
        "case": case.name,
        "subject": case.subject,
        "statement": claim.statement,
        "source": claim.source,
        "published": claim.published,
        "setting": protocol.setting,
        "quirks": list(protocol.quirks),
        "measure": protocol.measure,
        "null_of": protocol.null,
        "family": case.family,
        "expected": expected,
        "expected_reason": reason if expected != "holds" else None,
    }


def expectation(case: Case, options: Options) -> tuple[Verdict, str | None]:
    """The verdict that is expected of a case, and why: the baseline's, else what models.toml says.

    Of a case that compares nothing is expected where there is nothing to compare with.
    """
    if options.baseline is not None:
        known = (finding for finding in options.baseline.findings if finding.label == case.label)
        found = next(known, None)
        return ("holds", None) if found is None else (found.verdict, found.expected_reason)
    if case.compares and options.reference is None:
        return "not_applicable", "no reference was named"
    said = options.models[case.subject].expects(case.protocol.claim.id, case.name or None, case.protocol.tier)
    return said.verdict, said.reason


def _parametrize(marks: Iterable[pytest.Mark]) -> list[pytest.Mark]:
    return [mark for mark in marks if mark.name == "parametrize"]


def _values(mark: pytest.Mark) -> list[tuple[str, ...]]:
    several = len(_names(mark)) > 1
    given = [value.values if isinstance(value, PARAM) else value if several else (value,) for value in
             _argument(mark, 1, "argvalues")]  # fmt: skip
    return [tuple(map(str, values)) for values in given]


def _names(mark: pytest.Mark) -> list[str]:
    names = _argument(mark, 0, "argnames")
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _argument(mark: pytest.Mark, place: int, name: str) -> Any:
    return mark.args[place] if len(mark.args) > place else mark.kwargs[name]
