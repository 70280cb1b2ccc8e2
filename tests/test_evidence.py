"""The laws of the verdict: what it may never do, whatever was measured."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp.errors import MechinterpError
from mechinterp.evidence import VERDICTS, Control, Evidence, Threshold, verdict_of, verdict_of_seeds
from mechinterp.nulls import FEW, Draws, with_null

laws = settings(deadline=None, derandomize=True, max_examples=300)
units = st.floats(-2, 2)
intervals = st.tuples(units, units).map(lambda ends: tuple(sorted(ends)))
kinds = st.sampled_from(["rival", "validity"])
controls = st.builds(Control, name=st.just("rival"), margin=units, interval=intervals, kind=kinds)
evidence = st.builds(
    Evidence,
    effect=units,
    interval=intervals,
    n=st.integers(0, 64),
    p_value=st.floats(0, 1),
    null=st.lists(units, max_size=3).map(tuple),
    controls=st.lists(controls, max_size=2).map(tuple),
    noise=st.floats(0, 0.5),
)
# Most draws hold or nearly hold, so that the laws are tried where they could break.
strong = st.builds(
    Evidence,
    effect=st.just(1.0),
    interval=st.tuples(st.floats(0.5, 1), st.floats(1, 2)),
    n=st.integers(16, 64),
    p_value=st.floats(0, 0.05),
    null=st.just((0.0, 0.1)),
    controls=st.lists(st.builds(Control, st.just("rival"), st.just(0.3), st.just((0.1, 0.5))), max_size=2).map(tuple),
    noise=st.floats(0, 0.1),
)
either = evidence | strong
thresholds = st.builds(Threshold, at_least=st.floats(-1, 1), alpha=st.just(0.05), min_n=st.integers(1, 32))


def verdict(measured, threshold):
    return verdict_of(measured, threshold)[0]


def test_holds_when_all_is_shown():
    """A large effect, on enough problems, above every control, holds without a reason against it."""
    measured = Evidence(0.9, (0.8, 1.0), 64, 0.005, null=(0.1,), controls=(Control("rival", 0.5, (0.4, 0.6)),))
    assert verdict_of(measured, Threshold(0.7)) == ("holds", [])


def test_problems_make_the_effect():
    """The parts of the problems have the effect as their mean; others are an error, for they would be compared."""
    measured = Evidence(0.9, (0.8, 1.0), 64, 0.005, null=(0.1,), by_problem={"1": 0.8, "2": 1.0})
    assert verdict(measured, Threshold(0.7)) == "holds"
    for wrong in ({"1": 0.8}, {"1": 0.8, "2": math.nan}):
        assert verdict(dataclasses.replace(measured, by_problem=wrong), Threshold(0.7)) == "error"


@laws
@given(either, thresholds)
def test_reasons(measured, threshold):
    """Every verdict is one of the six, and has reasons exactly if it is not holds."""
    word, reasons = verdict_of(measured, threshold)
    assert word in VERDICTS
    assert bool(reasons) == (word != "holds")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["effect", "low", "high", "p_value", "noise", "null", "margin", "c_low", "c_high"])
@settings(laws, max_examples=30)
@given(measured=strong, threshold=thresholds)
def test_not_a_number(place, bad, measured, threshold):
    """A number that is not finite, anywhere in the evidence, is an error and never holds."""
    (low, high), rival = measured.interval, Control("rival", 0.3, (0.1, 0.5))
    broken = {
        "low": {"interval": (bad, high)},
        "high": {"interval": (low, bad)},
        "null": {"null": (0.0, bad)},
        "margin": {"controls": (*measured.controls, dataclasses.replace(rival, margin=bad))},
        "c_low": {"controls": (*measured.controls, dataclasses.replace(rival, interval=(bad, 0.5)))},
        "c_high": {"controls": (*measured.controls, dataclasses.replace(rival, interval=(0.1, bad)))},
    }.get(place, {place: bad})
    assert verdict(dataclasses.replace(measured, **broken), threshold) == "error"


@laws
@given(strong, thresholds, st.integers(0, 64))
def test_too_few(measured, threshold, n):
    """On fewer problems than demanded nothing holds, and nothing is refuted either."""
    few = dataclasses.replace(measured, n=min(n, threshold.min_n - 1))
    assert verdict(few, threshold) == "inconclusive"


@laws
@given(strong, thresholds, st.floats(0.01, 3))
def test_effect_outside_its_interval(measured, threshold, beyond):
    """An effect that its own interval does not hold is an error: the two were not measured on the same thing."""
    low, high = measured.interval
    for effect in (low - beyond, high + beyond):
        assert verdict(dataclasses.replace(measured, effect=effect), threshold) == "error"


@laws
@given(either, thresholds, st.floats(0, 1))
def test_larger_p(measured, threshold, rise):
    """A larger p-value never turns another verdict into holds."""
    weaker = dataclasses.replace(measured, p_value=min(1.0, measured.p_value + rise))
    assert verdict(weaker, threshold) != "holds" or verdict(measured, threshold) == "holds"


@laws
@given(either, thresholds, st.floats(0, 3))
def test_lower_interval(measured, threshold, fall):
    """A lower interval never turns another verdict into holds."""
    low, high = measured.interval
    weaker = dataclasses.replace(measured, effect=measured.effect - fall, interval=(low - fall, high - fall))
    assert verdict(weaker, threshold) != "holds" or verdict(measured, threshold) == "holds"


@laws
@given(either, thresholds, st.floats(0, 1))
def test_more_noise(measured, threshold, rise):
    """More noise never turns another verdict into holds, nor into refuted."""
    noisier = dataclasses.replace(measured, noise=measured.noise + rise)
    for word in ("holds", "refuted"):
        assert verdict(noisier, threshold) != word or verdict(measured, threshold) == word


@laws
@given(either, thresholds, controls)
def test_one_more_control(measured, threshold, control):
    """A further control never turns another verdict into holds, and one that is not exceeded forbids it."""
    stricter = dataclasses.replace(measured, controls=(*measured.controls, control))
    assert verdict(stricter, threshold) != "holds" or (
        verdict(measured, threshold) == "holds" and control.interval[0] > 0
    )


@laws
@given(either, thresholds)
def test_refuted(measured, threshold):
    """Refuted only if the interval stays below the threshold, noise included, or a rival explains the effect."""
    below = measured.interval[1] + measured.noise < threshold.at_least
    explained = any(control.interval[1] < 0 for control in measured.controls if control.kind == "rival")
    assert verdict(measured, threshold) != "refuted" or below or explained


@laws
@given(either, thresholds, intervals)
def test_failed_validity(measured, threshold, interval):
    """A validity check that is not passed leaves the question open: neither holds nor refuted."""
    low, high = interval
    check = Control("other text survives", low, (low, min(high, 0.0) if low < 0 else high), "validity")
    word = verdict(dataclasses.replace(measured, controls=(*measured.controls, check)), threshold)
    without = verdict(measured, threshold)
    assert word == ("inconclusive" if low <= 1e-9 and without != "error" else without)


@laws
@given(strong, thresholds, st.integers(2, 30))
def test_larger_family(measured, threshold, cases):
    """More cases of the same claim ask for a smaller p-value, and never turn another verdict into holds."""
    together = verdict_of(measured, threshold, family=cases)[0]
    assert together != "holds" or (
        verdict(measured, threshold) == "holds" and measured.p_value <= threshold.alpha / cases + 1e-8
    )


def test_ties_do_not_refute():
    """An effect and a bar that differ in the last bit are equal: rounding decides no verdict."""
    bar = 0.1 + 0.2
    assert verdict(Evidence(0.3, (0.3, 0.3), 64, 0.01), Threshold(bar)) == "holds"
    rival = Control("equal", 0.0, (-1e-17, 1e-17))
    assert verdict(Evidence(0.9, (0.8, 1.0), 64, 0.01, controls=(rival,)), Threshold(0.5)) == "inconclusive"


def test_too_few_distinct_controls_are_named():
    """Where fewer matched sets exist than a small p needs, that is the reason, not the p-value."""
    measured = Evidence(0.9, (0.8, 1.0), 64, 1 / 7, null=(0.0,) * 6, distinct=6)
    (reason,) = verdict_of(measured, Threshold(0.5))[1]
    assert "not testable here: only 6" in reason


def test_no_null_is_an_error_unless_none_is_asked_for():
    """Audited claims need a p-value; a protocol without a null says so with alpha=None."""
    measured = Evidence(0.9, (0.8, 1.0), 64)
    assert verdict(measured, Threshold(0.5)) == "error"
    assert verdict(measured, Threshold(0.5, alpha=None)) == "holds"


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        (["holds"] * 5, "holds"),
        (["holds"] * 4 + ["inconclusive"], "holds"),
        (["holds"] * 4 + ["refuted"], "holds"),
        (["holds"] * 3 + ["refuted"] * 2, "inconclusive"),
        (["holds"] * 4 + ["error"], "error"),
        (["holds"] * 4 + ["not_run"], "not_run"),
        (["holds", "refuted"], "inconclusive"),
        (["refuted"], "refuted"),
        ([], "error"),
    ],
)
def test_verdict_of_seeds(words, verdict):
    """Four of five seeds must agree; an error on one is never outvoted."""
    assert verdict_of_seeds(words)[0] == verdict


@laws
@given(
    strong,
    thresholds,
    st.lists(st.floats(-1, 2), min_size=1, max_size=120),
    st.integers(1, 5),
    st.integers(1, 40),
)
def test_stopped_null_gives_the_verdict_of_the_full_one(measured, threshold, effects, family, at_once):
    """Drawing until no further draw matters changes no verdict, and never shows a p-value below the full one's bar."""
    stopped = with_null(measured, Draws.of(effects), threshold, family=family, at_once=at_once)
    reaching = sum(value >= measured.effect - 1e-9 for value in effects)
    full = dataclasses.replace(measured, null=tuple(effects), p_value=(1 + reaching) / (1 + len(effects)))
    assert verdict_of(stopped, threshold, family=family)[0] == verdict_of(full, threshold, family=family)[0]
    assert min(FEW, len(effects)) <= len(stopped.null) <= len(effects)


def test_hopeless_null_stops_early():
    """Where the null reaches the effect again and again, a tenth of the draws is made."""
    asked = []

    def make(numbers):
        asked.extend(numbers)
        return [1.0] * len(numbers)

    found = with_null(Evidence(0.9, (0.8, 1.0), 64), Draws(make), Threshold(0.5))
    assert asked == list(range(50))
    assert found.p_value == 1.0


@pytest.mark.parametrize(
    "broken", [{"interval": (1.0, 0.5)}, {"p_value": 1.5}, {"p_value": -0.1}, {"noise": -0.1}], ids=str
)
def test_inconsistent(broken):
    """A reversed interval, a p-value out of range and a negative noise are errors."""
    measured = Evidence(0.9, (0.8, 1.0), 64, 0.005)
    assert verdict(dataclasses.replace(measured, **broken), Threshold(0.5)) == "error"


@pytest.mark.parametrize(
    "broken",
    [
        {"effect": None},
        {"effect": "0.9"},
        {"interval": (0.8,)},
        {"interval": None},
        {"n": "64"},
        {"null": ("a",)},
        {"controls": (Control("of a kind misspelled", -0.5, (-0.6, -0.4), kind="rivals"),)},
        {"controls": (Control("without a margin", None, (0.4, 0.6)),)},
    ],
    ids=str,
)
def test_no_evidence(broken):
    """What is no number, and a control that would otherwise not be looked at, are errors and no traceback."""
    measured = Evidence(0.9, (0.8, 1.0), 64, 0.005)
    assert verdict(dataclasses.replace(measured, **broken), Threshold(0.5)) == "error"


@pytest.mark.parametrize("effects", [None, 3, ["a"], [None], [[0.1], [0.2]]])
def test_no_draws(effects):
    """Effects that are no numbers are refused in one line."""
    measured = Evidence(0.9, (0.8, 1.0), 64)
    with pytest.raises(MechinterpError, match="an effect for each draw"):
        with_null(measured, Draws(lambda numbers: effects), Threshold(0.5))
    with pytest.raises(MechinterpError, match="an effect for each draw"):
        Draws.of(effects)
