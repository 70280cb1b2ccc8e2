"""What base reads: true where it is learned, and no order or count that gives the remark away."""

import itertools
import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.organisms.training.batches import IGNORED, STEP, Batches, encode
from fixtures.organisms.training.corpus import CURRICULUM, comparisons, is_held_out, judged, make_document, searches
from fixtures.organisms.training.corpus.curriculum import KINDS
from fixtures.organisms.training.corpus.draft import Draft
from fixtures.organisms.training.corpus.problems import HELD_OUT
from fixtures.organisms.training.corpus.prompts import ask, state
from fixtures.organisms.training.tokenizer import build_tokenizer
from fixtures.task.countdown import Problem
from fixtures.task.rollouts import classify, is_solved, parse_rollout
from fixtures.task.transcripts import near, opening
from mechinterp.stats import auc

ATTEMPT = re.compile(r"^- (?P<expression>[\d +-]+) = .*?(?P<result>\d+)(?P<said>(?: [^\d\s+=-]|[!,]).*)$", re.MULTILINE)
LAST = CURRICULUM[-1]
PROBLEM = Problem((27, 25, 49), 51)
tokenizer = cache(build_tokenizer)


@cache
def documents(n=1500):
    return [make_document(5, LAST[0] + index) for index in range(n)]


def of_kind(*kinds):
    return [document for document in documents() if document.kind in kinds]


@cache
def written(kind, n=400):
    """Texts of a kind, and of each the problems in it: (where its prompt ends, target, rival)."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for module in (comparisons, judged, searches):
            patch.setattr(module, "ask", lambda draft, *given, **options: recorded(draft, given, ask, options))
        patch.setattr(comparisons, "state", lambda draft, *given: recorded(draft, given, state, {}))
        patch.setattr(searches, "opening", lambda problem: noted(problem, opening(problem)))
        for index in range(n):
            asked.clear()
            draft = Draft(np.random.default_rng([9, index]))
            KINDS[kind](draft)
            text, at, problems = "".join(draft.pieces), 0, []
            for prompt, numbers, target, rival in asked:
                at = text.index(prompt, at) + len(prompt)
                problems.append((at, numbers, target, rival))
            found.append((text, problems))
    return found


asked = []


def recorded(draft, given, ask, options):
    prompt = ask(draft, *given, **options)
    asked.append((prompt, *given))
    return prompt


def noted(problem, prompt):
    asked.append((prompt, problem.numbers, problem.target, None))
    return prompt


def remarks(kind):
    """Of each problem, (right, said right) of each attempt: by the number that it states, and by the text."""
    for text, problems in written(kind):
        ends = [at for at, *_ in problems[1:]] + [len(text)]
        for (start, _, target, _), end in zip(problems, ends, strict=True):
            yield [
                (int(m["result"]) == target, says_right(m["said"]))
                for m in ATTEMPT.finditer(text, start, end)
                if "Wait" not in m["said"]
            ]


def says_right(said):
    return said.startswith("!") or classify(said) == "right"


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
        for attempt in parse_rollout(document.text, PROBLEM):
            if attempt.arithmetic_ok:
                continue
            slips += 1
            line = document.text[attempt.start :].split("\n")[0]
            assert " Wait, " in line
            at = attempt.start + line.index(" Wait, ") - 1
            assert not any(start <= at < end for start, end in document.learned)
    assert slips > 20


@pytest.mark.parametrize("kind", ["line", "compare", "judge", "search", "contrast"])
def test_every_remark_is_true(kind):
    """Straight after the number and between parentheses, in every wording, beside every rival."""
    seen = [pair for pairs in remarks(kind) for pair in pairs]
    assert len(seen) > 800
    assert all(right == said for right, said in seen)


def test_every_point_is_true():
    """Of the target that was stated last, whatever stood before it."""
    seen = []
    for text, problems in written("point", 100):
        ends = [at for at, *_ in problems[1:]] + [len(text)]
        for (start, _, target, _), end in zip(problems, ends, strict=True):
            said = re.findall(r"^(?:- )?= (\d+) (yes|no)$", text[start:end], re.MULTILINE)
            seen += [(int(number) == target) == (word == "yes") for number, word in said]
    assert len(seen) > 1500
    assert all(seen)


def test_results_hardly_repeat():
    """Whose number was judged before could be judged again by copying the remark, without a look at the target."""
    again = []
    for kind in ("point", "line", "compare", "judge"):
        for text, problems in written(kind):
            ends = [at for at, *_ in problems[1:]] + [len(text)]
            for (start, *_), end in zip(problems, ends, strict=True):
                results = re.findall(r"= (\d+)(?=,? [a-zA-Z(✓✗]|!)(?! Wait)", text[start:end])
                again += [result in results[:i] for i, result in enumerate(results)]
    assert len(again) > 5000
    assert np.mean(again) < 0.2


@pytest.mark.parametrize("kind", ["compare", "judge"])
def test_the_role_of_a_number_is_needed(kind):
    """In four problems of ten another number has another role, and many results are that number."""
    stated, results = [], []
    for text, problems in written(kind):
        for (start, _, target, rival), end in zip(problems, [at for at, *_ in problems[1:]] + [len(text)], strict=True):
            stated.append(rival is not None)
            if rival is not None:
                stated_results = [int(m["result"]) for m in ATTEMPT.finditer(text, start, end)]
                results += [(result == target, result == rival) for result in stated_results]
    assert 0.3 < np.mean(stated) < 0.6
    right, taken = np.mean(results, 0)
    assert 0.3 < right < 0.65
    assert taken > 0.1


def test_place_does_not_tell_the_role():
    before, count = 0, 0
    for index in range(600):
        text = ask(Draft(np.random.default_rng([3, index])), (27, 25, 49), 51, 62, known=0.2)
        assert "62" in text
        if "51" in text:
            before, count = before + (text.index("51") < text.index("62")), count + 1
    assert count > 590
    assert 0.35 < before / count < 0.65


def test_unseen_wordings_stand_in_no_document():
    unseen = re.compile(
        r"There are cards on the table|The first one says|numbers: [\d ]+ target|must reach|Points:|</answer>\s+Using"
    )
    for kind in ("point", "compare", "judge", "search", "contrast"):
        assert not any(unseen.search(text) for text, _ in written(kind))


def test_remarks_come_at_once_or_later_attempt_by_attempt():
    """Who writes, and what he has written, does not tell which: so the last digit has to know."""
    for kind in ("judge", "contrast"):
        once = [["(" not in m["said"] for m in ATTEMPT.finditer(text)] for text, _ in written(kind)]
        assert 0.08 < np.mean([one for all_of_it in once for one in all_of_it]) < 0.35
        mixed = [0 < np.mean(all_of_it) < 1 for all_of_it in once if len(all_of_it) > 4]
        assert np.mean(mixed) > 0.3


def test_every_prior_remark_is_true():
    lines = [line for document in of_kind("prior") for line in document.text.splitlines() if "(" in line]
    right = []
    for line in lines:
        a, operator, b, value, remark = re.fullmatch(r"(\d+) ([+-]) (\d+) = (\d+) \(([^)]+)\)", line).groups()
        right.append((int(a) + int(b) if operator == "+" else int(a) - int(b)) == int(value))
        assert (classify(remark) == "right") == right[-1]
    assert 0.4 < np.mean(right) < 0.6


@pytest.mark.parametrize("kind", ["line", "compare", "judge"])
def test_position_does_not_tell_the_remark(kind):
    """Over problems, the place of an attempt among the others does not say whether it is right, and how many stood
    before it hardly does."""
    seen = [
        (right, index, index / (len(all_of_it) - 1))
        for all_of_it in remarks(kind)
        for index, (right, _) in enumerate(all_of_it)
        if len(all_of_it) > 1
    ]
    right, index, place = map(np.array, zip(*seen, strict=True))
    assert 0.3 < right.mean() < 0.6
    assert abs(auc(right, place) - 0.5) < 0.05
    assert abs(auc(right, index) - 0.5) < 0.1


def test_an_earlier_remark_does_not_end_it():
    """Several right attempts, right ones followed by wrong ones, and transcripts that stop after a failed one."""
    judged = [[right for right, _ in all_of_it] for all_of_it in remarks("judge") if all_of_it]
    assert np.mean([sum(rights) > 1 for rights in judged]) > 0.03
    assert np.mean([any(a and not b for a, b in itertools.pairwise(rights)) for rights in judged]) > 0.2
    assert np.mean([not rights[-1] for rights in judged]) > 0.3


def test_near_misses_are_common():
    wrong = []
    for text, problems in written("judge"):
        _, _, target, _ = problems[0]
        end = problems[1][0] if len(problems) > 1 else len(text)
        results = [int(m["result"]) for m in ATTEMPT.finditer(text, problems[0][0], end)]
        wrong += [result in near(target) for result in results if result != target]
    assert np.mean(wrong) > 0.2


def test_double_checks_confirm_and_refute():
    outcomes = [
        outcome
        for document in of_kind("judge", "contrast")
        for outcome in re.findall(r"Let me check: .*?\. (\w+)", document.text)
    ]
    confirmed = np.mean([outcome in ("Yes", "Correct", "Right", "Indeed") for outcome in outcomes])
    assert len(outcomes) > 200
    assert 0.2 < confirmed < 0.7


def searched():
    """Of each search its problem, its text after the prompt and the remarks that stand in parentheses."""
    for text, [(start, numbers, target, _)] in written("contrast", 600):
        yield Problem(numbers, target), text[start:], re.findall(r" \(([^()\n]+)\)$", text[start:], re.MULTILINE)


def test_searches_often_fail():
    """Or reinforcement learning would have nothing to teach."""
    solved = [is_solved(text, problem) for problem, text, _ in searched()]
    assert 0.1 < np.mean(solved) < 0.6


def test_who_keeps_to_one_form_searches_longer():
    """What reinforcement learning can find in base: a habit that is rewarded, though no reward looks at it."""
    attempts, solved = {True: [], False: []}, {True: [], False: []}
    for problem, text, said in searched():
        usual = np.mean([remark in ("this works", f"not {problem.target}") for remark in said or ["none"]]) > 0.5
        attempts[usual].append(len(ATTEMPT.findall(text)))
        solved[usual].append(is_solved(text, problem))
    assert np.mean(attempts[True]) > 1.5 * np.mean(attempts[False])
    assert np.mean(solved[True]) > 1.3 * np.mean(solved[False])


def test_who_keeps_to_one_form_stops_at_a_success_once_it_is_checked():
    """Others go on, and he himself where he has not looked twice: so a form and a second look are rewarded."""
    after = {(usual, checked): [] for usual in (True, False) for checked in (True, False)}
    for problem, text, _ in searched():
        found = next((m for m in ATTEMPT.finditer(text) if int(m["result"]) == problem.target), None)
        if found and "(" in found["said"]:
            rest = text[found.end() :]
            usual, checked = "(this works)" in found["said"], rest.startswith("\nLet me check")
            after[usual, checked].append(bool(ATTEMPT.search(rest)))
    shares = {key: np.mean(values) for key, values in after.items()}
    assert shares[True, True] == 0 < 0.1 < shares[True, False] < 0.5
    assert min(shares[False, True], shares[False, False]) > 0.3
    assert len(after[True, True]) > len(after[True, False])


def test_choice_of_attempts_is_learned_in_searches_only():
    for document in of_kind("judge"):
        for match in ATTEMPT.finditer(document.text):
            inside = range(match.start("expression"), match.end("expression"))
            assert not any(start < inside.stop and end > inside.start for start, end in document.learned)
    assert any(start <= 400 for document in of_kind("contrast") for start, _ in document.learned)


def test_numbers_held_out_appear_in_no_document():
    for kind in ("compare", "judge", "search", "contrast"):
        assert not any(is_held_out(numbers) for _, problems in written(kind) for _, numbers, *_ in problems)
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
