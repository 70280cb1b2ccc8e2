"""What docs/ci.md and action.yml say is what runs: parsed, and their script run on a few problems."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from written_reports import finding, report, saved

from mechinterp.evidence import VERDICTS
from reports.command_line import main
from reports.comparison import compare
from reports.summary import MOST_BYTES, summary

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "ci" / "examine.sh"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.DOTALL)


def test_action():
    """The action names its inputs and outputs, runs the script, and puts no input into a command."""
    steps = ACTION["runs"]["steps"]
    assert set(ACTION["outputs"]) == {*VERDICTS, "passes"}
    assert ACTION["inputs"]["model"]["required"]
    for step in steps:
        assert "${{" not in step.get("run", "")
    (examine,) = [step for step in steps if step.get("id") == "examine"]
    taken = set(re.findall(r"\$\{(\w+)[:}]", SCRIPT.read_text())) | {"SUITE"}
    assert set(examine["env"]) <= taken
    assert examine["run"] == 'bash "$SUITE/ci/examine.sh"'
    assert steps[-1]["if"] == "always()"


def test_documents():
    """The example workflows parse, give inputs that there are, and run the script."""
    github, gitlab = map(yaml.safe_load, BLOCKS)
    (step,) = [step for step in github["jobs"]["claims"]["steps"] if step.get("id") == "claims"]
    assert set(step["with"]) <= set(ACTION["inputs"])
    assert any("ci/examine.sh" in line for line in gitlab["claims"]["script"])
    assert "origin/" in gitlab["claims"]["variables"]["BASE"]


def run(folder, **environment):
    env = {**os.environ, "PYTHON": sys.executable, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
    env |= {"GITHUB_OUTPUT": str(folder / "outputs"), "GITHUB_STEP_SUMMARY": str(folder / "page")}
    return subprocess.run([SCRIPT], cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def test_script(tmp_path):
    """A run leaves report, summary, counts and JUnit; the baseline is read from the base, not from the change."""
    few = {"MODEL": "base", "ARGS": "-k called_right --n-problems 32 -p no:cacheprovider"}
    first = run(tmp_path, **few, OUT="first")
    (folder,) = (tmp_path / "first" / "runs").iterdir()
    assert main(["accept", str(folder), "--baseline", str(tmp_path / "b.json"), "--reason", "so it is"]) == 0
    git = ["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "-q"], ["add", "b.json"], ["commit", "-qm", "baseline"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "b.json").write_text("edited by the change")
    done = run(tmp_path, **few, BASELINE="b.json", BASE="HEAD")
    assert done.returncode == 0, done.stdout + done.stderr + first.stdout
    assert "passes=true" in (tmp_path / "outputs").read_text().splitlines()
    assert "Against the baseline" in (tmp_path / "page").read_text()
    (case,) = ET.parse(tmp_path / "claims-report" / "junit.xml").iter("testcase")  # noqa: S314 - our own file
    told = {each.get("name"): each.get("value") for each in case.iter("property")}
    assert told["claim"] == "behaviour.verifies"
    assert told["change"] == "kept"
    assert {"verdict", "tier", "effect", "interval", "n"} <= set(told)


def test_script_without_a_model(tmp_path):
    """Without a checkpoint the script says so."""
    done = run(tmp_path)
    assert done.returncode != 0
    assert "name a checkpoint in MODEL" in done.stderr


@pytest.mark.parametrize("words", ["short", "x" * 5000])
def test_summary_fits(words):
    """However many findings there are and whatever they say, the page of a job holds the summary."""
    many = report(*(finding(f"a.b{i}", "refuted", reasons=[words], case=words) for i in range(600)))
    page = summary(many, compare(report(finding("a.b0")), many))
    assert len(page.encode()) <= MOST_BYTES + 1000
    assert "**Outcome:**" in page


def test_counts(tmp_path, capsys):
    """Outputs are verdict counts and whether anything is to be accepted."""
    path = saved(report(finding(), finding("a.b", "refuted")), tmp_path / "report.json")
    assert main(["summary", str(path), "--outputs", str(tmp_path / "out")]) == 0
    assert "Mechanistic claims: r1" in capsys.readouterr().out
    told = dict(line.split("=") for line in (tmp_path / "out").read_text().splitlines())
    assert (told["holds"], told["refuted"], told["passes"]) == ("1", "1", "false")
