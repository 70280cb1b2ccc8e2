"""What the findings of a run come to.

outcome   exit status and one line
by_claim  the findings, claim by claim, each with its two tiers one after the other
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.finding import Finding
from reports.text import short

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
    named = [
        f"{short(finding.label, 120)} {finding.verdict} (expected {finding.expected})" for finding in wrong[:MAX_NAMED]
    ]
    if len(wrong) > MAX_NAMED:
        named.append(f"and {len(wrong) - MAX_NAMED} more")
    count = f"{len(wrong)} of {len(findings)} verdict{'s' * (len(findings) > 1)}"
    return 1, f"{count} {'is' if len(wrong) == 1 else 'are'} not as expected: {', '.join(named)}"


def by_claim(findings: Iterable[Finding]) -> list[Finding]:
    """The findings claim by claim, in the order in which claims were first met: as published, then audited."""
    findings = list(findings)
    claims = {finding.claim: place for place, finding in reversed(list(enumerate(findings)))}
    return sorted(findings, key=lambda finding: (claims[finding.claim], finding.tier == "audited"))
