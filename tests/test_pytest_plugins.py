"""pytest as people run it: whatever runs, repeats, reorders or stops the claims, a case gives one finding."""

from __future__ import annotations

import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
from toy_claims import ROOT, VERDICTS, command, done, run_toys, save, surroundings

from claims.harness.one_process import stay_in_one_process

ALL = list(VERDICTS.items())


@pytest.mark.parametrize(
    "arguments",
    [
        "-n 2 --dist loadgroup -v",
        "-n auto --reruns 1 --count 2",
        "-p xdist --dist=each --tx 2*popen -p no:cacheprovider -q",
        "-n 0 --dist no -p no:terminal",
        "-p randomly --reruns 2 --only-rerun Failed",
    ],
)
def test_one_finding_a_case(tmp_path, arguments):
    """One report with every case once, in the order of the suite, each measured once; one table; exit status 1."""
    found = run_toys(save(tmp_path), *arguments.split())
    assert found.verdicts == ALL
    assert len(found.measured) == len(set(found.measured)) == len(ALL)
    assert found.returncode == 1
    assert found.stdout.count("findings on base") == ("no:terminal" not in arguments)
    assert "INTERNALERROR" not in found.stdout + found.stderr


def unreached(cases):
    return [(label, "not_run") for label, _ in cases]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--maxfail 2", ALL[:3] + unreached(ALL[3:])),
        ("-k holds", ALL[:1]),
        ("--deselect ::test_says --tier audited", ALL[5:]),
        ("--tier as_published", ALL[4:5]),
    ],
)
def test_part_of_the_claims(tmp_path, arguments, expected):
    """What was chosen and not reached is not_run; what was not chosen is not in the report."""
    found = run_toys(save(tmp_path), *arguments.split())
    assert found.verdicts == expected
    assert found.returncode == (0 if {verdict for _, verdict in expected} == {"holds"} else 1)


def test_last_failed(tmp_path):
    """--lf reports what failed last time, --ff all of it, --sw stops at a failure and goes on from it."""
    file = save(tmp_path)

    def again(*arguments):
        for old in (tmp_path / "reports").glob("runs/*/report.json"):
            old.unlink()
        return run_toys(file, *arguments).verdicts

    assert again("--sw") == ALL[:2] + unreached(ALL[2:])
    assert again("--sw", "--sw-skip") == ALL[1:3] + unreached(ALL[3:])
    assert again("--ff") == ALL
    assert again("--lf") == ALL[1:4]


SLOW = """
CLAIM = Claim("toy.slow", statement="It takes long.", source="nobody", published="1")


@CLAIM.audited(measure="its effect", null="zeros", threshold=DEMANDED)
@pytest.mark.parametrize("which", ["first", "second", "third"])
def test_slow(judge, which):
    found = evidence(1.0)
    time.sleep(0 if which == "first" else 60)
    judge(found, null=NULL)
"""


def test_interrupted(tmp_path):
    """Ctrl-C in the middle of a claim keeps what was found; the rest is not_run; exit status 2."""
    file = save(tmp_path, SLOW)
    log = tmp_path / "log"
    with subprocess.Popen(
        command(file), cwd=ROOT, env=surroundings(file), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not (log.exists() and "second" in log.read_text()):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    found = done(file, process.returncode, stdout, stderr)
    assert found.returncode == 2
    assert [verdict for _, verdict in found.verdicts] == ["holds", "not_run", "not_run"]
    assert stdout.count("findings on base") == 1


SKIPPED = """
CLAIM = Claim("toy.skipped", statement="It is left out.", source="nobody", published="1")
marked = CLAIM.audited(measure="its effect", null="zeros", threshold=DEMANDED)


@pytest.fixture
def broken():
    raise RuntimeError("no such thing")


@pytest.mark.parametrize("how", [pytest.param("mark", marks=pytest.mark.skip(reason="too long")), "call", "fixture"])
@marked
def test_skipped(judge, how, request):
    if how == "call":
        pytest.skip("not today")
    request.getfixturevalue("broken")


OTHER = Claim("toy.fixture", statement="Its fixture fails.", source="nobody", published="1")


@OTHER.audited(measure="its effect", null="zeros", threshold=DEMANDED)
def test_fixture(judge, broken):
    judge(evidence(1.0), null=NULL)


EXPECTED = Claim("toy.xfail", statement="It is known to fail.", source="nobody", published="1")


@pytest.mark.xfail
@EXPECTED.audited(measure="its effect", null="zeros", threshold=DEMANDED)
def test_known(judge):
    judge(evidence(-1.0), null=NULL)
"""


def test_never_measured(tmp_path):
    """A claim that is skipped, or whose fixtures fail, is in the report with the reason, and is no success."""
    found = run_toys(save(tmp_path, SKIPPED))
    (report,) = found.reports
    assert {finding.label: (finding.verdict, finding.reasons) for finding in report.findings} == {
        "toy.skipped[mark]": ("not_run", ["Skipped: too long"]),
        "toy.skipped[call]": ("not_run", ["not today"]),
        "toy.skipped[fixture]": ("error", ["RuntimeError: no such thing"]),
        "toy.fixture": ("not_run", ["RuntimeError: no such thing"]),
        "toy.xfail": ("refuted", ["the effect stays below 0.5"]),
    }
    assert found.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "stays"),
    [
        (["claims/"], False),
        (["."], False),
        (["tests", "claims/test_heads.py::test_x[base]"], False),
        (["elsewhere"], False),
        (["tests"], True),
        (["tests/test_stats.py::test_x", "benchmarks"], True),
    ],
)
def test_workers_where_there_are_no_claims(arguments, stays):
    """Tests are spread over workers as ever; only what may hold claims stays in one process, and says so."""
    option = SimpleNamespace(dist="load", tx=["popen"] * 2, numprocesses=2, forked=False, collectonly=False)
    config = SimpleNamespace(option=option, args=arguments, invocation_params=SimpleNamespace(dir=ROOT))
    said = stay_in_one_process(config)
    assert (option.dist == "load" and len(option.tx) == 2) == stays == (said is None)
