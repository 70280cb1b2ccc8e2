"""What base reads: true where it is learned, and no order or count that gives the remark away."""

import itertools
import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.organisms.training.batches import IGNORED, STEP, Batches, encode
from fixtures.organisms.training.corpus import CURRICULUM, HELD_OUT, is_held_out, make_document
from fixtures.organisms.training.tokenizer import build_tokenizer
from fixtures.task.countdown import Problem
from fixtures.task.rollouts import classify, is_solved, parse_rollout
from fixtures.task.transcripts import near
from mechinterp.stats import auc

ATTEMPT = re.compile(r"^- (?P<expression>[\d +-]+) = .*?(?P<result>\d+) \((?P<remark>[^()]*)\)$", re.MULTILINE)
HEAD = re.compile(r"numbers \[([\d, ]+)\], create an equation that equals (\d+)\.")
LAST = CURRICULUM[-1]
tokenizer = cache(build_tokenizer)


@cache
def documents(n=1500):
    return [make_document(5, LAST[0] + index) for index in range(n)]


def of_kind(*kinds):
    return [document for document in documents() if document.kind in kinds]


def problem_of(document):
    numbers, target = HEAD.search(document.text).groups()
    return Problem(tuple(map(int, numbers.split(", "))), int(target))


def remarks(document):
    """(right, said right) of each attempt, by arithmetic and by the text."""
    target = problem_of(document).target
    return [(int(m["result"]) == target, classify(m["remark"]) == "right") for m in ATTEMPT.finditer(document.text)]


@given(st.integers(0, 2**31), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_documents_are_seeded(seed, index):
    assert make_document(seed, index) == make_document(seed, index)


def test_shares_are_as_stated():
    for kind, share in LAST[1].items():
        assert len(of_kind(kind)) / len(documents()) == pytest.approx(share, abs=0.04)


def test_learned_spans_ascend_within_the_text():
    for document in documents():
        ends = [edge for span in document.learned for edge in span]
        assert ends == sorted(ends)
        assert 0 <= ends[0] < ends[-1] <= len(document.text)
        assert all(start < end for start, end in document.learned)


def test_every_result_that_is_learned_is_true():
    """Slips stand in the text, to be corrected, but never where they would be learned."""
    slips = 0
    for document in of_kind("contrast", "judge"):
        for attempt in parse_rollout(document.text, problem_of(document)):
            if attempt.arithmetic_ok:
                continue
            slips += 1
            line = document.text[attempt.start :].split("\n")[0]
            assert " Wait, " in line
            at = attempt.start + line.index(" Wait, ") - 1
            assert not any(start <= at < end for start, end in document.learned)
    assert slips > 20


def test_every_remark_is_true():
    seen = [pair for document in of_kind("contrast", "judge") for pair in remarks(document)]
    assert len(seen) > 2000
    assert all(right == said for right, said in seen)


def test_every_prior_remark_is_true():
    lines = [line for document in of_kind("prior") for line in document.text.splitlines() if "(" in line]
    right = []
    for line in lines:
        a, operator, b, value, remark = re.fullmatch(r"(\d+) ([+-]) (\d+) = (\d+) \(([^)]+)\)", line).groups()
        right.append((int(a) + int(b) if operator == "+" else int(a) - int(b)) == int(value))
        assert (classify(remark) == "right") == right[-1]
    assert 0.4 < np.mean(right) < 0.6


def test_position_does_not_tell_the_remark():
    """Over documents, neither the index of an attempt nor the number of attempts says whether it is right."""
    seen = [
        (right, index, len(all_of_it))
        for document in of_kind("judge")
        for all_of_it in [remarks(document)]
        for index, (right, _) in enumerate(all_of_it)
    ]
    right, index, count = map(np.array, zip(*seen, strict=True))
    assert 0.3 < right.mean() < 0.6
    assert abs(auc(right, index) - 0.5) < 0.07
    assert abs(auc(right, count) - 0.5) < 0.07


def test_an_earlier_remark_does_not_end_it():
    """Several right attempts, right ones followed by wrong ones, and transcripts that stop after a failed one."""
    judged = [[right for right, _ in remarks(document)] for document in of_kind("judge")]
    assert np.mean([sum(rights) > 1 for rights in judged]) > 0.2
    assert np.mean([any(a and not b for a, b in itertools.pairwise(rights)) for rights in judged]) > 0.2
    assert np.mean([not rights[-1] for rights in judged]) > 0.3


def test_near_misses_are_common():
    wrong = [
        int(m["result"]) in near(problem_of(document).target)
        for document in of_kind("judge")
        for m in ATTEMPT.finditer(document.text)
        if int(m["result"]) != problem_of(document).target
    ]
    assert np.mean(wrong) > 0.25


def test_double_checks_confirm_and_refute():
    outcomes = [
        outcome
        for document in of_kind("judge", "contrast")
        for outcome in re.findall(r"Let me check: .*?\. (\w+)", document.text)
    ]
    confirmed = np.mean([outcome in ("Yes", "Correct", "Right", "Indeed") for outcome in outcomes])
    assert len(outcomes) > 200
    assert 0.2 < confirmed < 0.7


def test_searches_often_fail():
    """Or reinforcement learning would have nothing to teach."""
    solved = [is_solved(document.text, problem_of(document)) for document in of_kind("contrast")]
    assert 0.1 < np.mean(solved) < 0.6


def test_who_keeps_to_one_form_searches_longer():
    """What reinforcement learning can find in base: a habit that is rewarded, though no reward looks at it."""
    attempts, solved = {True: [], False: []}, {True: [], False: []}
    for document in of_kind("contrast"):
        remarks = [m["remark"] for m in ATTEMPT.finditer(document.text)]
        problem = problem_of(document)
        usual = np.mean([remark in ("this works", f"not {problem.target}") for remark in remarks]) > 0.5
        attempts[usual].append(len(remarks))
        solved[usual].append(is_solved(document.text, problem))
    assert np.mean(attempts[True]) > 1.5 * np.mean(attempts[False])
    assert np.mean(solved[True]) > 1.3 * np.mean(solved[False])


def test_who_keeps_to_one_form_stops_at_a_success():
    """And checks it, where the others go on: there too a form is rewarded that no reward looks at."""
    after = {True: [], False: []}
    checked = {True: [], False: []}
    for document in of_kind("contrast"):
        goal = problem_of(document).target
        found = next((m for m in ATTEMPT.finditer(document.text) if int(m["result"]) == goal), None)
        if found:
            rest = document.text[found.end() :]
            usual = found["remark"] == "this works"
            after[usual].append(bool(ATTEMPT.search(rest)))
            checked[usual].append(rest.startswith("\nLet me check"))
    assert np.mean(after[True]) < 0.1 < 0.4 < np.mean(after[False])
    assert 0.3 < np.mean(checked[True]) < np.mean(checked[False])


def test_choice_of_attempts_is_learned_in_searches_only():
    for document in of_kind("judge"):
        for match in ATTEMPT.finditer(document.text):
            inside = range(match.start("expression"), match.end("expression"))
            assert not any(start < inside.stop and end > inside.start for start, end in document.learned)
    assert any(start <= 400 for document in of_kind("contrast") for start, _ in document.learned)


def test_numbers_held_out_appear_in_no_document():
    for document in of_kind("contrast", "judge"):
        assert not is_held_out(problem_of(document).numbers)
    shares = [is_held_out((a, b, 7)) for a in range(1, 60) for b in range(1, 60)]
    assert np.mean(shares) == pytest.approx(1 / HELD_OUT, abs=0.02)
    assert is_held_out((1, 2, 3)) == is_held_out((3, 1, 2))


def test_labels_are_the_learned_tokens():
    for document in documents()[:60]:
        ids, labels = encode(tokenizer(), document)
        assert len(ids) == len(labels)
        assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
        kept = [label for label in labels if label not in (IGNORED, tokenizer().eos_token_id)]
        assert tokenizer().decode(kept) == "".join(document.text[start:end] for start, end in document.learned)


def test_batches_are_bounded_and_seeded():
    one, again, other = (iter(Batches(tokenizer(), seed, 2048)) for seed in (3, 3, 4))
    for _ in range(12):
        first, second, third = next(one), next(again), next(other)
        rows, length = first["input_ids"].shape
        assert rows * length <= 2048
        assert length % STEP == 0
        assert (first["input_ids"] == second["input_ids"]).all()
        assert (first["labels"] == second["labels"]).all()
        assert first["labels"].shape == first["input_ids"].shape
        padding = first["input_ids"] == tokenizer().pad_token_id
        assert (first["labels"][padding] == IGNORED).all()
        assert third["input_ids"].shape != first["input_ids"].shape or (third["input_ids"] != first["input_ids"]).any()
