"""The suite on a subject in this process, without reports: what `pytest claims/` says of it, case by case.

audit      every case of every claim, or of those asked for
deviations what came out otherwise than a table says
matches    whether a case's label is as some patterns say
Audited    what came out of a case
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib import import_module
from inspect import signature
from itertools import product
from pathlib import Path

import claims
from claims.claim import Protocol
from claims.harness.cases import variants
from claims.measured.laboratory import Laboratory
from mechinterp import Draws, Evidence, MechinterpError, PreconditionUnmet, Subject, verdict_of, with_null
from mechinterp.evidence import Verdict

Test = Callable[..., None]


@dataclass(frozen=True)
class Audited:
    """A verdict, the reasons for it in one string, and the evidence, where there is any."""

    verdict: Verdict
    reasons: str
    evidence: Evidence | None = None


def audit(
    subject: Subject,
    *,
    n_problems: int,
    only: Iterable[str] = ("*",),
    seed: int = 0,
    reference: Subject | None = None,
) -> dict[str, Audited]:
    """By label, such as `heads.rescue[role_swapped]` or `lens.success_midlayers@as_published`.

    Args:
        reference: what claims compare with that do so.
        only: patterns of labels, in which * stands for anything.
    """
    lab = Laboratory(subject, n_problems, seed)
    beside = None if reference is None else Laboratory(reference, n_problems, seed)
    return {label: _measure(test, lab, beside) for label, test in _cases() if matches(label, only)}


def deviations(found: dict[str, Audited], table: dict[str, tuple[str, str]]) -> list[str]:
    """A line for each case whose verdict or reasons are not what the table says.

    Args:
        table: by pattern of labels (the first that matches counts), regular expressions of the verdict and of
            something that stands in the reasons.
    """
    lines = []
    for label, audited in found.items():
        verdict, reason = next(expected for pattern, expected in table.items() if matches(label, [pattern]))
        if not re.fullmatch(verdict, audited.verdict) or not re.search(reason, audited.reasons):
            lines.append(f"{label}: {audited.verdict} ({audited.reasons}), expected {verdict} ({reason})")
    return lines


def matches(label: str, patterns: Iterable[str]) -> bool:
    """Whether a label is as one of the patterns says; a bracket stands for itself."""
    return any(fnmatchcase(label, pattern.replace("[", "[[]")) for pattern in patterns)


def _cases() -> Iterator[tuple[str, Test]]:
    """Every case: its label and its test, with the case's parameters filled in."""
    for path in sorted(Path(claims.__file__).parent.glob("*/test_*.py")):
        for test in vars(import_module(f"claims.{path.parent.name}.{path.stem}")).values():
            if protocol := _protocol(test):
                names = variants(test.pytestmark)
                marks = [mark.args for mark in test.pytestmark if mark.name == "parametrize"]
                for name, values in zip(names, product(*(values for _, values in marks)), strict=True):
                    parameters = dict(zip([name for name, _ in marks], values, strict=True))
                    tier = "@as_published" if protocol.tier == "as_published" else ""
                    yield f"{protocol.claim.id}{f'[{name}]' if name else ''}{tier}", partial(test, **parameters)


def _measure(test: partial[None], lab: Laboratory, reference: Laboratory | None) -> Audited:
    threshold, family = _protocol(test.func).threshold, len(variants(test.func.pytestmark))
    given: list[Evidence] = []

    def judge(evidence: Evidence, null: Draws | None = None) -> None:
        given.append(evidence if null is None else with_null(evidence, null, threshold, family=family))

    try:
        if "reference_lab" not in signature(test.func).parameters:
            test(lab=lab, judge=judge)
        elif reference is None:
            raise PreconditionUnmet("this claim compares with a reference")
        else:
            test(lab=lab, reference_lab=reference, judge=judge)
    except PreconditionUnmet as unmet:
        return Audited("not_applicable", str(unmet))
    except MechinterpError as error:
        return Audited("error", str(error))
    (evidence,) = given
    verdict, reasons = verdict_of(evidence, threshold, family=family)
    return Audited(verdict, "; ".join(reasons), evidence)


def _protocol(test: object) -> Protocol | None:
    return next((mark.args[0] for mark in getattr(test, "pytestmark", ()) if mark.name == "claim"), None)
