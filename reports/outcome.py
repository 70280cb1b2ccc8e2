"""What the findings of a run come to.

outcome            exit status and one line
by_claim           the findings, with the cases and tiers of a claim side by side
tiers_that_differ  the claims on which the two tiers disagree
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.finding import Finding
from reports.text import plain

MAX_NAMED = 10


def outcome(findings: Sequence[Finding]) -> tuple[int, str]:
    """Exit status and one line: 0 if every verdict is as expected, else 1, also if there is no verdict at all."""
    if not findings:
        return 1, "no claim was run"
    wrong = [finding for finding in findings if not finding.as_expected]
    if not wrong:
        return 0, "the one verdict is as expected" if len(
            findings
        ) == 1 else f"all {len(findings)} verdicts as expected"
    named = [f"{plain(finding.label)} {finding.verdict} (expected {finding.expected})" for finding in wrong[:MAX_NAMED]]
    if len(wrong) > MAX_NAMED:
        named.append(f"and {len(wrong) - MAX_NAMED} more")
    count = f"{len(wrong)} of {len(findings)} verdict{'s' * (len(findings) > 1)}"
    return 1, f"{count} {'is' if len(wrong) == 1 else 'are'} not as expected: {', '.join(named)}"


def by_claim(findings: Iterable[Finding]) -> list[Finding]:
    """The findings with the cases and tiers of a claim side by side, claims in the order they were first met."""
    findings = list(findings)
    claims = {finding.claim: place for place, finding in reversed(list(enumerate(findings)))}
    cases = {(finding.claim, finding.case): place for place, finding in reversed(list(enumerate(findings)))}
    return sorted(findings, key=lambda f: (claims[f.claim], cases[f.claim, f.case], f.tier == "audited"))


def tiers_that_differ(findings: Iterable[Finding]) -> list[tuple[Finding, Finding]]:
    """Pairs (as published, audited) of one claim, case and subject whose verdicts are not the same."""
    findings = list(findings)
    published = {(f.claim, f.case, f.subject): f for f in findings if f.tier == "as_published"}
    pairs = [(published.get((f.claim, f.case, f.subject)), f) for f in findings if f.tier == "audited"]
    return [(first, second) for first, second in pairs if first is not None and first.verdict != second.verdict]
