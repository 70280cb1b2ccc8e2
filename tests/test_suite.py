"""The suite as its users run it: `pytest claims/` in a process of its own, on tiny models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from untrained import save

from fixtures.checkpoints.aliases import read_aliases
from reports.schema import read_report

ROOT = Path(__file__).parent.parent
KEYS = {
    "claim", "tier", "case", "subject", "verdict", "effect", "interval", "n", "p_value", "threshold", "null_of",
    "published", "source", "reasons",
}  # fmt: skip


COMPARING = ("base.shared_circuit", "weights.near_identical")
"""Claims that compare with a reference: without one they are not applicable, whatever the weights are."""


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`pytest claims/ ARGUMENTS` at the root of the clone, on few problems unless base is examined."""
    keep = [] if "-o" in arguments else ["-p", "no:cacheprovider"]
    few = [] if "base" in arguments or "--n-problems" in arguments else ["--n-problems", "32"]
    command = [sys.executable, "-m", "pytest", "claims/", *keep, *few, *map(str, arguments)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "120", **environment}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


def report_in(folder: Path) -> Path:
    (found,) = folder.glob("runs/*/report.json")
    return found


@cache
def collected() -> list[str]:
    """The claims that a run on one model is to find, as pytest names them."""
    return [line for line in run("--collect-only", "-q").stdout.splitlines() if "::" in line]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One run of the whole suite on `base`."""
    folder = tmp_path_factory.mktemp("reports")
    return run("--model", "base", "--report-dir", folder), folder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights."""
    return save(tmp_path_factory.mktemp("models") / "untrained")


def test_base_is_as_expected(base):
    """The suite on the shipped model gives every expected verdict and exit status 0."""
    done, folder = base
    assert done.returncode == 0, done.stdout[-3000:]
    report = read_report(report_in(folder))
    assert len(report.findings) == len(collected())
    assert all(finding.as_expected for finding in report.findings)
    assert f"all {len(collected())} verdicts as expected" in done.stdout


def test_broken_claim_file(tmp_path):
    """A file that cannot be imported is named, and nothing runs."""
    broken = tmp_path / "test_broken.py"
    broken.write_text("import nothing_of_this_name\n")
    done = run("--model", "base", "--report-dir", tmp_path, broken)
    assert done.returncode == 2
    assert "No module named 'nothing_of_this_name'" in done.stdout
    assert "INTERNALERROR" not in done.stdout + done.stderr
    assert "Traceback (most" not in done.stderr


def test_second_run_reads_what_the_first_has_measured(tmp_path):
    """The same findings to the last digit, and nothing measured anew but with --no-cache."""

    def findings(name, *more):
        folder = tmp_path / name
        options = ["-o", f"cache_dir={tmp_path / 'cache'}", "--n-problems", "8", "--report-dir", folder, *more]
        assert run("--model", "base", *options).returncode in (0, 1)
        return [finding.model_dump(exclude={"seconds"}) for finding in read_report(report_in(folder)).findings]

    def entries():
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}

    anew = findings("anew", "--no-cache")
    assert not entries()
    first = findings("first")
    kept = entries()
    assert kept
    second = findings("second")
    assert entries().keys() == kept.keys()
    assert all(used > kept[name] for name, used in entries().items())
    assert first == second == anew


def test_untrained_model_holds_nothing(untrained, tmp_path):
    """No claim holds on weights that were never trained; that the verdicts are not as expected is exit status 1."""
    done = run("--model", untrained, "--report-dir", tmp_path)
    assert done.returncode == 1
    assert "holds" not in {f.verdict for f in read_report(report_in(tmp_path)).findings if f.tier == "audited"}


def test_findings_carry_their_keys(base):
    """Every finding in report.json has the keys that readers of the file rely on, and so has the stream."""
    path = report_in(base[1])
    findings = json.loads(path.read_text())["findings"]
    stream = [json.loads(line) for line in path.with_name("findings.jsonl").read_text().splitlines()]
    assert findings == stream
    assert all(finding.keys() >= KEYS for finding in findings)


def test_provenance_is_complete(base):
    """A report says which weights were examined, on what, with which versions, kernel and seed."""
    report = read_report(report_in(base[1]))
    assert report.subject.sha256
    assert len(report.subject.sha256) == 64
    assert report.subject.dataset_hash
    assert (report.subject.dtype, report.subject.attention, report.seeds) == ("float32", "sdpa", [0])
    assert report.environment.versions["torch"]
    assert "--model" in report.command


def test_pictures_are_linked(base):
    """report.md shows the curves of the findings that have some."""
    path = report_in(base[1])
    assert "figures/probe.decodable" in path.with_name("report.md").read_text()
    assert list(path.parent.glob("figures/probe.decodable*.svg"))


def test_unexpected_verdict_fails_with_its_reason(untrained, tmp_path):
    """A verdict other than the expected one gives exit status 1 and says why on one line."""
    done = run("--model", f"mine={untrained}", "-k", "attend", "--report-dir", tmp_path)
    assert done.returncode == 1
    assert "2 of 2 verdicts are not as expected: heads.attend_target" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "bsae"], "base"),
        (["--model", "tinyzero"], "tinyzero=FOLDER"),
        (["--model", "{tmp}"], "config.json"),
        (["--model", "base", "--model", "base=fixtures/organisms/base"], "same name"),
        (["--n-problems", "2"], "from 4 to 10000"),
        (["--seed", "-1"], "from 0 to"),
        (["--report-dir", "{file}/x"], "cannot write"),
    ],
)
def test_bad_usage_is_one_line_and_exit_status_4(tmp_path, arguments, says):
    """What cannot be run ends in one clear line and exit status 4, without a traceback."""
    file = tmp_path / "file"
    file.touch()
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run(*(argument.format(tmp=empty, file=file) for argument in arguments))
    assert done.returncode == 4, done.stdout + done.stderr
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR")]
    assert says in line
    assert "Traceback" not in done.stdout + done.stderr


def test_encoder_is_refused_by_name(tmp_path):
    """An encoder is refused before its weights are read, by its name and with what is supported."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    done = run("--model", tmp_path)
    assert done.returncode == 4
    assert "'bert'" in done.stderr + done.stdout
    assert "Qwen2" in done.stderr + done.stdout


def broken(model: Path, folder: Path, what: str) -> Path:
    """A copy of the model with something wrong in it that only loading can tell."""
    import shutil

    from safetensors.torch import load_file, save_file

    copy = folder / "copy"
    shutil.copytree(model, copy)
    weights = copy / "model.safetensors"
    if what == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    else:
        tensors = load_file(weights)
        tensors["model.norm.weight"][3] = float("nan")
        save_file(tensors, weights, metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize("what", ["truncated", "not finite"])
def test_broken_weights_are_an_error_for_every_claim(untrained, tmp_path, what):
    """Weights that cannot be trusted give verdict error for every claim, in one line each, and are loaded once."""
    done = run("--model", broken(untrained, tmp_path, what), "--report-dir", tmp_path)
    assert done.returncode == 1
    findings = [one for one in read_report(report_in(tmp_path)).findings if one.claim not in COMPARING]
    assert {finding.verdict for finding in findings} == {"error"}
    assert len(findings) >= len(collected()) - 10
    assert all(len(finding.reasons) == 1 and "\n" not in finding.reasons[0] for finding in findings)
    assert (done.stdout + done.stderr).count("loading copy") == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_too_few_problems_never_hold(untrained, tmp_path):
    """With too few problems for a verdict no claim holds, and what was measured says so."""
    done = run("--model", f"mine={untrained}", "--n-problems", "6", "--report-dir", tmp_path)
    assert done.returncode == 1
    findings = read_report(report_in(tmp_path)).findings
    assert {finding.verdict for finding in findings if finding.tier == "audited"} <= {"inconclusive", "not_applicable"}
    assert any("too small for a verdict" in reason for finding in findings for reason in finding.reasons)


def test_what_was_not_reached_is_not_run(untrained, tmp_path):
    """Claims that an early stop left out are in the report as not_run, which is no success."""
    done = run("--model", f"mine={untrained}", "-x", "--report-dir", tmp_path)
    findings = read_report(report_in(tmp_path)).findings
    assert done.returncode != 0
    assert len(findings) == len(collected())
    verdicts = [finding.verdict for finding in findings if finding.claim not in COMPARING]
    assert verdicts[0] == "refuted"
    assert set(verdicts[1:]) == {"not_run"}


def test_two_models_one_after_the_other(untrained, tmp_path):
    """With several models every claim runs on the first before the second is loaded; each has its own report."""
    done = run("--model", f"a={untrained}", "--model", f"b={untrained}", "-k", "attend", "--report-dir", tmp_path)
    assert done.returncode == 1
    reports = [read_report(path) for path in sorted(tmp_path.glob("runs/*/report.json"))]
    assert [report.subject.name for report in reports] == ["a", "b"]
    assert [len(report.findings) for report in reports] == [2, 2]
    assert done.stderr.index("loading a") < done.stderr.index("loading b")


def test_collecting_does_not_import_torch():
    """--collect-only and --help work without importing torch, and --collect-only lists every case once."""
    code = "import sys, pytest; pytest.main(['claims/', '-q', *sys.argv[1:]]); print('torch' in sys.modules)"
    for argument in ("--collect-only", "--help"):
        done = subprocess.run([sys.executable, "-c", code, argument], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "False", done.stdout[-2000:]
        if argument == "--collect-only":
            cases = [line for line in done.stdout.splitlines() if "::" in line]
            assert cases
            assert len(set(cases)) == len(cases)


def test_expectations_name_claims(base):
    """Every expected verdict in models.toml is of a claim and a case that exist, in a tier that it has."""
    known = set()
    for finding in read_report(report_in(base[1])).findings:
        known |= {finding.label, f"{finding.claim}{'@as_published' if finding.tier == 'as_published' else ''}"}
    for alias in read_aliases().values():
        assert set(alias.expected) <= known
