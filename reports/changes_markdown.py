"""A comparison in report.md: where both runs come from, then what is not kept.

section  the lines
"""

from __future__ import annotations

from collections import Counter

from reports.changes import figures, moved, provenance
from reports.comparison import Comparison
from reports.markup import code, escape, table
from reports.text import ABSENT

COLUMNS = ("Finding", "", "Baseline -> new", "Change [95 %]", "Because")


def section(comparison: Comparison) -> list[str]:
    """Lines of Markdown; what is kept is counted, and told in comparison.json."""
    lines = ["## Against the baseline", "", *(f"- {escape(line)}" for line in provenance(comparison)), ""]
    told = [change for change in comparison.changes if change.word != "kept"]
    kept = Counter(change.word for change in comparison.changes)["kept"]
    if told:
        rows = [
            (
                code(change.label),
                f"**{change.word}**",
                escape(figures(change)),
                escape(moved(change)) or ABSENT,
                escape(change.why),
            )
            for change in told
        ]
        lines += table(COLUMNS, rows)
    return [*lines, f"{kept} of {len(comparison.changes)} findings are kept.", ""]
