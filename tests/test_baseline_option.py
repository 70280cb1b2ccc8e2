"""`pytest --baseline FILE`: the exit status is the comparison's."""

import json

import pytest
from toy_claims import TOYS, run_toys, save

from reports.baseline import accept
from reports.schema import to_json

KEPT = TOYS.replace(', "broken"', "")
"""Toys that give no error, and not all of which hold."""


@pytest.fixture
def kept(tmp_path):
    """A file of claims, and a baseline that was accepted from a run of them."""
    file = save(tmp_path / "claims", KEPT)
    (run,) = run_toys(file).reports
    baseline = tmp_path / "baseline.json"
    baseline.write_text(to_json(accept(run, None, reason="so it is").baseline))
    for old in (tmp_path / "claims" / "reports" / "runs").iterdir():
        old.rename(tmp_path / old.name)
    return file, baseline


def test_kept(kept):
    """What is as in the baseline is exit status 0, though models.toml expects other verdicts; the page says so."""
    file, baseline = kept
    done = run_toys(file, "--baseline", baseline)
    assert done.returncode == 0, done.stdout
    assert "5 kept; nothing to accept" in done.stdout
    (run,) = (file.parent / "reports" / "runs").iterdir()
    assert json.loads((run / "comparison.json").read_text())["passes"]
    assert "## Against the baseline" in (run / "report.md").read_text()
    assert [finding.as_expected for finding in done.reports[0].findings] == [True] * 5


def test_lost(kept):
    """What was lost fails its test, with the word and the reason."""
    file, baseline = kept
    save(file.parent, KEPT.replace('{"refuted": -2.0}', '{"refuted": -2.0, "holds": -2.0}'))
    done = run_toys(file, "--baseline", baseline)
    assert done.returncode == 1
    assert "toy.says[holds]: lost. the effect stays below 0.5" in done.stdout
    assert "1 lost" in done.stdout


def test_emerged(kept):
    """What emerged is to be accepted too."""
    file, baseline = kept
    save(file.parent, KEPT.replace('{"refuted": -2.0}', "{}"))
    done = run_toys(file, "--baseline", baseline)
    assert done.returncode == 1
    assert "toy.says[refuted]: emerged." in done.stdout


def test_vanished(kept):
    """A case that is no longer there fails the run, though every test passes."""
    file, baseline = kept
    save(file.parent, KEPT.replace(', "unmet"', ""))
    done = run_toys(file, "--baseline", baseline)
    assert done.returncode == 1
    assert "4 passed" in done.stdout
    assert "toy.says[unmet] not comparable" in done.stdout


def test_new(kept):
    """A case that the baseline does not have fails the run, though it holds."""
    file, baseline = kept
    save(file.parent, KEPT.replace('"refuted",', '"refuted", "more",'))
    done = run_toys(file, "--baseline", baseline)
    assert done.returncode == 1
    assert "toy.says[more]: not comparable. new: the baseline has no such finding" in done.stdout


@pytest.mark.parametrize(("content", "says"), [("{}", "schema_version"), (None, "there is no such file")])
def test_bad_baseline(tmp_path, content, says):
    """A baseline that cannot be read ends the command in one line, exit status 4, before anything is loaded."""
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_text(content)
    done = run_toys(save(tmp_path / "claims"), "--baseline", path)
    assert done.returncode == 4
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR")]
    assert says in line
    assert not done.measured
