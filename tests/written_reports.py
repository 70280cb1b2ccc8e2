"""Findings and reports made up for tests.

finding  a finding that holds, unless told otherwise
report   a run with such findings
saved    the file that it was written to
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from reports.finding import Finding
from reports.schema import Environment, Report, to_json

HERE = Environment(python="3.11", platform="test")
DATA = "d" * 64


def finding(claim: str = "probe.decodable", verdict: str = "holds", effect: float | None = 0.9, **facts) -> Finding:
    """One that holds on 64 problems, with an interval of 0.1 to either side; `case`, `tier` and the rest as given."""
    measured = {} if effect is None else {"effect": effect, "interval": (effect - 0.1, effect + 0.1)}
    told = {
        "tier": "audited",
        "subject": "r1",
        "n": 64,
        "p_value": 0.005,
        "measure": "AUC",
        "threshold": "effect >= 0.5",
    }
    reasons = [] if verdict == "holds" else [f"it is {verdict}"]
    return Finding(claim=claim, verdict=verdict, **({"reasons": reasons} | told | measured | facts))


def report(*findings: Finding, weights: str = "a", dataset: str | None = DATA, **facts) -> Report:
    """A run on weights whose digest is that letter 64 times."""
    subject = {"name": "r1", "sha256": weights * 64, "dataset_hash": dataset}
    told = {"created": datetime(2025, 3, 1, tzinfo=UTC), "command": "pytest", "seeds": [0], "environment": HERE}
    return Report(**(told | {"subject": subject, "findings": list(findings)} | facts))


def saved(made: Report, path: Path) -> Path:
    path.write_text(to_json(made, indent=2) + "\n")
    return path
