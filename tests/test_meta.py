"""The suite on models whose truth is known: it finds what was planted, and is not taken in by decoys.

One run of the claims for each variant of tests/planted.py. `test_suite.py` does the same on untrained weights.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import TRUTH, save
from test_suite import report_in, run

from fixtures.checkpoints import resolve
from reports.finding import Finding
from reports.schema import read_report

HEADS = {"heads.ablation_disables[zero]", "heads.ablation_disables[minimal_pair]", "heads.silence_values"}


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Finding]]:
    """By variant and by claim[case]."""
    found = {}
    for variant in ("planted", "decoy", "constant"):
        folder = tmp_path_factory.mktemp(variant)
        done = run("--model", save(folder / variant, variant), "--report-dir", folder)
        assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
        report = read_report(report_in(folder))
        found[variant] = {f.claim + (f"[{f.case}]" if f.case else ""): f for f in report.findings}
    return found


def verdicts(findings: dict[str, Finding], claims: set[str]) -> dict[str, str]:
    return {name: findings[name].verdict for name in claims}


def test_planted_heads_are_found(findings):
    """The heads that attend to the target are those that were planted, neither more nor fewer."""
    finding = findings["planted"]["heads.attend_target"]
    assert finding.verdict == "holds"
    named = {f"L{layer}H{head}" for layer, head in TRUTH["planted"].verifiers}
    assert set(finding.details["heads"]) == named


def test_planted_circuit_holds(findings):
    """What was planted holds: the heads are necessary, they drive the value vectors, and the verdict can be read."""
    planted = HEADS | {"lens.success_midlayers[open_paren]", "probe.decodable[open_paren/best_layer]",
                       "probe.decodable[last_digit/best_layer]", "probe.unembeds[success]", "probe.unembeds[failure]",
                       "values.clusters[success]", "values.clusters[failure]", "values.ablation_lens"}  # fmt: skip
    assert verdicts(findings["planted"], planted) == dict.fromkeys(planted, "holds")


def test_what_was_not_planted_does_not_hold(findings):
    """The words were planted at the ` (` only: the lens shows none at the last digit."""
    assert findings["planted"]["lens.success_midlayers[last_digit]"].verdict == "refuted"


def test_decoys_are_not_taken_for_the_mechanism(findings):
    """Heads that attend to the target and do nothing are found to attend, and found to do nothing."""
    assert findings["decoy"]["heads.attend_target"].verdict == "holds"
    assert verdicts(findings["decoy"], HEADS) == dict.fromkeys(HEADS, "refuted")


def test_without_a_verdict_nothing_holds(findings):
    """On a model that always says `not`, no claim about verdicts holds, and ablations are not applicable."""
    assert "holds" not in {finding.verdict for finding in findings["constant"].values()}
    assert verdicts(findings["constant"], HEADS) == dict.fromkeys(HEADS, "not_applicable")


def test_planted_model_is_an_ordinary_checkpoint(tmp_path: Path):
    """The planted model is resolved like any folder: the suite does not know that it is examined."""
    assert resolve(str(save(tmp_path / "planted"))).kind == "folder"
