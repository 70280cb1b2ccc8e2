"""What one run chose, applied to another subject: moved is not vanished."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from planted import TRUTH, planted
from test_suite import report_in, run

from claims.heads.test_ablation_disables import test_right_attempts_lose_what_tells_them_apart as disables
from claims.measured.frozen import Frozen, frozen_probe, load, save
from claims.measured.laboratory import Laboratory
from mechinterp import Draws, Evidence, MechinterpError
from reports.schema import read_report

N = 32


def says(variant: str, heads: list[tuple[int, int]]) -> str:
    """What a planted subject's finding says of heads that another run chose."""
    given: list[Evidence] = []

    def judge(evidence: Evidence, null: Draws) -> None:
        given.append(evidence)

    disables(Laboratory(planted(variant), N, 0, frozen=Frozen(heads, {}, {}, [])), "target_edited", "zero", judge)
    frozen = given[0].details["frozen"]
    return frozen if isinstance(frozen, str) else frozen["says"]


def test_heads_are_kept_moved_or_vanished():
    """The verifiers themselves, others that do nothing, and verifiers of a subject in which they do nothing."""
    verifiers = list(TRUTH["planted"].verifiers)
    assert says("planted", verifiers).startswith("kept: ")
    assert says("planted", [(1, 9), (2, 3)]).startswith("moved: ")
    assert says("decoy", verifiers).startswith("vanished: ")
    assert says("planted", [(9, 0)]).startswith("not comparable")


def test_what_is_saved_is_read_again(tmp_path: Path):
    """Heads and probes come back as they were, and a probe reads its own attempts as before."""
    lab = Laboratory(planted("planted"), N, 0)
    assert not save(lab, tmp_path / "nothing.safetensors")
    assert lab.probing["open_paren"].fitted
    assert lab.probing["open_paren"].loss is not None
    assert save(lab, tmp_path / "chosen.safetensors")
    found = load(tmp_path / "chosen.safetensors")
    assert found.heads == lab.heads.selected
    assert set(found.probes) == set(found.best) == {"open_paren"}
    lab.frozen = found
    scores = []

    def effect_of(given: torch.Tensor, layer: int) -> tuple[float, tuple[float, float]]:
        scores.append((given, layer))
        return 1.0, (0.9, 1.0)

    told = frozen_probe(lab, "open_paren", effect_of, (0.9, 1.0), at_least=0.9)
    assert told["frozen"]["says"].startswith("kept: ")
    torch.testing.assert_close(scores[0][0], torch.from_numpy(lab.probing["open_paren"].scores))
    assert scores[0][1] == int(lab.probing["open_paren"].loss.argmin())
    assert "not comparable" in frozen_probe(lab, "last_digit", effect_of, (0.9, 1.0), at_least=0.9)["frozen"]


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_another_file_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "chosen.safetensors"
    path.write_bytes(content)
    with pytest.raises(MechinterpError, match="does not hold what a run has chosen"):
        load(path)


def test_a_run_applies_what_another_chose(tmp_path: Path):
    """The file lies beside the report, which names its digest; a changed or a missing one ends the command."""
    options = ("-k", "more_than_to_any", "--n-problems", N, "--report-dir")
    first = run(*options, tmp_path / "then")
    report = report_in(tmp_path / "then")
    assert read_report(report).chosen.name == "chosen.safetensors", first.stdout
    run(*options, tmp_path / "now", "--frozen-from", report)
    (finding,) = read_report(report_in(tmp_path / "now")).findings
    assert finding.details["frozen"]["effect"] == pytest.approx(finding.effect)

    copied = Path(shutil.copytree(report.parent, tmp_path / "copy"))
    (copied / "chosen.safetensors").write_bytes(b"changed")
    refused = run("--frozen-from", copied / "report.json")
    assert refused.returncode == 4
    assert "is not the file that the report names" in refused.stderr
    (copied / "chosen.safetensors").unlink()
    assert "is not there" in run("--frozen-from", copied / "report.json").stderr
