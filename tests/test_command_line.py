"""What is wrong with a command is said at the start, in one line; no name acts on a terminal, a file or a report."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_claims import ROOT, VERDICTS, run_toys, save
from untrained import save as save_untrained

from claims.harness import start
from claims.harness.options import DTYPES, LAST_SEED, LONGEST_NAME, TIERS, add_options, read_options
from claims.harness.workbench import Workbench
from fixtures.loading import DTYPES as LOADED
from mechinterp.errors import MechinterpError

BASE = ROOT / "fixtures" / "organisms" / "base"
ODD = "step\x1b[31m\u202e_300\n\u200b\x9b"
ACTING = {"Cc", "Cf", "Zl", "Zp", "Cs"}


def options(*arguments: str):
    """What a command line asks for, as conftest.py would find out."""
    parser = pytest.Parser(_ispytest=True)
    add_options(parser)
    return read_options(SimpleNamespace(option=parser.parse(list(arguments))))


def refusal(*arguments: str) -> str:
    with pytest.raises(pytest.UsageError) as caught:
        options(*arguments)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 600
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dtype", "fp16"], "--dtype fp16: expected one of auto, float32, bfloat16, float16"),
        (["--dtype", ""], "--dtype : expected one of auto"),
        (["--tier", "audit"], "--tier audit: expected one of both, as_published, audited"),
        (["--n-problems", "1000000000"], "--n-problems 1000000000: expected a whole number from 4 to 10000"),
        (["--n-problems", "3"], "from 4 to 10000"),
        (["--n-problems", "1e3"], "from 4 to 10000"),
        (["--seed", str(2**32)], f"--seed {2**32}: expected a whole number from 0 to {LAST_SEED}"),
        (["--seed", "9" * 5000], f"from 0 to {LAST_SEED}"),
        (["--seed=-1"], f"--seed -1: expected a whole number from 0 to {LAST_SEED}"),
        (["--seed", ODD], "from 0 to"),
        (["--seed", str(LAST_SEED), "--seeds", "2"], f"seeds end at {LAST_SEED}"),
        (["--seeds", "0"], "--seeds 0: expected a whole number from 1 to 100"),
        (["--report-dir", ""], "--report-dir names nothing"),
        (["--report-dir", "~no-such-user/x"], "--report-dir ~no-such-user/x"),
        (["--reference", "bsae"], "did you mean 'base'"),
        (["--reference", ""], "names nothing"),
        (["--reference", "./nowhere"], "does not exist"),
        (["--model", f"./{ODD}"], r"'./step\x1b[31m\u202e_300\n\u200b\x9b' does not exist"),
        (["--model", "base", "--model", f"base={BASE}"], "two models have the same name"),
    ],
)
def test_refused(arguments, says):
    """In one harmless line that says what was given and what was expected."""
    assert says in refusal(*arguments)


@given(st.text(max_size=30))
def test_any_number(text):
    """Whatever is given for a number is one, or is refused in one line."""
    try:
        assert 4 <= options(f"--n-problems={text}").n_problems <= 10_000
    except pytest.UsageError as error:
        assert str(error).isprintable()  # noqa: PT017


def test_accepted():
    """What the help says can be given can be given; the number formats are those that loading knows."""
    assert set(DTYPES) == {"auto", *LOADED}
    assert [options("--dtype", name).dtype for name in DTYPES] == list(DTYPES)
    assert [options("--tier", name).tiers for name in TIERS] == list(TIERS.values())
    assert options("--seed", str(LAST_SEED)).seeds == (LAST_SEED,)
    assert options("--seed", "7", "--seeds", "3").seeds == (7, 8, 9)


def test_home(monkeypatch, tmp_path):
    """`~` is the home folder, also after `=`, where the shell leaves it as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert options("--report-dir=~/reports").report_dir == tmp_path / "reports"
    assert options("--report-dir=~").report_dir == tmp_path
    assert options("--report-dir=x/~").report_dir == Path("x/~")


def test_names_are_harmless_and_told_apart(tmp_path):
    """A model is called by its path, spelled out and cut; two that are called the same are refused."""
    for name in (ODD, "step\\x1b", "step\x1b", "n" * 250, "m" * 250):
        shutil.copytree(BASE, tmp_path / name, symlinks=True)
    models = options(*(f"--model={tmp_path / name}" for name in (ODD, "step\x1b", "n" * 250, "m" * 250))).models
    assert all(name.isprintable() and len(name) <= LONGEST_NAME for name in models)
    assert r"step\x1b[31m\u202e_300\n\u200b\x9b" in models
    assert "same name" in refusal("--model", str(tmp_path / "step\x1b"), "--model", str(tmp_path / "step\\x1b"))
    assert len(next(iter(options("--model", f"{'x' * 3000}={BASE}").models))) <= LONGEST_NAME


def test_checked_before_loading(monkeypatch):
    """A device that is not there, too few problems to be had and a failed download end the run before it begins."""

    def few(n, seed):
        raise MechinterpError("only 5 found")

    def offline(checkpoint):
        raise MechinterpError(f"{checkpoint.name}: the hub could not be reached")

    start.check(options(), ["base"])
    with pytest.raises(pytest.UsageError, match=r"^--device: device 'cuda:99' is not there"):
        start.check(options("--device", "cuda:99"), ["base"])
    with pytest.raises(pytest.UsageError, match="'gpu' is not there"):
        start.check(options("--device", "gpu"), ["base"])
    with monkeypatch.context() as patch:
        patch.setattr(start, "the_attempts", few)
        with pytest.raises(pytest.UsageError, match=r"^--n-problems 144: only 5 found"):
            start.check(options(), ["base"])
    monkeypatch.setattr(start, "locate", offline)
    with pytest.raises(pytest.UsageError, match="base: the hub could not be reached"):
        start.check(options(), ["base"])
    with pytest.raises(pytest.UsageError, match="base: the hub could not be reached"):
        start.check(options("--reference", "base"), [])


def test_ladder_is_climbed_once():
    """On the lab of the first seed, once that is there; it is kept when the subject is put away."""
    asked = []

    class Lab:
        @property
        def ladder(self):
            asked.append(self)
            return SimpleNamespace(rung="latent", sentence="It tells, but does not say.", figures={"auc": 0.9})

    asking = options("--seed", "3", "--seeds", "2")
    bench = Workbench(asking.models["base"], asking, None)
    bench.climb()
    bench._labs[4] = Lab()
    bench.climb()
    assert bench.ladder is None
    bench._labs[3] = first = Lab()
    bench.climb()
    bench.climb()
    bench.clear()
    assert asked == [first]
    assert (bench.ladder.rung, bench.ladder.figures) == ("latent", {"auc": 0.9})


def acts(text: str) -> bool:
    return any(unicodedata.category(char) in ACTING for char in text if char != "\n")


ODD_CLAIM = r"""
CLAIM = Claim("toy.odd", statement="It quotes what it met.", source="nobody", published="1")
ODD = "\x1b[31m\u202e\x9b\x00 token"


@CLAIM.audited(measure="its effect", null="zeros", threshold=DEMANDED)
@pytest.mark.parametrize("how", ["unmet", "broken", "series", ODD])
def test_odd(judge, how):
    if how == "unmet":
        raise PreconditionUnmet(f"no {ODD}")
    if how == "broken":
        raise RuntimeError(f"{ODD}\nsecond line")
    judge(evidence(-1.0, selected=(ODD,), details={ODD: [ODD]}, series={ODD: [0.1, 0.2]}), null=NULL)


@Claim("toy.loads", statement="It loads.", source="nobody", published="1").audited(
    measure="its effect", null="zeros", threshold=DEMANDED
)
def test_loads(subject, judge):
    judge(evidence(1.0, details={"name": subject.name}), null=NULL)
"""


def test_nothing_acts(tmp_path):
    """No control, escape or bidirectional character of a model's path, a report's path, a case or an error arrives."""
    model = save_untrained(tmp_path / ODD)
    xml = tmp_path / "junit.xml"
    found = run_toys(
        save(tmp_path, ODD_CLAIM), "--model", model, "--report-dir", tmp_path / "reports\x1b", "-v", "--junitxml", xml
    )
    (folder,) = tmp_path.glob("reports\x1b/runs/*")
    assert r"loading step\x1b[31m\u202e_300\n\u200b\x9b" in found.stderr
    assert "RuntimeError" in found.stdout
    assert not acts(found.stdout + found.stderr)
    assert not acts(xml.read_text())
    assert not acts(folder.name)
    for path in folder.rglob("*"):
        assert not acts(path.name)
        if path.is_file() and path.suffix != ".png":
            assert not acts(path.read_text()), path


UNWRITABLE = """
CLAIM = Claim("toy.gone", statement="It removes its report.", source="nobody", published="1")


@CLAIM.audited(measure="its effect", null="zeros", threshold=DEMANDED)
@pytest.mark.parametrize("what", ["first", "second"])
def test_gone(judge, what):
    judge(evidence(1.0), null=NULL)
    import shutil
    shutil.rmtree(os.path.dirname(os.environ["TOY_LOG"]) + "/reports", ignore_errors=True)
"""


def test_report_that_vanishes(tmp_path):
    """A report that can no longer be written is said once; the run goes on, shows its table, and is no success."""
    found = run_toys(save(tmp_path, UNWRITABLE))
    assert found.returncode == 1
    assert len(found.measured) == 2
    assert found.stderr.count("cannot write to the report folder") == 1
    assert "all 2 verdicts as expected" in found.stdout
    assert "INTERNALERROR" not in found.stdout + found.stderr


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_report_folder_in_the_way(tmp_path, folder):
    """It ends the run before anything is measured."""
    (tmp_path / "file").touch()
    found = run_toys(save(tmp_path), "--report-dir", tmp_path / folder)
    assert found.returncode == 4
    assert found.measured == ()
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("ERROR")]
    assert line.startswith("ERROR: --report-dir: cannot write to the report folder")


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/nowhere"])
def test_cache_folder_in_the_way(tmp_path, folder):
    """It costs only time, and is said once."""
    (tmp_path / "file").touch()
    found = run_toys(save(tmp_path), "-o", f"cache_dir={tmp_path / folder}")
    assert found.verdicts == list(VERDICTS.items())
    assert found.stderr.count("measurements are not kept for later runs") == 1
