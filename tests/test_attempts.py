"""Every kind of last attempt at the same problem, and what must not tell right from wrong among them."""

import re
from collections import Counter
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.task.countdown import Problem, expressions, make_problems
from fixtures.task.transcripts import KINDS, make_attempts, verdict, write_transcript
from fixtures.task.wordings import ORDERS, ROLE_WORDINGS, WORDINGS
from mechinterp.errors import MechinterpError
from mechinterp.stats import auc

law = settings(deadline=None, derandomize=True, max_examples=20)
SEEDS = st.integers(0, 2**32)
RANGES = [  # of numbers and targets
    dict(size=3),
    dict(size=4),
    dict(size=3, numbers=(1, 30), targets=(5, 60)),
    dict(size=3, numbers=(100, 300), targets=(100, 400)),
    dict(size=4, numbers=(1, 20), targets=(10, 40)),
]
SHAPES = st.sampled_from(RANGES)
PROMPTS = st.sampled_from(list(WORDINGS))
SINGLE = KINDS[:4]


def attempts(seed, shape=RANGES[0], n=3, **options):
    return make_attempts(make_problems(n, seed=seed, foils=True, **shape), seed=seed, **options)


def by_problem(transcripts):
    return [list(group) for _, group in groupby(transcripts, key=lambda t: t.problem)]


def pairs(transcripts):
    """(right, wrong) of each role-swapped pair."""
    swapped = [t for t in transcripts if t.kind == "role_swapped"]
    return list(zip(swapped[::2], swapped[1::2], strict=True))


def found(text):
    """The whole numbers of a text with their spans: searched for, to judge what was recorded."""
    return [(int(match[0]), match.span()) for match in re.finditer(r"(?<!\d)\d+(?!\d)", text)]


def mentions(transcript, number):
    """How often a number stands before the result."""
    return sum(n == number for n, span in found(transcript.text) if span != transcript.result)


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


@law
@given(SEEDS, SHAPES)
def test_a_role_swapped_pair_exchanges_two_numbers(seed, shape):
    """The wrong text is the right one with target and rival exchanged: the same attempts, the same bag of characters
    and numbers, each number as often, the same remarks."""
    for right, wrong in pairs(attempts(seed, shape)):
        assert (right.target, right.rival) == (wrong.rival, wrong.target)
        assert right.value == wrong.value == right.target
        assert right.attempts == wrong.attempts
        assert right.text[right.attempt[0] :] == wrong.text[wrong.attempt[0] :]
        assert right.target_mentions == wrong.target_mentions
        assert right.rival_mentions == wrong.rival_mentions
        assert len(right.target_mentions) == len(right.rival_mentions) in (1, 2)
        assert all(mentions(right, n) == mentions(wrong, n) for n in (right.target, right.rival))
        assert sorted(re.findall(r"\d+|\w+|\S", right.text)) == sorted(re.findall(r"\d+|\w+|\S", wrong.text))
        text = list(right.text)
        for number, spans in ((right.rival, right.target_mentions), (right.target, right.rival_mentions)):
            for span in spans:
                text[slice(*span)] = str(number)
        assert "".join(text) == wrong.text


@law
@given(SEEDS, SHAPES)
def test_a_rival_looks_like_a_target(seed, shape):
    """It has as many digits, is no input number and no result, and is what target_edited states."""
    for group in by_problem(attempts(seed, shape)):
        edited = group[1]
        for right, wrong in pairs(group):
            assert right.rival == wrong.target == edited.target
            assert len(str(right.rival)) == len(str(right.target))
            said = {n for e in right.attempts for line in e.reductions() for n in line.numbers}
            assert right.rival not in said | set(right.problem.numbers)
            assert sum(n == right.target for e in right.attempts for line in e.reductions() for n in line.numbers) == 1


@law
@given(SEEDS)
def test_order_is_balanced_exactly(seed):
    """In each role wording half of the problems state the target first: in all, in the even and the odd ones, and one
    of every two neighbours."""
    swapped = pairs(attempts(seed, n=12))
    for name in ROLE_WORDINGS:
        orders = [right.order for right, wrong in swapped if right.wording == name]
        assert orders == [wrong.order for _, wrong in swapped if wrong.wording == name]
        assert set(map(frozenset, zip(orders[::2], orders[1::2], strict=True))) == {frozenset(ORDERS)}
        for chosen in (orders, orders[::2], orders[1::2]):
            assert chosen.count("target_first") == len(chosen) / 2
    for right, _ in swapped:
        assert (right.target_mentions[0] < right.rival_mentions[0]) == (right.order == "target_first")


def first_is_result(t):
    return min(t.target_mentions + t.rival_mentions) in _of_result(t)


def last_is_result(t):
    return max(t.target_mentions + t.rival_mentions) in _of_result(t)


def distance(t):
    """In characters, from the last mention of the result's number to the attempt."""
    return t.attempt[0] - _of_result(t)[-1][1]


def first_number(t):
    return found(t.text)[0][0]


def last_number(t):
    return [n for n, span in found(t.text) if span[1] <= t.attempt[0]][-1]


def count(t):
    return mentions(t, t.value)


def first_is_larger(t):
    """Whether the first of the two numbers is the larger one."""
    return (t.target > t.rival) == (t.order == "target_first")


def _of_result(t):
    return t.target_mentions if t.target == t.value else t.rival_mentions


EXACT = [first_is_result, last_is_result, first_number, last_number, count, lambda t: len(t.text)]
SAMPLED = [distance, first_is_larger]  # balanced as far as the problems of both orders are alike


@pytest.mark.parametrize("name", ROLE_WORDINGS)
@pytest.mark.parametrize("feature", EXACT + SAMPLED)
def test_nothing_but_the_role_tells(name, feature):
    """What a reader of order, counts or lengths would go by has an AUC of .5 exactly, and as many pairs go up as down.

    Distance and size lie within four standard errors of .5 (of an AUC without a difference, Hanley and McNeil 1982):
    the two orders are written for different problems.
    """
    n = 100
    swapped = pairs(attempts(7, n=n, role_wordings=[name]))
    values = np.array([[float(feature(t)) for t in pair] for pair in swapped])  # (n, right and wrong)
    error = 4 * np.sqrt((2 * n + 1) / (12 * n * n)) if feature in SAMPLED else 1e-12
    assert abs(auc([True, False] * n, values.ravel()) - 0.5) <= error
    if feature is not first_is_larger:
        assert np.sign(values[:, 0] - values[:, 1]).sum() == 0


@pytest.mark.parametrize("name", ROLE_WORDINGS)
def test_the_sentences_of_both_roles_are_alike(name):
    """As long, with as many words and the number at the same place, so that their order may be turned round."""
    for target, rival in ROLE_WORDINGS[name].sentences:
        target, rival = target.replace("{target}", "{}"), rival.replace("{rival}", "{}")
        assert len(target) == len(rival)
        assert target.index("{}") == rival.index("{}")
        assert len(target.split()) == len(rival.split())


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


def test_the_remark_of_a_swapped_pair_names_no_number():
    """It starts as the published one does, and adds no mention."""
    right, wrong = pairs(attempts(0))[0]
    assert (verdict(right), verdict(wrong)) == ("this works", "not it")
    assert "(not it)\n" in wrong.text


def test_what_does_not_allow_every_kind_is_refused():
    """A problem without a foil, an unknown name, and a wording without what it needs are refused in one line."""
    plain = Problem((27, 25, 49), 51)
    right = next(e for e in expressions(plain) if e.value == 51)
    refused = [
        (lambda: make_attempts([plain], seed=0), "27,25,49->51 does not allow.*a foil"),
        (lambda: make_attempts([plain], seed=0, kinds=["swapped"]), r"\['swapped'\].*expected some of correct"),
        (lambda: make_attempts([plain], seed=0, failed=(2, 1)), r"failed=\(2, 1\)"),
        (lambda: write_transcript(plain, [right], wording="publish"), "'publish': expected one of published, target_f"),
        (lambda: write_transcript(plain, [right], wording="rounds"), "'rounds' with order=None: expected 'target_fir"),
        (lambda: write_transcript(plain, [right], order="target_last"), "'published' with order='target_last': exp"),
        (lambda: write_transcript(plain, [right], rival=52), "rival=52: .*no place for one"),
        (lambda: write_transcript(plain, [right], wording="after_example"), "example=None: .*needs one"),
        (
            lambda: write_transcript(plain, [right], wording="rounds", order="target_last"),
            "rival=None: .*needs one",
        ),
    ]
    for ask, message in refused:
        with pytest.raises(MechinterpError, match=message) as error:
            ask()
        assert "\n" not in str(error.value)
    assert len(make_attempts([plain], seed=0, kinds=["correct", "target_edited"])) == 2


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
