"""Role-swapped pairs: two texts that nothing but the role of two numbers tells apart."""

import re

import numpy as np
import pytest
from hypothesis import given

from fixtures.task.countdown import Expression, Problem
from fixtures.task.transcripts import remark, write_transcript
from fixtures.task.wordings import ORDERS, ROLE_WORDINGS
from mechinterp.stats import auc
from tests.written import SEEDS, SHAPES, attempts, by_problem, found, law, mentions, pairs

WRONG = """\
Using the numbers [27, 25, 49], create an equation that equals the number that you must reach. Ann must reach 51. \
You must reach 53. Use each number once, with + and -. \
Show your work in <think> tags and the answer in <answer> tags.
<think>We have the numbers 27, 25, 49. Let's try different combinations:
- 27 + 25 - 49 = 52 - 49 = 3 (not it)
- 27 - 25 + 49 = 2 + 49 = 51 ("""


def test_how_a_wrong_text_reads():
    """The number that is reached is someone else's target."""
    attempts = [Expression((27, 25, 49), "+-"), Expression((27, 25, 49), "-+")]
    roles = dict(target=53, rival=51, wording="players", order="target_last")
    assert write_transcript(Problem((27, 25, 49), 51), attempts, **roles).text == WRONG


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
        assert values[:, 0].sum() == values[:, 1].sum()


@pytest.mark.parametrize("name", ROLE_WORDINGS)
def test_the_sentences_of_both_roles_are_alike(name):
    """As long, with as many words and the number at the same place, so that their order may be turned round."""
    for target, rival in ROLE_WORDINGS[name].sentences:
        target, rival = target.replace("{target}", "{}"), rival.replace("{rival}", "{}")
        assert len(target) == len(rival)
        assert target.index("{}") == rival.index("{}")
        assert len(target.split()) == len(rival.split())


def test_the_remark_of_a_swapped_pair_names_no_number():
    """It starts as the published one does, and adds no mention."""
    right, wrong = pairs(attempts(0))[0]
    assert (remark(right), remark(wrong)) == ("this works", "not it")
    assert "(not it)\n" in wrong.text
