"""A run in a screenful of Markdown, for the page of a CI job.

summary  the Markdown, short of what such pages hold
counts   findings by verdict, and whether anything is to be accepted
"""

from __future__ import annotations

from collections import Counter

from mechinterp.evidence import VERDICTS
from reports import changes_markdown
from reports.comparison import Comparison
from reports.markdown import claims_table
from reports.markup import escape
from reports.outcome import outcome
from reports.schema import Report

MOST_BYTES = 1_000_000
"""Above a mebibyte a page of GitHub shows nothing."""


def summary(report: Report, comparison: Comparison | None = None) -> str:
    """Ladder, outcome, what changed, and claims by tiers; what would be too long is left out, and said."""
    ladder = report.ladder
    head = [
        f"## Mechanistic claims: {escape(report.subject.name)}",
        "",
        f"**{ladder.rung}**: {escape(ladder.sentence)}" if ladder else "How far it verifies was not measured.",
        "",
        f"**Outcome:** {escape(comparison.line if comparison else outcome(report.findings)[1])}.",
        "",
    ]
    parts = [changes_markdown.section(comparison) if comparison else [], claims_table(report)]
    lines = [*head]
    for part in parts:
        if len("\n".join([*lines, *part]).encode()) > MOST_BYTES:
            lines += ["The rest is too long for this page; the report has it.", ""]
            break
        lines += part
    return "\n".join(lines)


def counts(report: Report, comparison: Comparison | None = None) -> dict[str, str]:
    """As `name=value` for programs: each verdict's count, and `passes`."""
    found = Counter(finding.verdict for finding in report.findings)
    passes = comparison.passes if comparison else outcome(report.findings)[0] == 0
    return {verdict: str(found[verdict]) for verdict in VERDICTS} | {"passes": str(passes).lower()}
