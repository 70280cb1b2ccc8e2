"""`--resume RUN`: a run that was killed goes on, and comes to what an undisturbed one comes to."""

import json
import signal

import pytest
from toy_claims import TOYS, run_toys, save

from reports.collector import torn
from reports.command_line import main
from reports.schema import read_report

UNMET = """    if says == "unmet":
        raise PreconditionUnmet("it has none")
"""
KILLED = TOYS.replace(
    UNMET,
    """    if says == "unmet" and os.environ.get("TOY_KILL"):
        os.kill(os.getpid(), 9)
""",
)
"""Toys of which the third kills the run, if it is asked to."""


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """A file of claims, and the folder of a run of them that was killed."""
    file = save(tmp_path / "claims", KILLED)
    monkeypatch.setenv("TOY_KILL", "1")
    assert run_toys(file).returncode == -signal.SIGKILL
    monkeypatch.delenv("TOY_KILL")
    (folder,) = (tmp_path / "claims" / "reports" / "runs").iterdir()
    return file, folder


def told(folder):
    """A report without its times."""
    made = read_report(folder / "report.json").model_dump(exclude={"created", "command", "environment"})
    for finding in made["findings"]:
        del finding["seconds"]
    return made


def test_as_if_undisturbed(killed, tmp_path):
    """What was found is not measured again, and the report is that of a run that was not killed."""
    file, folder = killed
    before = len((file.parent / "log").read_text().splitlines())
    done = run_toys(file, "--resume", folder)
    assert done.returncode == 1
    again = [name.partition("[")[2] for name in done.measured[before:] if "test_says" in name]
    assert again == ["base-unmet]", "base-broken]"]
    assert len(done.verdicts) == 6
    lines = (folder / "findings.jsonl").read_text().splitlines()
    assert [json.loads(line)["claim"] for line in lines] == [finding.claim for finding in done.reports[0].findings]
    undisturbed = save(tmp_path / "again", KILLED)
    run_toys(undisturbed)
    (other,) = (tmp_path / "again" / "reports" / "runs").iterdir()
    assert told(folder) == told(other)


def test_torn_run_is_told(killed, capsys):
    """Before it goes on, a killed run can be shown and rendered: what was not reached is not_run."""
    _, folder = killed
    verdicts = [finding.verdict for finding in torn(folder).findings]
    assert verdicts == ["holds", "refuted", "not_run", "not_run", "not_run", "not_run"]
    assert main(["render", str(folder)]) == 0
    assert "not run" in (folder / "report.html").read_text()
    assert main(["show", str(folder)]) == 0
    assert "not_run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "differs"),
    [
        (["--seed", "1", "--n-problems", "32", "--dtype", "bfloat16"], "problems, seeds, settings"),
        (["--model", "r1"], "weights"),
        (["--reference", "r1"], "reference"),
    ],
)
def test_other_provenance(killed, arguments, differs):
    """A run of other weights, problems, seeds or settings is refused in a line that names them; nothing is touched."""
    file, folder = killed
    before = (folder / "findings.jsonl").read_bytes()
    done = run_toys(file, "--resume", folder, *arguments)
    assert done.returncode == 4
    assert f"begun with other {differs}" in done.stdout + done.stderr
    assert (folder / "findings.jsonl").read_bytes() == before


def test_other_code(killed):
    """A claim that was changed since is refused: its findings are those of other code."""
    file, folder = killed
    save(file.parent, KILLED + "\n# changed\n")
    done = run_toys(file, "--resume", folder)
    assert done.returncode == 4
    assert "begun with other code" in done.stdout + done.stderr


def test_errors_are_tried_again(tmp_path):
    """What ended in an error is measured again; all else of a finished run is taken over."""
    file = save(tmp_path / "claims")
    run_toys(file)
    (folder,) = (tmp_path / "claims" / "reports" / "runs").iterdir()
    before = len((file.parent / "log").read_text().splitlines())
    done = run_toys(file, "--resume", folder)
    assert [name.split("[")[1] for name in done.measured[before:]] == ["base-broken]"]
    assert len(done.verdicts) == 6


@pytest.mark.parametrize("torn_line", ["", '{"claim": "toy.'])
def test_torn_line(killed, torn_line):
    """A last line that was torn is measured again."""
    file, folder = killed
    lines = (folder / "findings.jsonl").read_text().splitlines()
    (folder / "findings.jsonl").write_text(f"{lines[0]}\n{torn_line}")
    done = run_toys(file, "--resume", folder)
    assert len(done.verdicts) == 6
    assert any("base-refuted" in name for name in done.measured[2:])


def test_no_run(tmp_path):
    """A folder that holds no run is refused in one line, exit status 4."""
    done = run_toys(save(tmp_path / "claims"), "--resume", tmp_path)
    assert done.returncode == 4
    assert "there is no such file" in done.stdout + done.stderr
