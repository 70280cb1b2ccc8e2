import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.task.countdown import Expression, Problem, make_problems, solutions
from fixtures.task.transcript import untold
from fixtures.task.transcripts import complete, make_attempts, make_transcripts, opening, remark, write_transcript
from mechinterp.errors import MechinterpError

law = settings(deadline=None, derandomize=True, max_examples=25)
SEEDS = st.integers(0, 2**32)
KINDS = ["correct", "target_edited", "incorrect"]
PUBLISHED = """\
Using the numbers [27, 25, 49], create an equation that equals 51. Use each number once, with + and -. \
Show your work in <think> tags and the answer in <answer> tags.
<think>We have the numbers 27, 25, 49 and need 51. Let's try different combinations:
- 27 + 25 - 49 = 52 - 49 = 3 (not 51)
- 27 - 25 + 49 = 2 + 49 = 51 (this works)
So, the equation that equals 51 is 27 - 25 + 49.
</think>
<answer> 27 - 25 + 49 </answer>"""


def triples(seed, n=4, failed=(1, 3), **options):
    transcripts = make_transcripts(make_problems(n, seed=seed, **options), seed=seed, failed=failed)
    return [tuple(transcripts[i : i + 3]) for i in range(0, len(transcripts), 3)]


def read(transcript, span):
    return transcript.text[slice(*span)]


def whole_numbers(text):
    """The spans of the whole numbers in a text: found in it, to judge the spans that were recorded."""
    return [(int(match[0]), match.span()) for match in re.finditer(r"(?<!\d)\d+(?!\d)", text)]


def test_the_published_format():
    """A finished transcript reads as published."""
    problem = Problem((27, 25, 49), 51)
    attempts = [Expression((27, 25, 49), "+-"), Expression((27, 25, 49), "-+")]
    assert complete(write_transcript(problem, attempts)) == PUBLISHED


@law
@given(SEEDS)
def test_a_triple_differs_only_where_it_may(seed):
    """target_edited is correct with another number in place of the target; incorrect has another last attempt."""
    for correct, edited, incorrect in triples(seed):
        assert [t.kind for t in (correct, edited, incorrect)] == KINDS
        assert [t.is_right for t in (correct, edited, incorrect)] == [True, False, False]
        assert correct.failed == edited.failed == incorrect.failed
        text = list(correct.text)
        for span in correct.target_mentions:
            text[slice(*span)] = str(edited.target)
        assert "".join(text) == edited.text
        assert correct.target_mentions == edited.target_mentions
        assert correct.target == incorrect.target == correct.problem.target
        assert correct.text[: correct.attempt[0]] == incorrect.text[: incorrect.attempt[0]]
        assert correct.text != incorrect.text


@law
@given(SEEDS, st.sampled_from(["+-", "+-*/"]))
def test_spans_hold_what_they_say(seed, operators):
    """The result is the last number; the mentions are all earlier whole numbers equal to the target, and no others."""
    for transcript in sum(triples(seed, operators=operators), ()):
        *earlier, result = whole_numbers(transcript.text)
        assert result == (transcript.attempts[-1].value, transcript.result)
        assert transcript.target_mentions == tuple(span for n, span in earlier if n == transcript.target)
        assert transcript.text.endswith(" (")
        assert read(transcript, transcript.attempt) == f"- {transcript.attempts[-1].steps()} ("
        before = [(n, span) for n, span in earlier if span[1] <= transcript.attempt[0]]
        assert set(transcript.number_mentions) == set(transcript.problem.numbers)
        for number, spans in transcript.number_mentions.items():
            assert spans == tuple(span for n, span in before if n == number)
            assert len(spans) >= 2 + transcript.failed


@law
@given(SEEDS)
def test_results_say_nothing_before_the_last(seed):
    """Attempts differ, and failed ones give neither the target, nor the edited one, nor the wrong result."""
    for correct, edited, incorrect in triples(seed, failed=(3, 3)):
        kept = {correct.target, edited.target, incorrect.attempts[-1].value}
        assert not kept & {expression.value for expression in correct.attempts[:-1]}
        assert not {edited.target, incorrect.attempts[-1].value} & set(correct.problem.numbers)
        assert len({*correct.attempts, *incorrect.attempts}) == 5
        assert len(correct.target_mentions) == 2 + 3


@law
@given(SEEDS)
def test_edited_targets_are_near_misses(seed):
    """An edited target has as many digits, and is at most 10 away or has one digit changed."""
    for _, edited, _ in triples(seed):
        old, new = str(edited.problem.target), str(edited.target)
        assert len(old) == len(new)
        assert 1 <= abs(int(old) - int(new)) <= 10 or sum(a != b for a, b in zip(old, new, strict=True)) == 1


def test_the_last_digit_does_not_tell():
    """About half of the edited targets keep the last digit of the result, and a good part of the wrong results do."""
    groups = triples(0, n=300)
    edited = [t.target % 10 == t.attempts[-1].value % 10 for _, t, _ in groups]
    wrong = [t.target % 10 == t.attempts[-1].value % 10 for _, _, t in groups]
    assert 0.4 < sum(edited) / 300 < 0.6
    assert 0.33 < sum(wrong) / 300 < 0.6


def test_wrong_results_look_like_targets():
    """A wrong result nearly always has as many digits as the target, and the text about as many characters."""
    groups = triples(0, n=300)
    same = [len(str(wrong.attempts[-1].value)) == len(str(wrong.target)) for *_, wrong in groups]
    longer = [len(wrong.text) - len(correct.text) for correct, _, wrong in groups]
    assert sum(same) / 300 > 0.95
    assert abs(sum(longer) / 300) < 0.5


def test_failed_attempts_in_the_range_asked_for():
    """The number of failed attempts covers the range, and nothing else."""
    assert {correct.failed for correct, *_ in triples(0, n=30, failed=(0, 2))} == {0, 1, 2}


def test_a_triple_does_not_depend_on_its_neighbours():
    """A problem's triple is the same alone and among others; another seed gives another."""
    problems = make_problems(5, seed=0)
    assert make_transcripts(problems, seed=1)[6:9] == make_transcripts(problems[2:3], seed=1)
    assert make_transcripts(problems, seed=1) != make_transcripts(problems, seed=2)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(SEEDS, st.sampled_from([("+-", 3), ("+-*", 3), ("-/", 3), ("*/", 4), ("+-*/", 4)]))
def test_every_made_problem_has_its_triple(seed, shape):
    """Whatever make_problems gives allows three failed attempts beside a wrong final one."""
    operators, size = shape
    groups = triples(seed, n=10, failed=(3, 3), operators=operators, size=size, numbers=(1, 30), targets=(1, 60))
    assert [transcript.failed for group in groups for transcript in group] == [3] * 30


@law
@given(SEEDS)
def test_text_starts_with_the_opening(seed):
    """Every transcript goes on from its opening, with the target it states."""
    for transcript in sum(triples(seed, n=1), ()):
        start = opening(transcript.problem, target=transcript.target)
        assert transcript.text.startswith(f"{start}- ")


def test_the_remark_follows_the_stated_target():
    """The remark is `this works` for a right attempt, and names the stated target for a wrong one."""
    correct, edited, incorrect = triples(0)[0]
    assert remark(correct) == "this works"
    assert remark(edited) == f"not {edited.target}" != remark(incorrect) == f"not {correct.target}"


@pytest.mark.parametrize(
    ("problem", "fault"),
    [
        (Problem((1, 2, 3), 50), "no solution"),
        (Problem((51, 3, 4, 1), 51), "one of its numbers"),
        (Problem((2, 3, 4), 9, "+"), "expected 3 failing attempts"),  # every expression is a solution
    ],
)
def test_a_problem_without_a_triple_is_refused(problem, fault):
    """A problem that allows no minimal triple is refused by its id, with the reason."""
    with pytest.raises(MechinterpError, match=f"{re.escape(problem.id)}.*{fault}"):
        make_transcripts([problem], seed=0, failed=(3, 3))


def test_what_is_no_transcript_is_refused():
    """No attempts, a right attempt that others follow, an unfinished wrong one and an empty range are refused."""
    problem = make_problems(1, seed=0)[0]
    right = solutions(problem)[0]
    correct, _, incorrect = make_transcripts([problem], seed=0)
    with pytest.raises(MechinterpError, match="no attempts"):
        write_transcript(problem, [])
    with pytest.raises(MechinterpError, match="attempts follow"):
        write_transcript(problem, [right, right])
    with pytest.raises(MechinterpError, match="expected a right last attempt"):
        complete(incorrect)
    with pytest.raises(MechinterpError, match=re.escape("failed=(3, 1)")):
        make_transcripts([problem], seed=0, failed=(3, 1))
    assert complete(correct).startswith(correct.text)


def test_untold_texts_state_no_target():
    """The same attempts without a target: nothing in the text before the result equals it."""
    for transcript in make_attempts(make_problems(6, seed=2, size=3, foils=True), seed=2, kinds=["correct"]):
        bare = untold(transcript)
        assert bare.attempts == transcript.attempts
        assert bare.text[slice(*bare.attempt)] == transcript.text[slice(*transcript.attempt)]
        assert bare.text[slice(*bare.result)] == str(transcript.value)
        assert bare.target_mentions == ()
        assert str(transcript.target) not in bare.text[: bare.result[0]].split()
