"""The findings of a run in a terminal: the ladder, one line a case, what made a difference, the outcome.

render  print them
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from reports.abbreviation import abbreviated
from reports.difference import differences
from reports.finding import ControlRecord, Finding
from reports.ladder import Ladder
from reports.outcome import by_claim, outcome
from reports.text import ABSENT, estimate, number, short

TIERS = {"as_published": "pub", "audited": "aud"}
LEAST, LONGEST, WIDE = 24, 400, 100
PLAIN = "default not bold not dim"
COLOURS = {
    "holds": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "not_applicable": "cyan",
    "error": "bold magenta",
    "not_run": "dim",
}


def render(
    findings: Sequence[Finding],
    console: Console,
    ladder: Ladder | None = None,
    verbose: bool = False,
    expected: bool = True,
) -> None:
    """Print the ladder's sentence, one line a finding, then what is to be said of some, then the outcome.

    Said below the table is where the tiers of a claim differ, and why a verdict came about that was not expected.
    Words carry everything that colours do. A line fits 80 columns; where the terminal is wider, names are whole.

    Args:
        findings: in any order.
        console: where to print.
        ladder: how far the subject verifies at all.
        verbose: print reasons, thresholds, controls and seeds below each line.
        expected: say whether the verdicts are the expected ones; where a baseline says that, it has the last word.
    """
    ordered = by_claim(findings)
    if ordered:
        rung = Text("ladder: ", style="dim").append("not measured" if ladder is None else ladder.rung, style="bold")
        rung.append(f" - {short(ladder.sentence, LONGEST)}" if ladder else "", style=PLAIN)
        _print_hanging(console, rung, first="", indent="  ")
        console.print()
        _print_table(ordered, console, verbose)
        console.print()
    told = [(Text(short(claim, 80), style="bold"), sentence) for claim, sentence in differences(ordered)]
    _print_notes(console, "where the two tiers differ", told)
    if not expected:
        return
    wrong = [each for each in ordered if not each.as_expected]
    _print_notes(console, "not as expected", [(_verdict(each), _why(each)) for each in wrong])
    status, line = outcome(findings)
    console.print(Text(line, style="bold green" if status == 0 else "bold red"), soft_wrap=True)


def _print_table(findings: Sequence[Finding], console: Console, verbose: bool) -> None:
    """One line a finding. The name gets what verdict, effect and n leave, for those are never cut."""
    brief = console.width < WIDE
    effects = [estimate(finding.effect, finding.interval, brief) for finding in findings]
    measured = [finding.verdict for finding in findings if finding.effect is not None]
    counts = [ABSENT if finding.n is None else str(finding.n) for finding in findings]
    effect, count = max(map(len, [*effects, "effect [95 %]"])), max(map(len, counts))
    verdict = max(map(len, [*measured, "verdict"]))
    # A verdict without an effect may reach into the effect's column.
    effect = max(effect, *(len(each.verdict) - verdict - 1 for each in findings))
    rest = len(" aud  ") + verdict + 1 + effect + 1 + count
    labels = [short(finding.label.removesuffix("@as_published"), 200) for finding in findings]
    name = max(LEAST, min(max(map(cell_len, [*labels, "claim[case]"])), console.width - rest))
    names = abbreviated([(short(each.claim, 200), short(each.case, 200)) for each in findings], name)
    heads = "claim[case]", "tier", "verdict", "effect [95 %]", "n"
    line = f"{heads[0]:{name}} {heads[1]} {heads[2]:{verdict}} {heads[3]:{effect}} {heads[4]:>{count}}"
    console.print(Text(line, style="dim"), soft_wrap=True)
    for finding, label, shown, estimated, n in zip(findings, labels, names, effects, counts, strict=True):
        row = Text(f"{set_cell_size(shown, name)} {TIERS[finding.tier]} {'' if finding.as_expected else '!':1}")
        if finding.effect is None:
            row.append(f"{finding.verdict:{verdict + 1 + effect}}", style=COLOURS[finding.verdict])
        else:
            row.append(f"{finding.verdict:{verdict}}", style=COLOURS[finding.verdict]).append(f" {estimated:{effect}}")
        console.print(row.append(f" {n:>{count}}"), soft_wrap=True)
        if verbose:
            whole = [] if shown == label else [f"case: {short(finding.case, LONGEST)}"]
            for note in [*whole, *_notes(finding)]:
                _print_hanging(console, Text(note, style="dim"), first="    ", indent="      ")


def _print_notes(console: Console, title: str, notes: Sequence[tuple[Text, str]]) -> None:
    if not notes:
        return
    console.print(Text(f"{title}:", style="dim"))
    for head, sentence in notes:
        _print_hanging(console, head.append(f": {sentence}", style=PLAIN), first="  ", indent="    ")
    console.print()


def _print_hanging(console: Console, text: Text, first: str, indent: str) -> None:
    for place, line in enumerate(text.wrap(console, max(console.width - len(indent), LEAST))):
        line.rstrip()
        console.print(Text(indent if place else first).append_text(line), soft_wrap=True)


def _verdict(finding: Finding) -> Text:
    words = f" {finding.verdict} (expected {finding.expected})"
    return Text(short(finding.label, 120), style="bold").append(words, style=COLOURS[finding.verdict])


def _notes(finding: Finding) -> list[str]:
    """What -v tells of a finding, a line each."""
    p = "" if finding.p_value is None else f"p = {number(finding.p_value)} over {finding.draws} draws"
    cases = f", alpha shared by {finding.family} cases" if p and finding.family > 1 else ""
    exist = "" if finding.distinct is None else f" of {finding.distinct} that exist"
    null = f"{p}{exist} of {short(finding.null_of, 160) or 'matched controls'}{cases}" if p else ""
    seeds = ", ".join(f"{each.seed} {each.verdict} {number(each.effect)}" for each in finding.seeds)
    agree = "" if finding.jaccard is None else f", Jaccard {number(finding.jaccard)}"
    reason = f" ({short(finding.threshold_reason, 200)})" if finding.threshold_reason else ""
    notes = {
        "because": _why(finding) if finding.verdict != "holds" else "",
        "expected": f"{finding.expected}, {short(finding.expected_reason, 200)}" if finding.expected_reason else "",
        "demanded": short(finding.threshold, 120) + reason if finding.threshold else "",
        "null": null,
        "rivals": _controls(finding, "rival"),
        "validity": _controls(finding, "validity"),
        "quirks": "; ".join(short(quirk, 200) for quirk in finding.quirks),
        "seeds": f"{seeds}; spread {number(finding.spread)}{agree}" if seeds else "",
    }
    return [f"{name}: {text}" for name, text in notes.items() if text]


def _controls(finding: Finding, kind: str) -> str:
    return "; ".join(map(_margin, (control for control in finding.controls if control.kind == kind)))


def _margin(control: ControlRecord) -> str:
    return f"{short(control.name, 120)} {estimate(control.margin, control.interval)}"


def _why(finding: Finding) -> str:
    unsaid = "all that was demanded was shown" if finding.verdict == "holds" else "no reason was given"
    return "; ".join(short(reason, LONGEST) for reason in finding.reasons) or unsaid
