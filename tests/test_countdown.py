import re
from itertools import accumulate, permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.task.countdown import Expression, Problem, expressions, make_problems, solutions
from mechinterp.errors import MechinterpError

law = settings(deadline=None, derandomize=True, max_examples=60)
NUMBERS = st.integers(1, 99)
FLAT = st.lists(NUMBERS, min_size=1, max_size=4).flatmap(
    lambda numbers: st.builds(
        Expression,
        st.just(tuple(numbers)),
        st.text("+-*/", min_size=len(numbers) - 1, max_size=len(numbers) - 1),
    )
)

STEPS = [  # numbers, operators, published form (None: not valid)
    ((27, 25, 49), "-+", "27 - 25 + 49 = 2 + 49 = 51"),
    ((8, 6, 3, 2), "-/*", "8 - 6 / 3 * 2 = 8 - 2 * 2 = 8 - 4 = 4"),
    ((3, 5, 2), "+*", "3 + 5 * 2 = 3 + 10 = 13"),
    ((7, 7, 2, 2), "-+-", "7 - 7 + 2 - 2 = 0 + 2 - 2 = 2 - 2 = 0"),
    ((25, 27, 49), "-+", None),  # negative on the way
    ((7, 2, 2), "/*", None),  # 7 / 2 leaves a remainder
    ((5, 2, 3), "-*", None),  # 5 - 6
]

REFUSED = [  # what is asked for, what the message must quote
    (dict(size=5), "5 numbers"),
    (dict(size=2), "2 numbers"),
    (dict(operators="+^"), "'+^'"),
    (dict(operators=""), "''"),
    (dict(operators="++"), "'++'"),
    (dict(numbers=(9, 1)), "numbers=(9, 1)"),
    (dict(numbers=(0, 9)), "numbers=(0, 9)"),
    (dict(numbers=(1, 3)), "numbers=(1, 3)"),
    (dict(targets=(0, 0)), "targets=(0, 0)"),
    (dict(targets=(900, 999)), "only 0 problems"),  # four numbers up to 99 do not reach 900 by adding
    (dict(operators="+"), "only 0 problems"),  # every order gives the same sum, so no attempt fails
    (dict(n=500, size=3, numbers=(1, 5), targets=(1, 9)), "n=500"),
]


def python_value(text):
    return eval(text)  # noqa: S307  (an independent judge, of text that our own code wrote)


@pytest.mark.parametrize(("numbers", "operators", "steps"), STEPS)
def test_steps_as_published(numbers, operators, steps):
    """An expression is reduced one operator at a time, `*` and `/` first, or is not valid."""
    expression = Expression(numbers, operators)
    if steps is None:
        assert expression.value is None
        with pytest.raises(MechinterpError, match="expected a valid one"):
            expression.steps()
    else:
        assert expression.steps() == steps
        assert expression.value == int(steps.rpartition("= ")[2])


@law
@given(FLAT)
def test_every_equals_sign_is_true(expression):
    """All sides of a valid expression's reduction have the same value; an invalid one goes through no whole number."""
    if expression.value is None:
        whole_and_positive = python_value(str(expression)) >= 0 and "/" not in str(expression)
        assert not whole_and_positive or any(part < 0 for part in _partial_results(expression))
        return
    sides = expression.steps().split(" = ")
    assert {python_value(side) for side in sides} == {expression.value}
    assert len(sides) == len(expression.numbers)
    assert not re.search(r"-\d|\.", expression.steps())


@law
@given(FLAT.filter(lambda e: e.value is not None and len(e.numbers) > 2))
def test_intermediates_are_the_new_numbers(expression):
    """The numbers of a reduction's middle lines are input numbers or intermediate results, and no result is missing."""
    middle = {number for line in expression.reductions()[1:-1] for number in line.numbers}
    assert expression.intermediates() <= middle <= expression.intermediates() | set(expression.numbers)


@law
@given(st.lists(NUMBERS, min_size=3, max_size=4), NUMBERS)
def test_expressions_are_all_that_stay_positive(numbers, target):
    """With + and -, the valid expressions are the orders and signs whose running total never drops below 0."""
    problem = Problem(tuple(numbers), target)
    expected = {
        " ".join(str(order[0]) if i == 0 else f"{sign} {order[i]}" for i, sign in enumerate(("", *signs)))
        for order in permutations(numbers)
        for signs in product("+-", repeat=len(numbers) - 1)
        if min(accumulate(n if s == "+" else -n for n, s in zip(order, ("+", *signs), strict=True))) >= 0
    }
    found = [str(expression) for expression in expressions(problem)]
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert [str(e) for e in solutions(problem)] == [text for text in found if python_value(text) == target]


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    size=st.sampled_from((3, 4)),
    operators=st.sampled_from(("+-", "-+", "+-*", "+-*/", "*/")),
)
def test_no_problem_is_unsolvable(seed, size, operators):
    """Every problem has a solution, in the ranges asked for, and its target is none of its numbers."""
    for problem in make_problems(5, seed=seed, size=size, operators=operators, numbers=(2, 30), targets=(5, 80)):
        assert len(problem.numbers) == len(set(problem.numbers)) == size
        assert all(2 <= number <= 30 for number in problem.numbers)
        assert 5 <= problem.target <= 80
        assert problem.target not in problem.numbers
        solution = solutions(problem)[0]
        assert sorted(solution.numbers) == sorted(problem.numbers)
        assert set(solution.operators) <= set(operators)
        assert python_value(str(solution)) == problem.target


def test_problems_are_distinct():
    """No problem is another one with its numbers in another order."""
    problems = make_problems(100, seed=0, size=3, numbers=(1, 9), targets=(2, 20))
    assert len({(tuple(sorted(problem.numbers)), problem.target) for problem in problems}) == 100


def test_problems_depend_on_the_seed_alone():
    """A shorter list is the beginning of a longer one; another seed gives others."""
    assert make_problems(10, seed=3) == make_problems(30, seed=3)[:10]
    assert not set(make_problems(30, seed=3)) & set(make_problems(30, seed=4))


def test_id_is_the_content():
    """A problem's id is its numbers and its target."""
    assert Problem((27, 25, 49), 51).id == "27,25,49->51"


@pytest.mark.parametrize(("asked", "quoted"), REFUSED)
def test_what_cannot_be_made_is_refused(asked, quoted):
    """Bad input is refused in one line that quotes it and says what to do."""
    with pytest.raises(MechinterpError, match=re.escape(quoted)) as refused:
        make_problems(**({"n": 4, "seed": 0} | asked))
    assert "\n" not in str(refused.value)
    assert "; " in str(refused.value)


@pytest.mark.parametrize("numbers", [(1, 2), (1, 2, 3, 4, 5), (0, 2, 3), (-1, 2, 3)])
def test_a_problem_is_checked_too(numbers):
    """A problem of another size, or with numbers that are not positive, is refused."""
    with pytest.raises(MechinterpError, match="expected"):
        Problem(numbers, 5)


def test_solvable_by_reasoning_gym():
    """Our solutions score 1.0 with reasoning_gym, our failing expressions do not."""
    scorer = _reasoning_gym().score_answer
    for problem in make_problems(6, seed=0) + make_problems(6, seed=0, size=3, operators="+-*/"):
        entry = {"metadata": {"numbers": list(problem.numbers), "target": problem.target}}
        right = solutions(problem)
        wrong = [expression for expression in expressions(problem) if expression not in right]
        assert scorer(str(right[0]), entry) == 1.0
        assert scorer(str(wrong[0]), entry) < 1.0


def test_puzzles_of_reasoning_gym_are_solvable():
    """Every puzzle that reasoning_gym makes with + and - has a solution among our expressions."""
    for entry in _reasoning_gym(operators=("+", "-"), min_target=10, max_target=99, size=40):
        metadata = entry["metadata"]
        assert solutions(Problem(tuple(metadata["numbers"]), metadata["target"]))


def _partial_results(expression):
    numbers, operators = list(expression.numbers), list(expression.operators)
    while operators:
        i = next((i for i, op in enumerate(operators) if op in "*/"), 0)
        numbers[i : i + 2] = [python_value(f"({numbers[i]}) {operators[i]} ({numbers[i + 1]})")]
        del operators[i]
        yield numbers[i]


def _reasoning_gym(**options):
    from reasoning_gym.games.countdown import CountdownConfig, CountdownDataset

    defaults = dict(min_numbers=3, max_numbers=4, min_value=1, max_value=99, seed=0, size=1)
    return CountdownDataset(CountdownConfig(**(defaults | options)))
