"""report.html: a run as one page that opens offline, without a script if need be.

render     the page
templates  what pages are made from
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mechinterp.evidence import VERDICTS, Verdict
from reports.change import WORDS, Change
from reports.changes import figures, moved, provenance
from reports.comparison import Comparison
from reports.curves import curves_of
from reports.difference import differences
from reports.finding import Finding, Tier
from reports.outcome import by_claim, outcome
from reports.page_text import digest, inert, prose, spaced
from reports.pictures import Grid, Listing, Passage
from reports.plots import CurvePlot, Strip, Whisker, curve_plot, forest, strip
from reports.schema import Report
from reports.text import estimate, number, plain

TEMPLATES = Path(__file__).parent / "templates"
TIERS: dict[Tier, str] = {"as_published": "as published", "audited": "audited"}
GLYPHS: dict[Verdict, str] = {
    "holds": "\u2713",
    "refuted": "\u2715",
    "inconclusive": "?",
    "not_applicable": "\u2013",
    "error": "!",
    "not_run": "\u25cb",
}
SAID: dict[Verdict, str] = {verdict: verdict.replace("_", " ") for verdict in VERDICTS}
MEANS: dict[Verdict, str] = {
    "holds": "the whole interval is above the threshold, every rival is ruled out, every check passed, p small enough",
    "refuted": "the interval stays below the threshold, or a rival explains the effect",
    "inconclusive": "the data do not decide, a check failed, or seeds disagree",
    "not_applicable": "the claim means nothing on this model",
    "error": "the measurement failed; never a negative result",
    "not_run": "it was not tried",
}
RUNGS = {
    "none": "tells nothing apart",
    "repetition": "tells numbers seen before from new ones",
    "latent": "tells right from wrong by role, without saying so",
    "verifies": "says which attempts are right, by role",
}
MOST_BYTES = 3_000_000
MOST_ITEMS = 60


@dataclass(frozen=True)
class Case:
    """A finding with its pictures."""

    finding: Finding
    anchor: str
    strip: Strip | None
    plot: CurvePlot | None
    problem: str
    margins: tuple[Whisker, ...]
    of_seeds: tuple[Whisker, ...]
    change: Change | None


@dataclass(frozen=True)
class Cell:
    """The cases of a claim in one tier that came to one verdict."""

    verdict: Verdict
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Claim:
    """A claim in all its tiers and cases."""

    id: str
    anchor: str
    findings: tuple[Finding, ...]
    tiers: dict[Tier, tuple[Case, ...]]
    cells: dict[Tier, tuple[Cell, ...]]
    told: tuple[str, ...]
    changed: tuple[Change, ...]

    def said(self, name: str) -> list[str]:
        """What its findings say of it under this name, each text once."""
        return [text for text in dict.fromkeys(getattr(finding, name) for finding in self.findings) if text]

    @property
    def verdicts(self) -> str:
        return " ".join(dict.fromkeys(finding.verdict for finding in self.findings))


def render(report: Report, comparison: Comparison | None = None) -> str:
    """The page of a run: ladder, matrix of claims by tiers, what changed, each claim to unfold, where it comes from.

    Args:
        comparison: the run beside its baseline, if it has one.
    """
    for pictures in (True, False):
        page = _page(report, comparison, pictures)
        if len(page.encode()) <= MOST_BYTES:
            return page
    return page


def _page(report: Report, comparison: Comparison | None, pictures: bool) -> str:
    claims = _claims(report, comparison)
    facts = {
        "report": report,
        "claims": claims,
        "comparison": comparison,
        "provenance": provenance(comparison) if comparison else (),
        "outcome": comparison.line if comparison else outcome(report.findings)[1],
        "passes": comparison.passes if comparison else outcome(report.findings)[0] == 0,
        "changed": Counter(change.word for change in comparison.changes) if comparison else {},
        "counts": Counter(finding.verdict for finding in report.findings),
        "pictures": pictures,
    }
    return templates().get_template("report.html").render(facts)


@cache
def templates() -> Environment:
    """What pages are made from: every text is made harmless and escaped, once."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=inert,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))  # noqa: S704 - our own files
    environment.globals |= {
        "style": style,
        "script": script,
        "script_hash": base64.b64encode(sha256(script.encode()).digest()).decode(),
        "glyphs": GLYPHS,
        "said": SAID,
        "means": MEANS,
        "words": WORDS,
        "rungs": RUNGS,
        "tiers": TIERS,
        "most": MOST_ITEMS,
    }
    functions = (deepest, estimate, figures, moved, strength)
    environment.globals |= {function.__name__: function for function in functions}
    environment.filters |= {function.__name__: function for function in (spaced, prose, digest, number, listed, share)}
    environment.tests |= {kind.__name__.lower(): _is(kind) for kind in (Grid, Passage, Listing)}
    return environment


def strength(value: float | None, grid: Grid | Passage) -> str:
    """How deep a cell is coloured, from 0 to 1."""
    values = grid.weights if isinstance(grid, Passage) else [each for row in grid.values for each in row]
    middle = 0.0 if isinstance(grid, Passage) or grid.middle is None else grid.middle
    largest = max((abs(each - middle) for each in values if each is not None), default=0.0)
    return "0" if value is None or not largest else f"{abs(value - middle) / largest:.2f}"


def deepest(grid: Grid) -> tuple[int, int]:
    """Row and column of the cell that is told while none is looked at."""
    middle = grid.middle or 0.0
    cells = [
        (abs(value - middle), (row, column))
        for row, values in enumerate(grid.values)
        for column, value in enumerate(values)
        if value is not None
    ]
    return max(cells)[1] if cells else (0, 0)


def _claims(report: Report, comparison: Comparison | None) -> list[Claim]:
    changes = {change.label: change for change in comparison.changes} if comparison else {}
    ordered = by_claim(report.findings)
    numbered = {id(finding): f"f{place}" for place, finding in enumerate(ordered)}
    made = []
    for place, (claim, group) in enumerate(groupby(ordered, key=lambda finding: finding.claim)):
        findings = tuple(group)
        tiers: dict[Tier, tuple[Case, ...]] = {}
        for tier in TIERS:
            cases = [each for each in findings if each.tier == tier]
            tiers[tier] = tuple(_case(each, numbered[id(each)], changes.get(each.label)) for each in cases)
        made.append(
            Claim(
                id=claim,
                anchor=f"c{place}",
                findings=findings,
                tiers=tiers,
                cells={tier: _cells(cases) for tier, cases in tiers.items()},
                told=tuple(sentence for _, sentence in differences(findings)),
                changed=tuple(c for c in map(changes.get, (f.label for f in findings)) if c and c.word != "kept"),
            )
        )
    return made


def _case(finding: Finding, anchor: str, change: Change | None) -> Case:
    plot, problem = None, ""
    if finding.series:
        try:
            across = finding.at_least if finding.series_unit and finding.series_unit == finding.measure else None
            plot = curve_plot(curves_of(finding), across)
        except (ValueError, OverflowError, ZeroDivisionError) as error:  # a picture is never worth the page
            problem = plain(str(error))
    margins = forest([(control.margin, control.interval) for control in finding.controls])
    of_seeds = forest([(seed.effect, seed.interval) for seed in finding.seeds])
    return Case(finding, anchor, strip(finding), plot, problem, tuple(margins), tuple(of_seeds), change)


def _cells(cases: Sequence[Case]) -> tuple[Cell, ...]:
    found: dict[Verdict, list[Case]] = {}
    for case in cases:
        found.setdefault(case.finding.verdict, []).append(case)
    return tuple(Cell(verdict, tuple(found[verdict])) for verdict in VERDICTS if verdict in found)


def listed(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


def share(values: dict[str, object]) -> bool:
    """Whether these are figures between 0 and 1, which bars show best."""
    numbers = [value for value in values.values() if isinstance(value, float | int) and not isinstance(value, bool)]
    return len(values) > 1 and len(numbers) == len(values) and all(0 <= value <= 1 for value in numbers)


def _is(kind: type) -> Callable[[object], bool]:
    return lambda picture: isinstance(picture, kind)
