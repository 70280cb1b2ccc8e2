"""Several reports on one page: models by claims; of checkpoints of one run, in step order, how each effect moves.

render   the page
ordered  reports in the order of their steps, where their names count them; else as given
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from reports.finding import Finding
from reports.outcome import by_claim
from reports.page import TIERS, templates
from reports.plots import Scale
from reports.schema import Report

WIDTH, HEIGHT = 120.0, 32.0
FEWEST = 3
"""Checkpoints from which on an effect has a course."""
_COUNTED = re.compile(r"(.*?)(\d+)\D*")


@dataclass(frozen=True)
class Row:
    """A case of a claim in one tier, model by model; None where a report does not have it."""

    label: str
    case: str
    tier: str
    findings: tuple[Finding | None, ...]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Group:
    claim: str
    statement: str
    rows: tuple[Row, ...]


def ordered(reports: Sequence[Report]) -> list[Report]:
    """By the last number in their subjects' names, if that is all that tells the names apart; else as given."""
    steps = _steps(reports)
    places = sorted(range(len(reports)), key=lambda place: steps[place]) if steps else range(len(reports))
    return [reports[place] for place in places]


def render(reports: Sequence[Report]) -> str:
    """The page of several reports."""
    course = len(reports) >= FEWEST and bool(_steps(reports))
    reports = ordered(reports)
    known = [{finding.label: finding for finding in report.findings} for report in reports]
    every = {finding.label: finding for report in reversed(reports) for finding in report.findings}
    groups = []
    for claim, group in groupby(by_claim(every.values()), key=lambda finding: finding.claim):
        findings = list(group)
        rows = tuple(_row(finding, [each.get(finding.label) for each in known]) for finding in findings)
        groups.append(Group(claim, findings[0].statement, rows))
    return templates().get_template("models.html").render(reports=reports, groups=groups, course=course)


def _steps(reports: Sequence[Report]) -> list[int]:
    """The steps that the names count; none where these are not checkpoints of one run."""
    found = [match for report in reports if (match := _COUNTED.fullmatch(report.subject.name))]
    steps = [int(match[2]) for match in found]
    of_one_run = len(found) == len(reports) and len({match[1] for match in found}) == 1
    return steps if of_one_run and len(set(steps)) == len(steps) else []


def _row(finding: Finding, found: Sequence[Finding | None]) -> Row:
    effects = [(place, each.effect) for place, each in enumerate(found) if each and each.effect is not None]
    points: tuple[tuple[float, float], ...] = ()
    if len(effects) >= FEWEST:
        x = Scale([0.0, len(found) - 1.0], 4.0, WIDTH - 4.0, 0.0)
        y = Scale([effect for _, effect in effects], HEIGHT - 4.0, 4.0)
        points = tuple((x(place), y(effect)) for place, effect in effects)
    return Row(finding.label, finding.case, TIERS[finding.tier], tuple(found), points)
