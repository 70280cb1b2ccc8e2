"""docs/write-a-claim.md: its example runs as it stands, by the commands that it gives."""

import os
import re
import subprocess
import sys
from pathlib import Path

from reports.command_line import main
from reports.schema import read_report

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "write-a-claim.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(ELSEWHERE,) = re.findall(r"    (python -m pytest -p conftest .*)", PAGE)


def run(folder, *arguments):
    words = ELSEWHERE.replace("~/my_claims", str(folder / "my_claims")).split()
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    own = ["-p", "no:cacheprovider", "--n-problems", "96", "--report-dir", str(folder), *arguments]
    return subprocess.run([sys.executable, *words[1:], *own], cwd=ROOT, env=env, capture_output=True, text=True)


def test_example(tmp_path):
    """The claim is measured, with its null and its parts, and can be accepted and compared as the page says."""
    (tmp_path / "my_claims").mkdir()
    (tmp_path / "my_claims" / "test_foils.py").write_text(EXAMPLE)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    (finding,) = read_report(folder / "report.json").findings
    assert (finding.claim, finding.verdict, finding.n) == ("mine.ranks_foils", "holds", 48)
    assert len(finding.by_problem) == 48
    baseline = tmp_path / "my_claims" / "base.json"
    assert main(["accept", str(folder), "--baseline", str(baseline)]) == 0
    again = run(tmp_path, "--baseline", baseline)
    assert again.returncode == 0
    assert "1 kept; nothing to accept" in again.stdout


def test_example_fits_the_page():
    """The example is short, and names nothing that is not imported from what the page speaks of."""
    assert len(EXAMPLE.splitlines()) < 60
    for path in re.findall(r"\]\((\.\./[^)#]+|[a-z-]+\.md)\)", PAGE):
        assert (ROOT / "docs" / path).exists(), path
