"""Attempts whose answer does not stand in the context."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.checkpoints import resolve
from fixtures.loading import load
from fixtures.task.prior import EXAMPLES, Judged, judged_attempts, judged_sums
from fixtures.task.sites import result_site

NUMBER = re.compile(r"\d+")


def other_numbers(one: Judged) -> list[int]:
    """All but the result."""
    start, end = one.result
    return [int(found.group()) for found in NUMBER.finditer(one.text) if found.start() not in range(start, end)]


def pairs(texts: list[Judged]) -> list[tuple[Judged, Judged]]:
    right, wrong = texts[::2], texts[1::2]
    assert [one.pair for one in right] == [one.pair for one in wrong] == list(range(len(right)))
    assert all(one.is_right for one in right)
    assert not any(one.is_right for one in wrong)
    return list(zip(right, wrong, strict=True))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_sums_have_to_be_known(seed):
    """Both texts of a pair are one but for the result, of which neither stands before; half of the examples err."""
    for right, wrong in pairs(judged_sums(3, seed=seed)):
        assert right.text[: right.result[0]] == wrong.text[: wrong.result[0]]
        results = [int(one.text[slice(*one.result)]) for one in (right, wrong)]
        *before, a, b = other_numbers(right)
        assert results[0] == a + b != results[1]
        assert len({len(str(result)) for result in results}) == 1
        assert not {*results} & {*before, a, b}
        sums = [before[i : i + 3] for i in range(0, len(before), 3)]
        said = re.findall(r"\((this works|not it)\)", right.text)
        assert [x + y == z for x, y, z in sums] == [one == "this works" for one in said]
        assert said.count("not it") == EXAMPLES // 2


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_targets_have_to_be_worked_out(seed):
    """What is asked for stands nowhere, nor is half of it an input number: only twice what is stated is the result."""
    for right, wrong in pairs(judged_attempts(3, seed=seed)):
        halves = [int(re.search(r"twice (\d+)", one.text)[1]) for one in (right, wrong)]
        assert right.text.replace(f"twice {halves[0]}", f"twice {halves[1]}") == wrong.text
        result = int(right.text[slice(*right.result)])
        assert result == 2 * halves[0] != 2 * halves[1]
        for one, half in zip((right, wrong), halves, strict=True):
            others = other_numbers(one)
            assert others.count(half) == 1
            assert not {2 * halves[0], 2 * halves[1]} & {*others}


@pytest.fixture(scope="module")
def tokenizer():
    return load(resolve("base"), device="cpu").tokenizer


@pytest.mark.parametrize("make", [judged_sums, judged_attempts])
def test_results_have_tokens_of_their_own(tokenizer, make):
    """The result stands before the ` (`, and its tokens are its digits."""
    for one in make(4, seed=1):
        ids, places = result_site(tokenizer, one.text, one.result)
        assert places[-1] == len(ids) - 2
        assert tokenizer.decode([ids[i] for i in places]).replace(" ", "") == one.text[slice(*one.result)]
