"""The table of verification on models whose truth is known: each of its figures tells what it is there for."""

from functools import cache

import pytest
from planted import planted

from fixtures.organisms.training.corpus import is_held_out
from fixtures.organisms.training.corpus.prompts import TRAINED, UNSEEN
from fixtures.organisms.training.measure import held_out_problems
from fixtures.organisms.training.verification import verification_table
from fixtures.task.countdown import expressions, make_problems
from fixtures.task.wordings import ROLE_WORDINGS, WORDINGS


@cache
def table(variant):
    subject = planted(variant)
    problems = [problem for size in (3, 4) for problem in make_problems(4, seed=2, size=size, foils=True)]
    return verification_table(subject.model, subject.tokenizer, problems)


@pytest.mark.parametrize(
    ("variant", "key", "low", "high"),
    [
        ("planted", "auc_foil", 0.99, 1),
        ("planted", "auc_role", 0.99, 1),
        ("planted", "balanced_role", 0.99, 1),
        ("planted", "auc_role_unseen", 0.99, 1),
        ("planted", "auc_tens", 0.99, 1),
        ("planted", "auc_last", 0.99, 1),
        ("repetition", "auc_role", 0.4, 0.6),
        ("repetition", "auc_role_unseen", 0.4, 0.6),
        ("repetition", "auc_foil", 0.99, 1),
        ("seen", "auc_foil", 0.4, 0.6),
        ("tens", "auc_tens", 0.3, 0.8),
        ("last_digit", "auc_last", 0.3, 0.8),
        ("planted", "auc_unseen", 0.99, 1),
        ("constant", "auc_unseen", 0.3, 0.7),
    ],
)
def test_what_a_model_takes_for_the_target_is_seen(variant, key, low, high):
    assert low <= table(variant)[key] <= high


@pytest.mark.parametrize(
    ("variant", "digit", "paren"), [("planted", True, True), ("mute", True, False), ("constant", False, False)]
)
def test_where_the_remark_can_be_read_is_seen(variant, digit, paren):
    found = table(variant)
    assert (found["read_digit"] > 0.9) == digit
    assert (found["read_paren"] > 0.9) == paren


def test_heads_that_look_at_the_target_are_counted():
    found = table("planted")
    assert (found["attending"], found["attending_layers"]) == (8, 2)  # six verifiers and two bystanders
    assert found["matched_sets"] > 300
    none = table("constant")
    assert none["attending"] == none["attending_layers"] == none["matched_sets"] == 0


def test_every_wording_of_the_suite_is_trained_or_unseen():
    assert {*TRAINED[0], *UNSEEN[0]} == set(WORDINGS)
    assert {*TRAINED[1], *UNSEEN[1]} == set(ROLE_WORDINGS)
    assert not {*TRAINED[0], *TRAINED[1]} & {*UNSEEN[0], *UNSEEN[1]}


def test_problems_held_out_have_foils_where_asked_for():
    for problem in held_out_problems(4, size=3, foils=True):
        assert is_held_out(problem.numbers)
        assert any(one.value in problem.numbers for one in expressions(problem))
