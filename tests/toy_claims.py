"""Claims that measure nothing and load no model, to see what pytest makes of them.

save      write them as a test file
run_toys  run them in a process of their own
Done      what came of it
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from reports.schema import Report, read_report

ROOT = Path(__file__).parent.parent
VERDICTS = {
    "toy.says[holds]": "holds",
    "toy.says[refuted]": "refuted",
    "toy.says[unmet]": "not_applicable",
    "toy.says[broken]": "error",
    "toy.tiers@as_published": "holds",
    "toy.tiers": "holds",
}
"""What they find, in the order of the file."""
HEAD = """
import os
import time

import numpy as np
import pytest

from claims.claim import Claim
from mechinterp import Evidence, PreconditionUnmet, Threshold
from mechinterp.nulls import Draws

DEMANDED = Threshold(0.5, reason="half")
NULL = Draws.of(np.zeros(300))


def evidence(effect, **more):
    print(os.environ["PYTEST_CURRENT_TEST"].split(" ")[0], file=open(os.environ["TOY_LOG"], "a"))
    return Evidence(effect=effect, interval=(effect - 0.1, effect + 0.1), n=40, **more)
"""
TOYS = """
SAYS = Claim("toy.says", statement="It says so.", source="nobody", published="1")
TIERS = Claim("toy.tiers", statement="It has both tiers.", source="nobody", published="1")


@SAYS.audited(measure="its effect", null="zeros", threshold=DEMANDED)
@pytest.mark.parametrize("says", ["holds", "refuted", "unmet", "broken"])
def test_says(judge, says):
    found = evidence({"refuted": -2.0}.get(says, 2.0))
    if says == "unmet":
        raise PreconditionUnmet("it has none")
    judge(found if says != "broken" else 1 / 0, null=NULL)


@TIERS.as_published(measure="its effect", setting="there", quirks=("one class",), threshold=Threshold(0.5, alpha=None))
def test_as_published(judge):
    judge(evidence(1.0))


@TIERS.audited(measure="its effect", null="zeros", threshold=DEMANDED)
def test_audited(judge):
    judge(evidence(1.0), null=NULL)
"""


@dataclass(frozen=True)
class Done:
    """What came of a run.

    Attributes:
        verdicts: of the one report, by label, in its order.
        measured: the tests that measured something, once for each time.
    """

    returncode: int
    stdout: str
    stderr: str
    reports: tuple[Report, ...]
    measured: tuple[str, ...]

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        (report,) = self.reports
        return [(finding.label, finding.verdict) for finding in report.findings]


def save(folder: Path, claims: str = TOYS) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "test_toys.py"
    path.write_text(HEAD + claims)
    return path


def command(file: Path, *arguments: str | Path) -> list[str]:
    """conftest.py is named, for the file lies outside of the clone."""
    own = ["-p", "conftest", "-c", "pyproject.toml", "-o", f"cache_dir={file.parent / 'cache'}"]
    places = [str(file), "--report-dir", str(file.parent / "reports")]
    return [sys.executable, "-m", "pytest", *own, *places, *map(str, arguments)]


def surroundings(file: Path) -> dict[str, str]:
    log = {"TOY_LOG": str(file.parent / "log")}
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "120", **log}


def run_toys(file: Path, *arguments: str | Path) -> Done:
    ran = subprocess.run(
        command(file, *arguments), cwd=ROOT, env=surroundings(file), capture_output=True, text=True, timeout=300
    )
    return done(file, ran.returncode, ran.stdout, ran.stderr)


def done(file: Path, returncode: int, stdout: str, stderr: str) -> Done:
    log = file.parent / "log"
    reports = tuple(read_report(path) for path in sorted(file.parent.glob("reports/runs/*/report.json")))
    return Done(returncode, stdout, stderr, reports, tuple(log.read_text().splitlines()) if log.exists() else ())
