"""`python -m reports` as its users run it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from written_reports import finding, report, saved

import reports
from reports.command_line import EXAMPLES, main
from reports.schema import read_report

ROOT = Path(reports.__file__).parent.parent


@pytest.fixture
def files(tmp_path):
    """A report, one that keeps all of it, and one in which a claim is lost."""
    return {
        "old": saved(report(finding("a.b"), finding("c.d")), tmp_path / "old.json"),
        "same": saved(report(finding("a.b"), finding("c.d")), tmp_path / "same.json"),
        "lost": saved(report(finding("a.b"), finding("c.d", "refuted"), weights="b"), tmp_path / "lost.json"),
        "failed": saved(report(finding("a.b"), finding("c.d", "error")), tmp_path / "failed.json"),
    }


def run(capsys, *arguments):
    status = main([*map(str, arguments)])
    return status, *capsys.readouterr()


def test_compare(files, capsys):
    """0 where every finding is kept, 1 where one is not; provenance comes first."""
    assert run(capsys, "compare", files["old"], files["same"])[0] == 0
    status, said, _ = run(capsys, "compare", files["old"], files["lost"])
    assert status == 1
    assert said.index("other weights") < said.index("lost  c.d")
    assert "1 kept" in said


def test_compare_for_programs(files, capsys):
    """--json prints the comparison, whatever it comes to."""
    status, said, _ = run(capsys, "compare", files["old"], files["lost"], "--json")
    assert status == 1
    assert {each["label"]: each["word"] for each in json.loads(said)["changes"]} == {"a.b": "kept", "c.d": "lost"}


def test_accept(files, tmp_path, capsys):
    """What changed is accepted with its reason; then all is kept, and accepting again leaves the file alone."""
    mine = tmp_path / "mine.json"
    assert run(capsys, "accept", files["old"], "--baseline", mine)[0] == 0
    status, _, error = run(capsys, "accept", files["lost"], "--baseline", mine)
    assert (status, "without a reason" in error) == (1, True)
    assert run(capsys, "accept", files["lost"], "--baseline", mine, "--reason", "a new reward")[0] == 0
    assert run(capsys, "compare", mine, files["lost"])[0] == 0
    written = mine.read_bytes()
    assert "the file is as it was" in run(capsys, "accept", files["lost"], "--baseline", mine)[1]
    assert mine.read_bytes() == written


def test_errors_are_not_accepted(files, tmp_path, capsys):
    """An error is refused with status 1, and nothing is written."""
    status, _, said = run(capsys, "accept", files["failed"], "--baseline", tmp_path / "b.json", "--reason", "x")
    assert (status, said.count("\n")) == (1, 1)
    assert not (tmp_path / "b.json").exists()


def test_show(files, capsys):
    """A report, one of its claims, and either as JSON."""
    assert "c.d" in run(capsys, "show", files["lost"])[1]
    status, said, _ = run(capsys, "show", files["lost"], "c.d")
    assert status == 0
    assert "it is refuted" in said
    assert "a.b" not in said
    assert [each["claim"] for each in json.loads(run(capsys, "show", files["lost"], "c.d", "--json")[1])] == ["c.d"]
    assert json.loads(run(capsys, "show", files["lost"], "--json")[1])["subject"]["name"] == "r1"


def test_folder_of_a_run(files, capsys):
    """A run's folder stands for its report."""
    folder = files["old"].parent / "run"
    folder.mkdir()
    (folder / "report.json").write_bytes(files["old"].read_bytes())
    assert run(capsys, "compare", folder, files["same"])[0] == 0


def test_list(capsys):
    """The claims of the suite, their sources and thresholds."""
    status, said, _ = run(capsys, "list", "heads", "--json")
    assert status == 0
    claims = json.loads(said)
    assert {"heads.rescue", "heads.attend_target"} <= {claim["id"] for claim in claims}
    assert all(claim["source"] and tier["threshold"] for claim in claims for tier in claim["tiers"])
    assert "heads.rescue" in run(capsys, "list")[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "nowhere"], "there is no such file"),
        (["compare", "nowhere", "nowhere"], "there is no such file"),
        (["compare", "{old}"], "required: NEW"),
        (["show", "{old}", "x.y"], "its claims are a.b, c.d"),
        (["list", "nothing of this name"], "names all"),
        (["bogus"], "invalid choice"),
        ([], "required: COMMAND"),
    ],
)
def test_what_cannot_be_done(files, arguments, says, capsys):
    """What cannot be done is one line on stderr and exit status 4."""
    try:
        status = main([argument.format(**files) for argument in arguments])
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr()
    assert (status, said.out, said.err.count("\n")) == (4, "", 1)
    assert says in said.err


@pytest.mark.parametrize("command", EXAMPLES)
def test_help(command, capsys):
    """Every command explains itself, with examples and exit statuses."""
    with pytest.raises(SystemExit) as ended:
        main([*([command] if command else []), "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "examples:\n  python -m reports" in said
    assert "exit status:" in said


def test_module(files):
    """`python -m reports` is that, in a process of its own, without torch."""
    code = "import runpy, sys; sys.argv[1:] = sys.argv[1:]\ntry: runpy.run_module('reports', run_name='__main__')\n"
    code += "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "list"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
    done = subprocess.run([sys.executable, "-m", "reports", "compare", files["old"], files["lost"]], cwd=ROOT)
    assert done.returncode == 1


def test_committed_baselines_are_kept_beside_themselves(capsys):
    """Each committed baseline reads, and passes beside itself."""
    for path in (ROOT / "reports" / "baselines").glob("*.json"):
        assert read_report(path).findings
        assert run(capsys, "compare", path, path)[0] == 0, path
