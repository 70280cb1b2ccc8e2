import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fixtures.task.countdown import Expression, Problem, make_problems
from fixtures.task.rollouts import RIGHT_WORDS, WRONG_WORDS, answer, classify, is_solved, parse_rollout
from fixtures.task.transcripts import complete, make_transcripts, remark

law = settings(deadline=None, derandomize=True, max_examples=80)
PROBLEM = Problem((27, 25, 49), 51)

READ = [  # text; expression, stated, value, arithmetic_ok, is_right, said
    ("- 27 - 25 + 49 = 2 + 49 = 51 (this works)", ("27 - 25 + 49", 51, 51, True, True, "right")),
    ("- 27 + 25 - 49 = 52 - 49 = 3 (not 51)", ("27 + 25 - 49", 3, 3, True, False, "wrong")),
    ("- 27 + 25 - 49 = 51 (this works)", ("27 + 25 - 49", 51, 3, False, False, "right")),
    ("27 - 25 + 49 = 3 + 49 = 51 (yes!)", ("27 - 25 + 49", 51, 51, False, True, "right")),
    ("27 - 25 + 49 = 52 (too big)", ("27 - 25 + 49", 52, 51, False, True, "wrong")),
    ("* (49 − 25) + 27 = 51 (✓)", ("(49 − 25) + 27", 51, 51, True, True, "right")),
    ("Wait: 49 + 2 = 51 (perfect)", ("49 + 2", 51, 51, True, False, "right")),
    ("- 25 - 27 + 49 = -2 + 49 = 47 (incorrect)", ("25 - 27 + 49", 47, 47, True, False, "wrong")),
    ("-25 + 27 + 49 = 51 (correct", ("-25 + 27 + 49", 51, 51, True, True, "right")),
    ("27 / 25 * 49 = 52.92 (no)", ("27 / 25 * 49", None, None, True, False, "wrong")),
    ("27 / 25 * 50 = 1.08 * 50 = 54 (no)", ("27 / 25 * 50", 54, 54, True, False, "wrong")),
    ("27 / (25 - 25) = 0 (hm)", ("27 / (25 - 25)", 0, None, False, False, None)),
    ("27 - 25 + 49 = 51. Yes.", ("27 - 25 + 49", 51, 51, True, True, None)),
    ("27 - 25 + 49 = 2 + 49 (so", ("27 - 25 + 49", None, 51, True, True, None)),
    ("27 - 25 + 49 = 51 (", ("27 - 25 + 49", 51, 51, True, True, None)),
    ("27 × 25 ÷ 5 = 135 (equals 135)", ("27 × 25 ÷ 5", 135, 135, True, False, None)),
    ("9999999999999 + 1 = 2 (ok)", ("9999999999999 + 1", 2, None, False, False, "right")),
]

UNREAD = [
    "",
    "51",
    "51 = 51 (this works)",
    "27 + 25",
    "27 - 25 + 49 =",
    "27 - 25 + 49 = 2 +",
    "x + 27 + 3 = 30",
    "2x + 3 = 5",
    "9**9**9 = 3",
    "9**9 + 1 = 10",
    "27 + 25 = 5^2",
    "٢٧ + ٢٥ = ٥٢",
    "(" * 5000,
    "(1+" * 5000 + "=",
]

ANSWERS = [
    ("<answer> 27 - 25 + 49 </answer>", True),
    ("write <answer> </answer>. <answer>49+27-25</answer>", True),
    ("<answer>1 + 1</answer> <answer> (49 - 25) + 27 </answer>", True),
    ("<answer> 27 - 25 + 49 </answer> <answer> 27 + 25 - 49 </answer>", False),  # the last one counts
    ("<answer> 51 </answer>", False),
    ("<answer> 27 + 24 </answer>", False),
    ("<answer> 27 - 25 + 49 = 51 </answer>", False),
    ("<answer> 27 - 25 + 49 + 0 </answer>", False),
    ("<answer> 27 - 25 + 49 apples </answer>", False),
    ("<answer> 27 - 25 + 49", False),
    ("<answer> 9**9**9 </answer>", False),
    ("<answer> __import__('os') </answer>", False),
    ("27 - 25 + 49", False),
    ("", False),
]

REMARKS = {
    "right": ["this works", "OK", "Yes!", "success", "that is correct", "正确", "✅", "bingo"],
    "wrong": ["not 51", "incorrect", "doesn't work", "isn’t right", "not correct", "too small", "不正确", "✗", "no"],
    None: ["", "equals 51", "51", "hm", "thi"],
}


@pytest.mark.parametrize(("text", "expected"), READ)
def test_an_attempt_is_read(text, expected):
    """Expression, stated and true value, arithmetic, rightness and remark are each read for themselves."""
    (found,) = parse_rollout(text, PROBLEM)
    assert (found.expression, found.stated, found.value, found.arithmetic_ok, found.is_right, found.said) == expected
    assert text[found.start :].startswith(found.expression)
    if "(" in text.partition("=")[2]:
        assert text[found.open_paren :] == f"({found.remark}" + ")" * text.endswith(")")
    else:
        assert found.open_paren is None


@pytest.mark.parametrize("text", UNREAD)
def test_what_is_no_attempt_is_not_read(text):
    """Text without a finished equation in digits, or with a part that is not understood, holds no attempt."""
    assert parse_rollout(text, PROBLEM) == []


@law
@given(st.integers(0, 2**32))
def test_finished_transcripts_are_read_back(seed):
    """In a finished transcript the last attempt is right and said to be; the earlier ones are wrong and said to be."""
    transcripts = make_transcripts(make_problems(1, seed=seed), seed=seed)
    correct = transcripts[0]
    found = parse_rollout(complete(correct), correct.problem)
    assert [a.expression for a in found] == [str(expression) for expression in correct.attempts]
    assert [a.is_right for a in found] == [False] * correct.failed + [True]
    assert [a.said for a in found] == ["wrong"] * correct.failed + ["right"]
    assert all(a.arithmetic_ok and a.uses_each_once for a in found)
    assert is_solved(complete(correct), correct.problem)
    for transcript in transcripts:
        last = parse_rollout(f"{transcript.text}{remark(transcript)})\n", transcript.problem)[-1]
        assert transcript.text[: last.open_paren + 1] == transcript.text
        assert last.said == ("right" if transcript.is_right else "wrong")


@law
@given(st.text(st.sampled_from("0123456789+-*/()= .\n(thisnot)×−<>answer٣²½"), max_size=60) | st.text())
def test_no_text_raises(text):
    """Whatever a model writes is read or left out, and what is read lies in the text."""
    for found in parse_rollout(text, PROBLEM):
        assert text[found.start :].startswith(found.expression)
        assert found.open_paren is None or text[found.open_paren] == "("
    assert isinstance(is_solved(f"<answer>{text}</answer>", PROBLEM), bool)


EXPRESSIONS = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.builds("{} {} {}".format, inner, st.sampled_from("+-*/"), inner) | inner.map("({})".format),
    max_leaves=8,
)


@law
@given(EXPRESSIONS.filter(lambda text: re.search("[-+*/]", text)))
def test_values_are_those_of_python(text):
    """The value of an expression is what Python makes of it in exact fractions."""
    exact = re.sub(r"\d+", r"Fraction(\g<0>)", text)
    try:
        from fractions import Fraction

        expected = eval(exact, {"Fraction": Fraction})  # noqa: S307  (an independent judge of our own text)
    except ZeroDivisionError:
        expected = None
    (found,) = parse_rollout(f"{text} = 0", PROBLEM)
    assert found.expression == text
    assert found.value == (expected if expected is not None and expected.denominator == 1 else None)
    assert found.arithmetic_ok == (expected == 0)


@law
@given(st.permutations([27, 25, 49]), st.text("+-*/", min_size=2, max_size=2), st.integers(0, 200))
def test_solved_is_what_reasoning_gym_scores_as_solved(numbers, operators, other):
    """An answer is solved exactly if reasoning_gym's scorer gives it 1.0."""
    from reasoning_gym.games.countdown import CountdownConfig, CountdownDataset

    expression = Expression(tuple(numbers), operators)
    score = CountdownDataset(CountdownConfig(size=1)).score_answer
    for target in {expression.value or other, other, 51} - {0}:
        problem = Problem((27, 25, 49), target)
        scored = score(str(expression), {"metadata": {"numbers": [27, 25, 49], "target": target}})
        assert is_solved(f"<answer> {expression} </answer>", problem) == (scored == 1.0)


def test_solutions_of_reasoning_gym_are_solved():
    """The solutions that reasoning_gym states, parentheses and leading signs included, are read as solved."""
    from reasoning_gym.games.countdown import CountdownConfig, CountdownDataset

    config = CountdownConfig(min_numbers=3, max_numbers=4, min_target=10, max_target=99, seed=0, size=60)
    for entry in CountdownDataset(config):
        problem = Problem(tuple(entry["metadata"]["numbers"]), entry["metadata"]["target"], "+-*/")
        assert is_solved(f"<answer>{entry['answer']}</answer>", problem), entry["answer"]


@pytest.mark.parametrize(("text", "solved"), ANSWERS)
def test_solved_by_the_last_answer(text, solved):
    """The last answer that holds anything counts, if it is an expression and nothing else."""
    assert is_solved(text, PROBLEM) == solved


def test_an_answer_is_what_the_tags_hold():
    """Without tags, or with nothing between them, there is no answer."""
    assert answer("<answer> 1 + 1 </answer>") == "1 + 1"
    assert answer("<answer> </answer>") is None
    assert answer("1 + 1") is None


@pytest.mark.parametrize(("said", "remark"), [(said, remark) for said, group in REMARKS.items() for remark in group])
def test_remarks(said, remark):
    """A remark says right, wrong or neither; a negation outweighs what it negates."""
    assert classify(remark) == said


@given(st.sampled_from(sorted(RIGHT_WORDS)), st.sampled_from(sorted(WRONG_WORDS)))
@law
def test_a_word_of_doubt_is_enough(right, wrong):
    """Each word counts alone; together the one that says wrong does, in either order."""
    assume(right not in WRONG_WORDS)
    assert [classify(right), classify(wrong)] == ["right", "wrong"]
    assert classify(f"{right}, {wrong}") == classify(f"{wrong} {right}") == "wrong"


@pytest.mark.parametrize("text", ["(1+" * 5000 + "= 1", "9*" * 20000 + "9 = 1", "-(" * 5000, "9" * 9000 + " + 1 = 1"])
def test_bounds_hold(text):
    """Thousands of parentheses, factors or digits neither raise nor have a value."""
    assert [attempt.value for attempt in parse_rollout(text, PROBLEM)] in ([], [None])
    assert not is_solved(f"<answer>{text}</answer>", PROBLEM)
