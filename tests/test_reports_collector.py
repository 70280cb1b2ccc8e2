"""A run on disk: a folder of its own, nothing lost when killed, a report at the end."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reports
from reports.collector import REPORT_DIR, open_run, recover
from reports.finding import Finding
from reports.schema import Environment, ReportError, SubjectFacts, read_report, to_json
from reports.text import file_name

NOON = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
HERE = Environment(python="3.11", platform="test")


def finding(claim="probe.decodable", **facts):
    return Finding(claim=claim, subject="r1", **({"tier": "audited", "verdict": "error"} | facts))


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("base", "base-20250301T120000Z"),
        ("Qwen/Qwen2.5-3B@main", "Qwen-Qwen2.5-3B-main-20250301T120000Z"),
        ("./step_300", "step_300-20250301T120000Z"),
        ("../../x", "x-20250301T120000Z"),
        ("", "unnamed-20250301T120000Z"),
        ("完美", "unnamed-20250301T120000Z"),
        ("a\0b\n\x1b[31m", "a-b-31m-20250301T120000Z"),
    ],
)
def test_folder(tmp_path, model, folder):
    """A run gets a folder below `runs`, named by its model and the time."""
    assert open_run(tmp_path, model, NOON).directory == tmp_path / "runs" / folder


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=300))
def test_file_name(text):
    """Whatever the text, its file name is short, not hidden, and of one step."""
    name = file_name(text)
    assert 0 < len(name) <= 60
    assert name[0] not in ".-"
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert ".." not in name


def test_default_folder():
    """Runs end in the clone's reports/runs, which git ignores."""
    assert Path(reports.__file__).parent == REPORT_DIR


def test_other_time_zone(tmp_path):
    """The folder's time is UTC, whatever the clock's zone."""
    noon = NOON.astimezone(timezone(timedelta(hours=9)))
    assert open_run(tmp_path, "base", noon).directory.name == "base-20250301T120000Z"


def test_same_second(tmp_path):
    """Runs of the same second do not share a folder."""
    folders = [open_run(tmp_path, "base", NOON).directory.name for _ in range(3)]
    assert folders == [f"base-20250301T120000Z{suffix}" for suffix in ("", "-2", "-3")]


@pytest.mark.parametrize("folder", ["file", "file/below", "nul\0l", "/proc/nowhere"])
def test_impossible_folder(tmp_path, folder):
    """A folder that cannot be written is refused in one line that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(ReportError) as refusal:
        open_run(tmp_path / folder, "base")
    line = str(refusal.value)
    assert "cannot write to the report folder" in line
    assert line.isprintable()


def test_recorded_at_once(tmp_path):
    """A finding is on disk when `record` returns."""
    run = open_run(tmp_path, "base")
    made = [finding("a.b", details={"tokens": [" \u2028|\n"]}), finding("c.d", effect=float("nan"))]
    for place, each in enumerate(made, 1):
        run.record(each)
        assert recover(run.directory) == made[:place]


def test_killed_run(tmp_path):
    """A run that is killed without warning loses no finding that it had recorded."""
    code = (
        "import os, signal, sys\n"
        "from reports.collector import open_run\n"
        "from reports.finding import finding_without\n"
        "run = open_run(sys.argv[1], 'base')\n"
        "for i in range(3):\n"
        "    run.record(finding_without('not_run', 'x', claim=f'a.{i}', tier='audited', subject='base'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=REPORT_DIR.parent)
    assert killed.returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "runs").iterdir()
    assert [each.claim for each in recover(folder)] == ["a.0", "a.1", "a.2"]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.data())
def test_torn_line(tmp_path_factory, data):
    """However the last line was torn, every finding before it is recovered."""
    folder = tmp_path_factory.mktemp("run")
    whole = to_json(finding("a.b")) + "\n"
    last = to_json(finding("c.d"))
    torn = last[: data.draw(st.integers(0, len(last)))]
    (folder / "findings.jsonl").write_text(whole + torn)
    claims = [each.claim for each in recover(folder)]
    assert claims == (["a.b", "c.d"] if torn == last else ["a.b"])


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"claim": 3}', "", "NaN"])
def test_broken_line(tmp_path, line):
    """A finished line that is no finding is refused, by its number."""
    (tmp_path / "findings.jsonl").write_text(f"{to_json(finding())}\n{line}\n{to_json(finding())}\n")
    with pytest.raises(ReportError, match="line 2 of") as refusal:
        recover(tmp_path)
    assert str(refusal.value).isprintable()


def test_nothing_to_recover(tmp_path):
    """A folder that is no run is refused in one line."""
    with pytest.raises(ReportError, match=r"findings\.jsonl"):
        recover(tmp_path)


def test_finish(tmp_path):
    """At the end there are the report, a page to read and the pictures, and no half-written file."""
    run = open_run(tmp_path, "base", NOON)
    run.record(finding("probe.decodable", series={"accuracy": [0.5, 0.9]}))
    made = run.finish(
        command="pytest claims/", subject=SubjectFacts(name="base"), seeds=[0], tiers=["audited"], where=HERE
    )
    assert read_report(run.directory / "report.json") == made
    assert made.created == NOON
    names = {str(path.relative_to(run.directory)) for path in run.directory.rglob("*") if path.is_file()}
    assert names == {"findings.jsonl", "report.json", "report.html", "report.md", "figures/probe.decodable.svg"}
    assert "figures/probe.decodable.svg" in (run.directory / "report.md").read_text()


def test_finish_without_findings(tmp_path):
    """A run without findings leaves a report that says so."""
    run = open_run(tmp_path, "base", NOON)
    run.finish(command="pytest claims/", subject=SubjectFacts(name="base"), where=HERE)
    assert json.loads((run.directory / "report.json").read_text())["findings"] == []
    assert "no claim was run" in (run.directory / "report.md").read_text()


def test_finish_is_atomic(tmp_path, monkeypatch):
    """A report that cannot be put in place leaves the old one whole and no litter."""
    run = open_run(tmp_path, "base", NOON)
    run.finish(command="first", subject=SubjectFacts(name="base"), where=HERE)
    before = sorted(path.name for path in run.directory.iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ReportError, match="No space left on device"):
        run.finish(command="second", subject=SubjectFacts(name="base"), where=HERE)
    assert read_report(run.directory / "report.json").command == "first"
    assert sorted(path.name for path in run.directory.iterdir()) == before


def test_vanished_folder(tmp_path):
    """A folder that vanished during the run is one clear line, and the findings stay in memory."""
    run = open_run(tmp_path, "base")
    (run.directory / "findings.jsonl").unlink()
    run.directory.rmdir()
    with pytest.raises(ReportError, match="cannot write to the report folder"):
        run.record(finding())
    assert len(run.findings) == 1
