"""report.md: a run for a reader.

render  the report as Markdown
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.difference import differences
from reports.figures import Picture
from reports.finding import ControlRecord, Finding
from reports.markup import bullets, code, escape, table
from reports.outcome import by_claim, outcome
from reports.schema import Report, SubjectFacts
from reports.text import ABSENT, estimate, number

TIERS = {"as_published": "as published", "audited": "audited"}
COLUMNS = ("Claim", "Case", "Tier", "Effect [95 % interval]", "Threshold", "Control", "n", "p", "Verdict")
VERDICTS = """\
*holds*: the effect exceeds its threshold and every control. *refuted*: it stays below, or a control explains it. \
*inconclusive*: the data do not decide. *not_applicable*: the claim means nothing on this subject. \
*error*: the measurement failed. *not_run*: it was not tried. p is corrected for the layers, heads and claims tried."""


def render(report: Report, pictures: Sequence[Picture] = ()) -> str:
    """The report as Markdown: the outcome, a table, a section a finding, where it all comes from.

    Args:
        report: what was found.
        pictures: one for each finding, in the same order; none at all leaves the pictures out.
    """
    drawn = dict(zip(map(id, report.findings), pictures, strict=False))
    findings = by_claim(report.findings)
    against = f", compared with **{escape(report.reference.name)}**" if report.reference else ""
    digest = report.subject.sha256 or "unknown"
    lines = [
        f"# Mechanistic claims: {escape(report.subject.name)}",
        "",
        f"**{escape(report.subject.name)}**{against}. SHA-256 of its weights: {code(digest)}",
        "",
        f"**Outcome:** {escape(outcome(findings)[1])}.",
        "",
        *table(COLUMNS, map(_row, findings)),
        VERDICTS,
        "",
        *_differences(findings),
        "## Findings",
        "",
    ]
    for finding in findings:
        lines += _section(finding, drawn.get(id(finding), Picture()))
    return "\n".join([*lines, *_provenance(report)])


def _row(finding: Finding) -> list[str]:
    return [
        code(finding.claim),
        code(finding.case) or ABSENT,
        TIERS[finding.tier],
        estimate(finding.effect, finding.interval),
        escape(finding.threshold) or ABSENT,
        escape(finding.null_of) or ABSENT,
        ABSENT if finding.n is None else str(finding.n),
        ABSENT if finding.p_value is None else f"{finding.p_value:.2g}",
        _verdict(finding),
    ]


def _verdict(finding: Finding) -> str:
    if finding.as_expected:
        return finding.verdict if finding.verdict == "holds" else f"{finding.verdict} (as expected)"
    return f"**{finding.verdict}** (expected {finding.expected})"


def _differences(findings: Sequence[Finding]) -> list[str]:
    """What a claim loses, or gains, when it is audited, and which control made the difference."""
    told = [f"- {code(finding.claim)}: {escape(sentence)}." for finding, sentence in differences(findings)]
    return ["## Where the two tiers differ", "", *told, ""] if told else []


def _section(finding: Finding, picture: Picture) -> list[str]:
    case = f", {code(finding.case)}" if finding.case else ""
    return [
        f"### {code(finding.claim)}{case}, {TIERS[finding.tier]}: {finding.verdict}",
        "",
        *([escape(finding.statement), ""] if finding.statement else []),
        *(f"- **{name}:** {text}" for name, text in _facts(finding).items() if text),
        "",
        *_image(finding, picture),
        *_details(finding),
    ]


def _facts(finding: Finding) -> dict[str, str]:
    """What the section lists, by name; empty where there is nothing to say."""
    source = f" ({escape(finding.source)})" if finding.source else ""
    n = "" if finding.n is None else f", n = {finding.n}"
    p = "" if finding.p_value is None else f", p = {finding.p_value:.2g}"
    measure = f": {escape(finding.measure)}" if finding.measure else ""
    reasons = escape("; ".join(finding.reasons))
    return {
        "Published": f"{escape(finding.published) or 'no figure'}{source}" if finding.published or source else "",
        "Measured": f"{estimate(finding.effect, finding.interval)}{n}{p}{measure}",
        "Demanded": escape(finding.threshold),
        "Verdict": _verdict(finding) + (f", because {reasons}" if reasons else ""),
        "Why this was expected" if finding.as_expected else "Why another was expected": escape(
            finding.expected_reason or ""
        ),
        "Null": _null(finding),
        "Margins over the other rivals": "; ".join(map(_margin, finding.controls)),
        "Noise of batch size and attention kernel": number(finding.noise) if finding.noise else "",
        "Compared with": escape(finding.reference or ""),
        "Time": f"{finding.seconds:.1f} s" if finding.seconds else "",
    }


def _null(finding: Finding) -> str:
    name, summary = escape(finding.null_of), finding.null_summary
    if summary is None or not finding.draws:
        return name
    figures = f"mean {number(summary.mean)}, 95th percentile {number(summary.p95)}, largest {number(summary.max)}"
    return f"{name or 'matched control'}; the effect under {finding.draws} draws of it: {figures}"


def _margin(control: ControlRecord) -> str:
    interval = "" if control.interval is None else f" [{number(control.interval[0])}, {number(control.interval[1])}]"
    return f"{escape(control.name)} {number(control.margin)}{interval}"


def _image(finding: Finding, picture: Picture) -> list[str]:
    if picture.path:
        return [f"![{escape(finding.label)}]({picture.path})", ""]
    return [f"No picture: {escape(picture.problem)}.", ""] if picture.problem else []


def _details(finding: Finding) -> list[str]:
    return ["Details:", "", *bullets(finding.details), ""] if finding.details else []


def _provenance(report: Report) -> list[str]:
    settings, where = report.settings, report.environment
    state = {None: "", True: ", with local changes", False: ""}[where.suite_dirty]
    run = {
        "Begun": f"{report.created:%Y-%m-%d %H:%M:%S} UTC",
        "Command": code(report.command),
        "Seeds": ", ".join(map(str, report.seeds)) or ABSENT,
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
