"""A claim's section in report.md: what was published, both tiers side by side, and what stands behind each.

section  the lines of a claim's section
word     a verdict, in bold where it is not the expected one
TIERS    the tiers in words, in the order of a report
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.difference import differences
from reports.figures import Picture
from reports.finding import ControlRecord, Finding, SeedRecord, Tier
from reports.markup import bullets, code, escape, table
from reports.text import ABSENT, estimate, number

TIERS: dict[Tier, str] = {"as_published": "as published", "audited": "audited"}
COLUMNS = ("Tier", "Case", "Verdict", "Effect [95 % interval]", "Demanded", "n", "p (allowed)")
MOST_SELECTED = 60


def section(findings: Sequence[Finding], pictures: Sequence[Picture]) -> list[str]:
    """Lines of Markdown on one claim: its findings in every tier and case, each with its picture."""
    told = [f"**What made the difference:** {escape(sentence)}." for _, sentence in differences(findings)]
    lines = [f"### {code(findings[0].claim)}", ""]
    for name in ("statement", "published", "setting", "source"):
        texts = dict.fromkeys(getattr(finding, name) for finding in findings)
        said = "; ".join(escape(text) for text in texts if text)
        if said:
            lines += [said if name == "statement" else f"- **{name.capitalize()}:** {said}"]
            lines += [""] if name == "statement" else []
    lines += ["", *table(COLUMNS, map(_row, findings))]
    for sentence in told:
        lines += [sentence, ""]
    for tier, title in TIERS.items():
        of_tier = [(each, drawn) for each, drawn in zip(findings, pictures, strict=True) if each.tier == tier]
        if of_tier:
            lines += [f"#### {title.capitalize()}", "", *_tier(*zip(*of_tier, strict=True))]
    return lines


def word(finding: Finding) -> str:
    """The verdict, in bold where it is not the expected one."""
    return finding.verdict if finding.as_expected else f"**{finding.verdict}**"


def _row(finding: Finding) -> list[str]:
    expected = "" if finding.as_expected else f" (expected {finding.expected})"
    return [
        TIERS[finding.tier],
        code(finding.case) or ABSENT,
        word(finding) + expected,
        estimate(finding.effect, finding.interval),
        ABSENT if finding.at_least is None else f"{finding.at_least:g}",
        ABSENT if finding.n is None else str(finding.n),
        _p(finding),
    ]


def _p(finding: Finding) -> str:
    """The raw p-value and what the family allows it to be: `0.0033 (0.017 = 0.05 / 3)`."""
    if finding.p_value is None:
        return ABSENT
    if finding.alpha is None:
        return number(finding.p_value)
    shared = "" if finding.family == 1 else f" = {finding.alpha:g} / {finding.family}"
    return f"{number(finding.p_value)} ({finding.alpha / finding.family:.2g}{shared})"


def _tier(findings: tuple[Finding, ...], pictures: tuple[Picture, ...]) -> list[str]:
    """What all cases of the tier share, once, then what is a case's own."""
    facts = [{name: text for name, text in _facts(finding).items() if text} for finding in findings]
    shared = {name: text for name, text in facts[0].items() if all(own.get(name) == text for own in facts)}
    lines = [*_listed(shared), ""] if shared else []
    for finding, own, picture in zip(findings, facts, pictures, strict=True):
        if len(findings) > 1:
            lines += [f"{code(finding.case) or 'No case'}: {word(finding)}", ""]
        apart = {name: text for name, text in own.items() if name not in shared}
        lines += [*_listed(apart), ""] if apart else []
        lines += [*_image(finding, picture), *_details(finding)]
    return lines


def _listed(facts: dict[str, str]) -> list[str]:
    return [f"- **{name}:** {text}" for name, text in facts.items()]


def _facts(finding: Finding) -> dict[str, str]:
    """What is listed of a finding, by name; empty where there is nothing to say."""
    reason = f" ({escape(finding.threshold_reason)})" if finding.threshold_reason else ""
    expected = escape(finding.expected_reason or "")
    chosen = ", ".join(map(code, finding.selected[:MOST_SELECTED]))
    more = len(finding.selected) - MOST_SELECTED
    return {
        "Measured": escape(finding.measure),
        "Demanded": f"{escape(finding.threshold)}{reason}" if finding.threshold else "",
        "Quirks of the protocol, kept on purpose": "; ".join(map(escape, finding.quirks)),
        "Because": "; ".join(map(escape, finding.reasons)),
        "Why this was expected" if finding.as_expected else "Why another was expected": expected,
        "Rivals": _margins(finding, "rival"),
        "Validity checks": _margins(finding, "validity"),
        "Null": _null(finding),
        "Chosen on the fit half": chosen + (f" and {more} more" if more > 0 else ""),
        "By seed": _seeds(finding),
        "Noise of batch size and attention kernel": number(finding.noise) if finding.noise else "",
        "Compared with": escape(finding.reference or ""),
        "Time": f"{finding.seconds:.1f} s" if finding.seconds else "",
    }


def _null(finding: Finding) -> str:
    name, summary = escape(finding.null_of), finding.null_summary
    if summary is None or not finding.draws:
        return name
    figures = f"mean {number(summary.mean)}, 95th percentile {number(summary.p95)}, largest {number(summary.max)}"
    exist = "" if finding.distinct is None else f" of the {finding.distinct} that exist"
    return f"{name or 'matched controls'}; the effect under {finding.draws} draws{exist}: {figures}"


def _margins(finding: Finding, kind: str) -> str:
    return "; ".join(_margin(control) for control in finding.controls if control.kind == kind)


def _margin(control: ControlRecord) -> str:
    return f"{escape(control.name)}: margin {escape(estimate(control.margin, control.interval))}"


def _seeds(finding: Finding) -> str:
    if not finding.seeds:
        return ""
    agree = "" if finding.jaccard is None else f", Jaccard of what was chosen {number(finding.jaccard)}"
    return f"{'; '.join(map(_seed, finding.seeds))}; spread of the effect {number(finding.spread)}{agree}"


def _seed(record: SeedRecord) -> str:
    effect = "" if record.effect is None else f", {escape(estimate(record.effect, record.interval))}"
    return f"{record.seed} {record.verdict}{effect}"


def _image(finding: Finding, picture: Picture) -> list[str]:
    if picture.path:
        return [f"![{escape(finding.label)}]({picture.path})", ""]
    return [f"No picture: {escape(picture.problem)}.", ""] if picture.problem else []


def _details(finding: Finding) -> list[str]:
    return ["Details:", "", *bullets(finding.details), ""] if finding.details else []
