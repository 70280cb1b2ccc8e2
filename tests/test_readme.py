"""The README says what the committed reports say."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from reports.schema import Report, read_report
from reports.text import estimate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BASELINES = sorted((ROOT / "reports" / "baselines").glob("*.json"))
TIERS = ("as_published", "audited")


def reports() -> dict[str, Report]:
    return {path.stem: read_report(path) for path in BASELINES}


def counted(report: Report, tier: str) -> str:
    """How many cases of a tier came to each verdict, such as `3 hold, 5 refuted, 12 n/a`."""
    found = Counter(finding.verdict for finding in report.findings if finding.tier == tier)
    words = {
        "holds": "hold",
        "refuted": "refuted",
        "inconclusive": "open",
        "not_applicable": "n/a",
        "not_run": "not run",
    }
    return ", ".join(f"{found[verdict]} {word}" for verdict, word in words.items() if found[verdict])


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_models_are_those_of_the_baselines(path):
    """Each committed report has its row: seeds, problems judged, rung, and what became of the cases of either tier."""
    report = read_report(path)
    judged = max(finding.n or 0 for finding in report.findings)
    row = (
        f"| [{path.stem}](reports/baselines/{path.name}) | {report.ladder.rung} | {len(report.seeds)} | {judged} "
        f"| {counted(report, 'as_published')} | {counted(report, 'audited')} |"
    )
    assert row in README.splitlines()


def test_figures_are_those_of_the_first_model():
    """Every figure in the table of claims is that of the report that the README shows first."""
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    shown = re.search(r"\[([\w.-]+)\]\(reports/baselines/", README)
    findings = {(f.claim, f.case, f.tier): f for f in reports()[shown[1]].findings}
    assert rows
    for row in rows:
        claim, case, published, audited, verdicts = (cell.strip() for cell in row.strip("|").split("|"))
        told = []
        for tier, figure in zip(TIERS, (published, audited), strict=True):
            finding = findings.get((claim.strip("`"), "" if case == "-" else case, tier))
            told.append("-" if finding is None else finding.verdict)
            assert figure == ("-" if finding is None or finding.effect is None else
                              estimate(finding.effect, finding.interval, brief=True))  # fmt: skip
        assert verdicts == " / ".join(told)


def test_weights_are_named():
    """The README gives the command of the first model's report."""
    shown = re.search(r"\[([\w.-]+)\]\(reports/baselines/", README)
    assert f"    {reports()[shown[1]].command}\n" in README


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_baseline_names_no_place(path):
    """A committed report holds no path of the machine that it was made on, and comes of a committed tree."""
    text = path.read_text()
    assert not re.search(r"[\" =]/(root|home|tmp|mnt|opt|Users)/", text)
    assert read_report(path).environment.suite_dirty is False
