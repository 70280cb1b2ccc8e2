"""The findings of a run as a table in a terminal.

render  print it
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports.outcome import by_claim, outcome
from reports.schema import Finding
from reports.text import ABSENT, estimate, plain

WIDE, WIDEST_CLAIM = 110, 26
PLAIN = "default not bold not dim"
COLOURS = {
    "holds": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "not_applicable": "cyan",
    "error": "bold magenta",
    "not_run": "dim",
}


def render(findings: Sequence[Finding], console: Console) -> None:
    """Print one row a finding, then why each unexpected verdict came about, then the outcome.

    Words carry everything that colours do. In a narrow terminal threshold and control move below the claim, so
    that effect and verdict are never cut.
    """
    ordered = by_claim(findings)
    if ordered:
        console.print(_table(ordered, wide=console.width >= WIDE))
        console.print()
    for finding in ordered:
        if not finding.as_expected:
            name = Text(f"{plain(finding.label)} {finding.verdict} (!): ", style=COLOURS[finding.verdict])
            console.print(name.append("; ".join(map(plain, finding.reasons)) or "no reason was given", style=PLAIN))
    status, line = outcome(findings)
    console.print(Text(line, style="bold green" if status == 0 else "bold red"), soft_wrap=True)


def _table(findings: Sequence[Finding], wide: bool) -> Table:
    rows = [(_wide if wide else _narrow)(finding) for finding in findings]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), leading=0 if wide else 1)
    if wide:
        table.add_column("claim", width=min(_widest(rows, 0), WIDEST_CLAIM), overflow="fold")
    else:
        table.add_column("claim, threshold, control", overflow="fold")
    table.add_column("effect [95 %]", width=max(_widest(rows, 1), len("effect [95 %]")), overflow="fold")
    if wide:
        table.add_column("threshold", overflow="fold")
        table.add_column("control", overflow="fold")
    table.add_column("n", justify="right", width=_widest(rows, -2), overflow="fold")
    table.add_column("verdict", width=max(_widest(rows, -1), len("verdict")), overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _widest(rows: list[list[Text]], column: int) -> int:
    """Cells that the column needs: effect, n and verdict are what the table is for, and are never cut."""
    return max(cell.cell_len for row in rows for cell in row[column].split("\n"))


def _wide(finding: Finding) -> list[Text]:
    return [
        _claim(finding),
        Text(estimate(finding.effect, finding.interval)),
        Text(plain(finding.threshold).replace(", ", ",\n", 1) or ABSENT),
        Text(plain(finding.null_of) or ABSENT),
        _count(finding),
        _verdict(finding),
    ]


def _narrow(finding: Finding) -> list[Text]:
    claim = _claim(finding)
    for line in (finding.threshold, f"vs {finding.null_of}" if finding.null_of else ""):
        claim.append(f"\n{plain(line)}" if line else "", style="dim")
    return [
        claim,
        Text(estimate(finding.effect, finding.interval).replace(" [", "\n[")),
        _count(finding),
        _verdict(finding),
    ]


def _claim(finding: Finding) -> Text:
    """The claim, and on a line of its own its case and tier."""
    marks = [plain(finding.case), "as published" if finding.tier == "as_published" else ""]
    below = ", ".join(filter(None, marks))
    return Text(plain(finding.claim)).append(f"\n{below}" if below else "", style="italic")


def _count(finding: Finding) -> Text:
    return Text(ABSENT if finding.n is None else str(finding.n))


def _verdict(finding: Finding) -> Text:
    word = Text(finding.verdict, style=COLOURS[finding.verdict])
    if not finding.as_expected:
        word.append(" (!)").append(f"\nexpected {finding.expected}", style=PLAIN)
    elif finding.verdict != "holds":
        word.append("\nas expected", style=PLAIN)
    return word
