"""Every kind of last attempt at the same problem: what they share, and where their numbers stand."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given

from fixtures.task.countdown import Problem, expressions, make_problems
from fixtures.task.transcripts import make_attempts, write_transcript
from fixtures.task.wordings import ORDERS, ROLE_WORDINGS
from mechinterp.errors import MechinterpError
from tests.written import PROMPTS, RANGES, SEEDS, SHAPES, SINGLE, attempts, by_problem, found, law, mentions


@law
@given(SEEDS, SHAPES, PROMPTS)
def test_kinds_come_in_a_fixed_order(seed, shape, wording):
    """Each problem has one transcript of the four kinds and a right and a wrong one of each role wording."""
    for group in by_problem(attempts(seed, shape, wording=wording)):
        assert [t.kind for t in group] == [*SINGLE, *["role_swapped"] * 2 * len(ROLE_WORDINGS)]
        assert [t.wording for t in group] == [wording] * 4 + [name for name in ROLE_WORDINGS for _ in range(2)]
        assert [t.is_right for t in group] == [True, False, False, False, *[True, False] * len(ROLE_WORDINGS)]
        assert Counter(t.pair for t in group) == {group[0].pair: 4} | {t.pair: 2 for t in group[4:]}


@law
@given(SEEDS, SHAPES, PROMPTS)
def test_kinds_share_all_but_the_last_attempt(seed, shape, wording):
    """Prompt and failed attempts are the same, but for the edited target, and the last attempts use as many numbers."""
    for correct, edited, incorrect, foil, *_ in by_problem(attempts(seed, shape, wording=wording)):
        before = correct.text[: correct.attempt[0]]
        assert {t.text[: t.attempt[0]] for t in (incorrect, foil)} == {before}
        text = list(correct.text)
        for span in correct.target_mentions:
            text[slice(*span)] = str(edited.target)
        assert "".join(text) == edited.text
        assert {len(t.attempts) for t in (correct, edited, incorrect, foil)} == {len(correct.attempts)}


@law
@given(SEEDS, SHAPES, PROMPTS)
def test_an_edited_targets_result_stands_nowhere_else(seed, shape, wording):
    """Only there: an incorrect result stands nowhere else either, and a right one where the target does."""
    for correct, edited, incorrect, *_ in by_problem(attempts(seed, shape, wording=wording)):
        assert mentions(edited, edited.value) == mentions(incorrect, incorrect.value) == 0
        assert mentions(correct, correct.value) == len(correct.target_mentions) > 0


@law
@given(SEEDS, SHAPES, PROMPTS)
def test_a_foils_result_is_mentioned_as_often_as_the_target(seed, shape, wording):
    """It is an input number, no failed attempt reaches it, and the text names it at least as often as the target."""
    for group in by_problem(attempts(seed, shape, wording=wording)):
        foil = group[3]
        assert foil.value in foil.problem.numbers
        assert foil.value not in [expression.value for expression in foil.attempts[:-1]]
        assert len(foil.number_mentions[foil.value]) >= len(foil.target_mentions)


@law
@given(SEEDS, SHAPES, PROMPTS)
def test_spans_hold_what_they_say(seed, shape, wording):
    """Every span is that of a whole number of the text, and no mention is missing."""
    for t in attempts(seed, shape, wording=wording):
        *numbers, last = found(t.text)
        assert last == (t.value, t.result)
        assert t.text[slice(*t.attempt)] == f"- {t.attempts[-1].steps()} ("
        assert t.target_mentions == tuple(span for n, span in numbers if n == t.target)
        assert t.rival_mentions == tuple(span for n, span in numbers if n == t.rival)
        before = [(n, span) for n, span in numbers if span[1] <= t.attempt[0]]
        assert t.number_mentions == {n: tuple(s for m, s in before if m == n) for n in t.problem.numbers}
        inside = [(n, span) for n, span in numbers if span[0] >= t.attempt[0] and n in t.problem.numbers]
        assert t.last_attempt_numbers == tuple(inside)
        assert {n for n, _ in inside} == set(t.problem.numbers)


def test_edits_change_one_digit():
    """Half of the edited targets share the last digit with the result, the others all the digits before it."""
    edited = [t for t in attempts(0, n=200, kinds=["target_edited"])]
    kept = [t.shares_last_digit for t in edited]
    assert [t.shares_tens for t in edited] == [not keep for keep in kept]
    assert 0.4 < sum(kept) / 200 < 0.6  # within 2.8 standard errors
    assert 0.35 < sum(t.target > t.value for t in edited) / 200 < 0.65


@pytest.mark.parametrize("shape", RANGES)
def test_last_lines_are_about_as_long(shape):
    """Within a problem the last line's length is nearly that of the right one, on average within a character."""
    groups = by_problem(attempts(0, shape, n=60, kinds=SINGLE))
    lengths = np.array([[t.attempt[1] - t.attempt[0] for t in group] for group in groups])  # (problems, kinds)
    assert (lengths[:, 0] == lengths[:, 1]).all()
    assert np.abs(lengths.mean(0) - lengths[:, 0].mean()).max() < 1


@law
@given(SEEDS)
def test_a_problems_attempts_depend_on_it_alone(seed):
    """The same alone and among others, in another wording and with fewer kinds; only the order of roles is by index."""
    problems = make_problems(4, seed=seed, foils=True)
    everything = by_problem(make_attempts(problems, seed=seed))
    assert make_attempts(problems[2:3], seed=seed, kinds=SINGLE) == everything[2][:4]
    assert make_attempts(problems, seed=seed, kinds=["foil"]) == [group[3] for group in everything]
    names = list(ROLE_WORDINGS)[1:2]
    assert make_attempts(problems, seed=seed, kinds=["role_swapped"], role_wordings=names) == [
        t for group in everything for t in group if t.wording == names[0]
    ]
    other = make_attempts(problems, seed=seed, wording="bare", kinds=SINGLE)
    assert [t.attempts for t in other] == [t.attempts for group in everything for t in group[:4]]


def test_what_does_not_allow_every_kind_is_refused():
    """A problem without a foil, an unknown name, and a wording without what it needs are refused in one line."""
    plain = Problem((27, 25, 49), 51)
    right = next(e for e in expressions(plain) if e.value == 51)
    refused = [
        (lambda: make_attempts([plain], seed=0), "27,25,49->51 does not allow.*a foil"),
        (lambda: make_attempts([plain], seed=0, kinds=["swapped"]), "kinds: 'swapped'; expected some of correct"),
        (lambda: make_attempts([plain], seed=0, kinds=[]), "kinds: empty; expected some of correct"),
        (lambda: make_attempts([plain], seed=0, wording="rounds"), "wording: 'rounds'; expected some of published"),
        (lambda: make_attempts([plain], seed=0, role_wordings=["bare"]), "role_wordings: 'bare'; expected some of rou"),
        (lambda: make_attempts([plain], seed=0, failed=(2, 1)), r"failed=\(2, 1\)"),
        (lambda: write_transcript(plain, [right], wording="publish"), "'publish': expected one of published, target_f"),
        (lambda: write_transcript(plain, [right], wording="rounds"), "'rounds' with order=None: expected 'target_fir"),
        (lambda: write_transcript(plain, [right], order="target_last"), "'published' with order='target_last': exp"),
        (lambda: write_transcript(plain, [right], rival=52), "rival=52: .*no place for one"),
        (lambda: write_transcript(plain, [right], rival=51), "rival=51: it is the target"),
        (lambda: write_transcript(plain, [right], wording="after_example"), "example=None: .*needs one"),
        (lambda: write_transcript(plain, [right], wording="rounds", order=ORDERS[0]), "rival=None: .*needs one"),
    ]
    for ask, message in refused:
        with pytest.raises(MechinterpError, match=message) as error:
            ask()
        assert "\n" not in str(error.value)
    assert len(make_attempts([plain], seed=0, kinds=["correct", "target_edited"])) == 2


@law
@given(SEEDS, SHAPES)
def test_every_made_problem_allows_every_kind(seed, shape):
    """Whatever make_problems gives with foils has a foil and three failed attempts beside the last one."""
    written = attempts(seed, shape, n=5, failed=(3, 3))
    assert {t.failed for t in written} == {3}
    assert [t.kind for t in written].count("foil") == 5


def test_other_operators_have_foils_too():
    """Multiplication and division beside + and - leave every law of a foil as it is."""
    for correct, edited, _, foil in by_problem(attempts(3, dict(size=4, operators="+-*/"), kinds=SINGLE)):
        assert foil.value in foil.problem.numbers
        assert foil.value != foil.target == correct.value
        assert mentions(edited, edited.value) == 0


@pytest.mark.parametrize("size", [3, 4])
def test_problems_with_foils_are_problems(size):
    """Distinct, their target no input number, a prefix of a longer list, and the foil at any place in them."""
    problems = make_problems(60, seed=1, size=size, foils=True)
    assert problems[:7] == make_problems(7, seed=1, size=size, foils=True)
    assert len({(tuple(sorted(p.numbers)), p.target) for p in problems}) == 60
    assert all(p.target not in p.numbers and len(set(p.numbers)) == size for p in problems)
    foils = make_attempts(problems, seed=1, kinds=["foil"])
    assert {t.problem.numbers.index(t.value) for t in foils} == set(range(size))


def test_foils_need_both_signs():
    """Without + and - the equation of a foil cannot be solved."""
    with pytest.raises(MechinterpError, match=r"'\+': problems with foils need"):
        make_problems(1, seed=0, operators="+", foils=True)
