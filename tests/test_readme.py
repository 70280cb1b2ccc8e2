"""The README says what the committed report says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports.text import estimate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BASELINE = ROOT / "reports" / "baselines" / "qwen2.5-coder-0.5b-q4_k_m.json"


@pytest.fixture(scope="module")
def audit():
    return json.loads(BASELINE.read_text())


def test_table_is_that_of_the_baseline(audit):
    """Each row of the first table in the README is a finding of the committed report, and none is left out."""
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{f['claim']}` | {f['case'] or '-'} | {estimate(f['effect'], f['interval'])} "
        f"| {'-' if f['at_least'] is None else format(f['at_least'], 'g')} | {f['verdict']} |"
        for f in audit["findings"]
    ]
    assert rows


def test_weights_are_named(audit):
    """The README names the weights of the audit by their SHA-256, and the command that examined them."""
    assert audit["subject"]["sha256"] in README
    command = "pytest claims/ --model qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
    assert audit["command"].startswith(command)
    assert f"    {command}\n" in README


def test_baseline_names_no_place(audit):
    """A committed report holds no path of the machine that it was made on."""
    text = BASELINE.read_text()
    assert "/root" not in text
    assert "/home" not in text
    assert "/tmp" not in text  # noqa: S108
