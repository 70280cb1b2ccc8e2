"""report.md: a run for a reader.

render        the report as Markdown
claims_table  its claims by tiers
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from reports import changes_markdown
from reports.comparison import Comparison
from reports.figures import Picture
from reports.finding import Finding
from reports.ladder import Ladder
from reports.markup import bullets, code, escape, table
from reports.outcome import by_claim, outcome
from reports.schema import Report, SubjectFacts
from reports.section import TIERS, section, word
from reports.text import ABSENT, estimate, number

RUNGS = """\
*verifies*: it says which attempts are right, and by the number's role. *latent*: it tells them apart by role, without \
saying so. *repetition*: it tells numbers that were seen before from new ones, whatever their role. *none*: not even \
that."""
VERDICTS = """\
*holds*: the effect exceeds its threshold, chance and every rival, and every check that it means something is passed. \
*refuted*: it stays below, or a rival explains it. *inconclusive*: the data do not decide. *not_applicable*: the claim \
means nothing on this subject. *error*: the measurement failed. *not_run*: it was not tried. As published: by the \
source's own protocol, with all its quirks. Audited: with the controls that make it mean something. In bold: not as \
expected."""


def render(report: Report, pictures: Sequence[Picture] = (), comparison: Comparison | None = None) -> str:
    """The report as Markdown: the ladder, claims by tiers, a section a claim, where it all comes from.

    Args:
        report: what was found.
        pictures: one for each finding, in the same order; none at all leaves the pictures out.
        comparison: the run beside its baseline, if it has one.
    """
    drawn = dict(zip(map(id, report.findings), pictures, strict=False))
    claims = _claims(report)
    lines = [
        f"# Mechanistic claims: {escape(report.subject.name)}",
        "",
        *_examined(report),
        *_ladder(report.ladder),
        f"**Outcome:** {escape(comparison.line if comparison else outcome(report.findings)[1])}.",
        "",
        *(changes_markdown.section(comparison) if comparison else []),
        "## Claims",
        "",
        *claims_table(report),
        VERDICTS,
        "",
        "## Findings",
        "",
    ]
    for findings in claims:
        lines += section(findings, [drawn.get(id(finding), Picture()) for finding in findings])
    return "\n".join([*lines, *_provenance(report)])


def claims_table(report: Report) -> list[str]:
    """Lines of a table: a row a claim, a column a tier."""
    return table(("Claim", *map(str.capitalize, TIERS.values())), map(_row, _claims(report)))


def _claims(report: Report) -> list[list[Finding]]:
    return [list(group) for _, group in groupby(by_claim(report.findings), key=lambda finding: finding.claim)]


def _examined(report: Report) -> list[str]:
    subject, reference = report.subject, report.reference
    shape = [subject.family, f"{subject.n_layers} layers" if subject.n_layers else None]
    shape += [f"{subject.n_parameters:,} parameters" if subject.n_parameters else None, subject.dtype]
    facts = ", ".join(escape(fact) for fact in shape if fact)
    against = f", compared with **{escape(reference.name)}**" if reference else ""
    digest = code(subject.sha256 or "unknown")
    return [
        f"Examined: **{escape(subject.name)}**{f' ({facts})' if facts else ''}{against}. SHA-256 of weights: {digest}",
        "",
    ]


def _ladder(ladder: Ladder | None) -> list[str]:
    if ladder is None:
        return ["## How far it verifies", "", "This was not measured.", ""]
    figures = [*bullets(ladder.figures), ""] if ladder.figures else []
    return ["## How far it verifies", "", f"**{ladder.rung}**: {escape(ladder.sentence)}", "", *figures, RUNGS, ""]


def _row(findings: Sequence[Finding]) -> list[str]:
    return [code(findings[0].claim), *(_cell([each for each in findings if each.tier == tier]) for tier in TIERS)]


def _cell(findings: Sequence[Finding]) -> str:
    """`holds, 0.96 [0.94, 0.98]`, or the cases by verdict: `holds (zero 0.62), refuted (mean 0.12)`."""
    if not findings:
        return ABSENT
    if len(findings) == 1:
        shown = estimate(findings[0].effect, findings[0].interval)
        return word(findings[0]) + ("" if shown == ABSENT else f", {shown}")
    by_word: dict[str, list[str]] = {}
    for finding in findings:
        effect = "" if finding.effect is None else f" {number(finding.effect)}"
        by_word.setdefault(word(finding), []).append((code(finding.case) or "no case") + effect)
    return ", ".join(f"{verdict} ({', '.join(cases)})" for verdict, cases in by_word.items())


def _provenance(report: Report) -> list[str]:
    settings, where = report.settings, report.environment
    state = {None: "", True: ", with local changes", False: ""}[where.suite_dirty]
    run = {
        "Begun": f"{report.created:%Y-%m-%d %H:%M:%S} UTC",
        "Command": code(report.command),
        "Seeds": escape(", ".join(map(str, report.seeds)) or ABSENT),
        "Tiers": ", ".join(TIERS[tier] for tier in report.tiers) or ABSENT,
        "Settings": escape(_listed(settings.model_dump(exclude={"other"}) | settings.other)),
        "Suite": code(where.suite_revision or "unknown revision") + state,
        "Python": escape(f"{where.python} on {where.platform}, {where.cpu_count} cores"),
        "Packages": escape(_listed(where.versions)),
        "Report schema": report.schema_version,
    }
    lines = ["## Where this comes from", "", *_subject("Subject", report.subject)]
    if report.reference is not None:
        lines += _subject("Reference", report.reference)
    return [*lines, "### Run", "", *table(("", ""), run.items()), ""]


def _subject(title: str, facts: SubjectFacts) -> list[str]:
    rows = {name: value for name, value in facts.model_dump(exclude={"files", "other"}).items() if value is not None}
    shown = [(name, f"{value:,}" if isinstance(value, int) else code(value)) for name, value in rows.items()]
    files = [(code(file.name), code(file.sha256 or "unknown")) for file in facts.files]
    more = [(code(name), escape(str(value))) for name, value in facts.other.items()]
    return [f"### {title}", "", *table(("", ""), [*shown, *files, *more])]


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None) or ABSENT
