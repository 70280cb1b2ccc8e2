"""A comparison in a terminal: where both runs come from, what is not kept, what is.

render  print it
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from reports.change import Change, Side
from reports.comparison import Comparison
from reports.text import ABSENT, estimate, number, short

COLOURS = {
    "kept": "green",
    "degraded": "yellow",
    "lost": "red",
    "emerged": "cyan",
    "changed": "yellow",
    "not comparable": "bold magenta",
}
TIERS = {"as_published": "pub", "audited": "aud"}
DIGEST = 16


def render(comparison: Comparison, console: Console, verbose: bool = False) -> None:
    """Print provenance first, then the ladder, what is not kept, a line for each that is, and the outcome.

    Args:
        verbose: tell what is kept with its figures too.
    """
    console.print(Text(f"{short(comparison.new, 80)} beside {short(comparison.baseline, 80)}", style="bold"))
    for line in provenance(comparison):
        console.print(Text(f"  {line}"))
    console.print()
    for change in comparison.changes:
        if change.word != "kept" or verbose:
            _print_block(change, console)
    kept = [change for change in comparison.changes if change.word == "kept"]
    if kept and not verbose:
        console.print(Text("kept:", style="green"))
        for change in kept:
            moved = "" if change.change is None else f" {estimate(change.change, change.interval, brief=True)}"
            console.print(Text(f"  {_named(change)}{moved}"))
    console.print()
    console.print(Text(short(comparison.line, 4000), style="bold green" if comparison.passes else "bold red"))


def provenance(comparison: Comparison) -> list[str]:
    """What differs between both runs, a line each, and what became of the ladder."""
    lines = []
    if comparison.same_weights:
        lines.append("the same weights in both runs")
    for each in comparison.provenance:
        means = "other weights" if each.kind == "point" else f"another {each.name}"
        lines.append(f"{means}: {_cut(each.new)}, the baseline {_cut(each.baseline)}")
    if not lines:
        lines.append("nothing is known to differ between both runs")
    lines += [f"{tier} was not asked for, and is not compared" for tier in comparison.left_out]
    rung = comparison.rung
    if rung.baseline or rung.new:
        same = rung.baseline == rung.new
        before = rung.baseline or "not measured"
        lines.append(f"ladder: {rung.new or 'not measured'}" + ("" if same else f", the baseline: {before}"))
    return lines


def figures(change: Change) -> str:
    """`holds 0.98 [0.96, 1.00], n 72 -> refuted 0.41 [0.36, 0.46], n 72`."""
    return f"{_side(change.baseline)} -> {_side(change.new)}"


def moved(change: Change) -> str:
    """`change -0.57 [-0.62, -0.52], problem by problem`, and the drift where there is one."""
    parts = []
    if change.change is not None:
        how = "problem by problem" if change.paired else "not paired"
        parts.append(f"change {estimate(change.change, change.interval)}, {how}")
    if change.drift is not None:
        parts.append(f"since the first accepted {estimate(change.drift, change.drift_interval)}")
    return "; ".join(parts)


def _print_block(change: Change, console: Console) -> None:
    console.print(Text(f"{change.word}", style=COLOURS[change.word]).append(f"  {_named(change)}", style="bold"))
    for line in (figures(change), moved(change), change.why):
        if line:
            console.print(Text(f"  {line}"))


def _named(change: Change) -> str:
    label = short(change.label.removesuffix("@as_published"), 160)
    return f"{label} ({TIERS[change.tier]})"


def _side(side: Side | None) -> str:
    if side is None:
        return "nothing"
    shown = estimate(side.effect, side.interval)
    return side.verdict + ("" if shown == ABSENT else f" {shown}") + ("" if side.n is None else f", n {number(side.n)}")


def _cut(value: str) -> str:
    """A digest in its first digits: no two that one meets share these."""
    words: Sequence[str] = [word[:DIGEST] if len(word) in (40, 64) else word for word in short(value, 200).split(" ")]
    return " ".join(words)
