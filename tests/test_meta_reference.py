"""Claims that compare with a reference, on pairs of planted models whose truth is known."""

from __future__ import annotations

import copy
from functools import cache
from itertools import product

import pytest
from audit import Audited, audit
from planted import TRUTH, planted
from planted import save as planted_folder
from planted.trained import reseated, trained_from
from test_suite import report_in, run
from untrained import save

from claims.measured.asked import QUESTIONS, Asked
from claims.measured.laboratory import Laboratory
from fixtures.checkpoints import resolve
from fixtures.loading import load
from mechinterp import AblateHeads, Subject, last_logits, pad, under
from reports.schema import read_report

FEW = 32
VERIFIERS = TRUTH["planted"].verifiers


@cache
def near_values() -> tuple[tuple[int, int], ...]:
    """The value vectors that the claim chooses on the planted model."""
    values = Laboratory(planted("planted"), FEW, 0).values
    return (*values.nearest_of_each_layer(1), *values.nearest_of_each_layer(-1))


@cache
def near_identical(how: str) -> dict[str, Audited]:
    subject, far = planted("planted"), {"rest": 0.4}
    references = {
        "these kept": lambda: trained_from(subject, **far, kept=0.01, heads=VERIFIERS, neurons=near_values()),
        "all moved": lambda: trained_from(subject, **far, kept=0.4, heads=VERIFIERS),
        "little moved": lambda: trained_from(subject, rest=0.01),
    }
    return audit(subject, n_problems=FEW, only=("weights.near_identical*",), reference=references[how]())


@pytest.mark.parametrize("weights", ["heads", "value_vectors"])
def test_kept_weights_are_found(weights):
    """Where the weights that verify have hardly moved and all others far, they are called nearly the same."""
    found = near_identical("these kept")[f"weights.near_identical[{weights}]"]
    assert (found.verdict, found.reasons) == ("holds", "")
    assert found.evidence.effect == pytest.approx(0.99, abs=0.005)
    assert max(found.evidence.details["percentile among all of the kind, by part"]) < 0.1
    gains = {"heads": "attention norm", "value_vectors": "mlp norm"}
    assert found.evidence.details["gains and biases beside them, largest distance"] == {gains[weights]: 0}


@pytest.mark.parametrize("weights", ["heads", "value_vectors"])
def test_moved_weights_are_not(weights):
    """Where they have moved as far as the rest they are not."""
    found = near_identical("all moved")[f"weights.near_identical[{weights}]"]
    assert found.verdict == "refuted"
    assert "the effect stays below 0.95" in found.reasons


@pytest.mark.parametrize("weights", ["heads", "value_vectors"])
def test_little_moved_anywhere(weights):
    """Where nothing has moved the cosines, as published, are near 1, and say nothing."""
    found = near_identical("little moved")
    assert found[f"weights.near_identical[{weights}]@as_published"].verdict == "holds"
    audited = found[f"weights.near_identical[{weights}]"]
    assert audited.verdict == "not_applicable"
    assert "little has moved anywhere" in audited.reasons


def test_no_pair(tmp_path):
    """Without a reference, with itself, with another shape or with a quantised one: not applicable, in a sentence."""
    subject = planted("planted")
    other = load(resolve(str(save(tmp_path / "other"))), device="cpu", dtype="float32")
    packed = Subject.of(copy.deepcopy(subject.model), subject.tokenizer, "packed", quantised="Q4_K")
    for reference, says in (
        (None, "compares with a reference"),
        (subject, "the reference is the subject itself"),
        (other, "has family"),
        (packed, r"packed is quantised (Q4_K)"),
    ):
        found = audit(subject, n_problems=FEW, only=("weights.near_identical*",), reference=reference)
        assert len(found) == 4
        for label, one in found.items():
            assert one.verdict == "not_applicable", label
            assert says in one.reasons, label


@cache
def shared_circuit(how: str) -> dict[str, Audited]:
    subject = planted("planted")
    references = {
        "a copy with little noise": lambda: trained_from(subject, rest=0.01),
        "elsewhere": lambda: reseated(subject, 3),
        "repetition": lambda: planted("repetition"),
    }
    return audit(subject, n_problems=FEW, only=("base.shared_circuit*",), reference=references[how]())


@pytest.mark.parametrize("case", ["reference", "subject"])
def test_one_circuit_in_both(case):
    """Two copies with little noise need the same heads, each as much as its own, and rank all heads alike."""
    found = shared_circuit("a copy with little noise")[f"base.shared_circuit[{case}]"]
    assert (found.verdict, found.reasons) == ("holds", "")
    assert found.evidence.effect == pytest.approx(1, abs=0.1)
    details = found.evidence.details
    assert details["heads in common (Jaccard)"] == 1
    assert details["rank correlation of every head's necessity"] > 0.5
    assert details["distance of weights; where small, shared by descent"]["of these heads"] < 0.05


@pytest.mark.parametrize("case", ["reference", "subject"])
def test_the_same_circuit_elsewhere(case):
    """A model that does the same with other heads shares none: the other's heads do nothing in it, its own do all."""
    found = shared_circuit("elsewhere")[f"base.shared_circuit[{case}]"]
    assert found.verdict == "refuted"
    assert "the effect stays below 0.5" in found.reasons
    assert "take another share of the gap" in found.reasons
    assert found.evidence.details["own heads' share beyond theirs"] == pytest.approx(1, abs=0.1)


def test_only_one_verifies():
    """Beside a model that finds repetitions nothing is said, and it is named."""
    found = shared_circuit("repetition")
    for case in ("reference", "subject"):
        one = found[f"base.shared_circuit[{case}]"]
        assert one.verdict == "not_applicable"
        assert one.reasons.startswith("repetition: repetition: ")


def test_nothing_is_asked_of_other_heads():
    """As published: heads that do nothing in the base leave its yes as it was."""
    found = shared_circuit("elsewhere")["base.shared_circuit@as_published"]
    assert found.verdict == "refuted"
    assert found.evidence.details["P(yes) after"] == pytest.approx(found.evidence.details["P(yes) before"], abs=0.05)


def test_asked_is_one_pass_after_the_other():
    """Yes over no, of questions in every wording and both orders, with heads off and on, is that of single passes."""
    lab = Laboratory(planted("planted"), 8, 0)
    asked, rows = Asked(lab), lab.observed.rows(lab.observed.test, "correct")[:3]
    (yes, no), tokenizer = asked.tokens, lab.subject.tokenizer
    assert {tokenizer.decode([i]).strip().lower() for i in (*yes, *no)} == {"yes", "no"}
    seen = set()
    for question, no_first, heads in product(range(len(QUESTIONS)), (False, True), ((), VERIFIERS)):
        found = asked.log_odds(rows, question, no_first=no_first, without=heads)
        for value, ids in zip(found, asked.prompts(rows, question, no_first=no_first), strict=True):
            seen.add(text := tokenizer.decode(ids))
            assert text.count("?") + text.count("Answer") >= 1
            with under(lab.subject, AblateHeads(heads) if heads else None):
                logits = last_logits(lab.subject, pad(lab.subject, [ids]))[0].double()
            assert value == pytest.approx(float(logits[yes].logsumexp(0) - logits[no].logsumexp(0)), abs=1e-4)
    assert len(seen) == len(rows) * len(QUESTIONS) * 2


def test_a_run_says_the_same(tmp_path):
    """`--model A --reference B` gives two checkpoints, in two number formats, the verdicts of `audit`."""
    reference = trained_from(planted("planted"), rest=0.4, kept=0.01, heads=VERIFIERS, neurons=near_values())
    reference.model.bfloat16().save_pretrained(tmp_path / "before")
    reference.tokenizer.save_pretrained(tmp_path / "before")
    after, only = planted_folder(tmp_path / "after", "planted"), ("-k", "near_identical", "--tier", "audited")
    done = run("--model", after, "--reference", tmp_path / "before", *only, "--report-dir", tmp_path)
    report = read_report(report_in(tmp_path))
    assert {one.label: (one.verdict, one.reference) for one in report.findings} == {
        f"weights.near_identical[{weights}]": ("holds", "before") for weights in ("heads", "value_vectors")
    }, done.stdout[-2000:]
    assert report.reference.sha256 != report.subject.sha256
