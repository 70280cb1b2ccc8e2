"""Where the two tiers of a claim differ, and what made the difference.

difference   one sentence on one published verdict and its audit
differences  the claims of a run whose published verdict their audit does not share, with that sentence
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from mechinterp.evidence import Verdict
from reports.finding import Finding
from reports.text import number, short

SAYS = {
    "holds": "holds",
    "refuted": "is refuted",
    "inconclusive": "is inconclusive",
    "not_applicable": "is not applicable",
}
"""The verdicts that can be compared: an error or a claim that was not run says nothing about the other tier."""
_NUMBER = re.compile(r"-?[0-9][0-9.e+-]*")
MOST_GROUPS, MOST_CASES, MOST_REASONS, LONGEST = 4, 4, 2, 240


def difference(as_published: Finding, audited: Sequence[Finding]) -> str | None:
    """One sentence that says how the verdicts differ and which control, figure or precondition made the difference.

    It is made from the findings alone: their verdicts, effects and the reasons for their verdicts, the weightiest
    first. None where the tiers agree, or where one of them has no verdict to compare.

    Args:
        as_published: one case of the source's own protocol.
        audited: the audited cases that ask the same question.
    """
    audit = _audit(as_published.verdict, audited)
    return None if audit is None else f"{_said('as_published', [as_published])}; {audit}"


def differences(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """Claims whose published verdict their audit does not share, each with its sentence.

    Published cases that are alike, audited by the same cases, share one.
    """
    findings = list(findings)
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for each in findings:
        audit = _audit(each.verdict, counterparts(each, findings)) if each.tier == "as_published" else None
        if audit is not None:
            alike.setdefault((each.subject, each.claim, each.verdict, _kind(each), audit), []).append(each)
    return [(key[1], f"{_said('as_published', group)}; {key[-1]}") for key, group in alike.items()]


def counterparts(as_published: Finding, findings: Iterable[Finding]) -> list[Finding]:
    """The audited findings of the same claim that ask the same question.

    Those whose case names all that the published case names: `zero` is audited by `zero` and by `role_swapped/zero`.
    All of the claim, where no case does.
    """
    audited = [
        each
        for each in findings
        if (each.tier, each.claim, each.subject) == ("audited", as_published.claim, as_published.subject)
    ]
    named = set(as_published.case.split("/")) if as_published.case else set()
    return [each for each in audited if named <= set(each.case.split("/"))] or audited


def _audit(published: Verdict, audited: Sequence[Finding]) -> str | None:
    """What the audit says, those that agree first and without their reasons; None where it says nothing else."""
    judged = [finding for finding in audited if finding.verdict in SAYS]
    if published not in SAYS or all(each.verdict == published for each in judged):
        return None

    def key(finding: Finding) -> tuple[bool, int, str]:
        differs = finding.verdict != published
        return differs, list(SAYS).index(finding.verdict), _kind(finding) if differs else ""

    groups = [list(group) for _, group in groupby(sorted(judged, key=key), key=key)]
    parts = [_said("audited", group, reasons=group[0].verdict != published) for group in groups[:MOST_GROUPS]]
    if left_out := sum(map(len, groups[MOST_GROUPS:])):
        parts.append(f"and {left_out} more audited cases differ")
    return "; ".join(parts)


def _said(tier: str, group: list[Finding], reasons: bool = True) -> str:
    """`audited is refuted for zero (0.12) and mean (0.20): the effect stays below 0.5`."""
    first, why = group[0], _why(group[0]) if reasons else ""
    cases = [_case(each) for each in group[:MOST_CASES]]
    if len(group) > MOST_CASES:
        cases.append(f"{len(group) - MOST_CASES} more")
    last = f" and {cases.pop()}" if len(cases) > 1 else ""
    where = f" for {', '.join(cases)}{last}" if any(each.case for each in group) else f"{_effect(first)}"
    if why and any(_why(each) != why for each in group):
        why += f" ({_name(first)}; the others alike)"
    return f"{tier} {SAYS[first.verdict]}{where}{': ' if why else ''}{why}"


def _case(finding: Finding) -> str:
    return _name(finding) + _effect(finding)


def _name(finding: Finding) -> str:
    return short(finding.case, 60) or "the claim"


def _effect(finding: Finding) -> str:
    return "" if finding.effect is None else f" ({number(finding.effect)})"


def _why(finding: Finding) -> str:
    if finding.verdict == "holds":
        return ""
    reasons = [_named(reason, finding) for reason in finding.reasons] or ["no reason was given"]
    more = len(reasons) - MOST_REASONS
    return "; ".join(reasons[:MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")


def _kind(finding: Finding) -> str:
    """Why, whatever the numbers."""
    return _NUMBER.sub("#", _why(finding))


def _named(reason: str, finding: Finding) -> str:
    """The reason, and for a p-value what its null is: that is the control which made the difference."""
    of = f", over {short(finding.null_of, 120)}" if reason.startswith("p = ") and finding.null_of else ""
    return f"{short(reason, LONGEST)}{of}"
