"""Intervals cover, p-values are honest, and the same seed gives the same number."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechinterp import (
    MechinterpError,
    auc,
    equivalence_p,
    exceedance_p,
    mean_interval,
    paired_p,
    share_interval,
    statistic_interval,
)

numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=40)
shares = st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), min_size=2, max_size=40)


# Intervals.


def coverage(draw, truth: float, interval, times: int = 150) -> float:
    """How often the interval of a simulated sample holds the truth."""
    held = 0
    for seed in range(times):
        low, high = interval(draw(np.random.default_rng(1000 + seed)), seed)
        held += low <= truth <= high
    return held / times


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_mean_interval_covers(draw):
    """Of simulated samples, the 95 % interval of the mean holds the true mean in about 95 %."""
    truth = {"normal": 0.0, "exponential": 1.0}[draw]
    found = coverage(lambda rng: getattr(rng, draw)(size=30), truth, lambda data, seed: mean_interval(data, seed=seed))
    assert 0.87 <= found <= 0.99


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_share_interval_covers(share):
    """So does the interval of a share, near 1 too, where the bootstrap alone would not."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        return (rng.random(20) < share).astype(float)

    assert coverage(draw, share, lambda data, seed: share_interval(data, seed=seed)) >= 0.92
    if share == 0.98:
        assert coverage(draw, share, lambda data, seed: mean_interval(data, seed=seed)) < 0.6


def test_statistic_interval_covers():
    """So does the interval of any statistic of a set of problems."""
    found = coverage(
        lambda rng: rng.normal(size=(40, 2)),
        0.0,
        lambda data, seed: statistic_interval(
            lambda chosen: data[chosen, 0].mean() - data[chosen, 1].mean(), len(data), seed=seed, resamples=200
        ),
        times=100,
    )
    assert 0.86 <= found <= 0.99


def test_statistic_interval_resamples_problems():
    """The statistic is asked for n problems, drawn with repetition."""
    asked = []
    statistic_interval(lambda chosen: float(asked.append(chosen.copy()) or len(asked)), 7, seed=0, resamples=50)
    drawn = np.stack([chosen for chosen in asked if len(chosen) == 7])
    assert len(drawn) >= 50
    assert set(drawn.flat) == set(range(7))
    assert any(len(set(row)) < 7 for row in drawn)


@given(st.integers(2, 30), st.integers(0, 9))
def test_statistic_interval_at_once(n, seed):
    """Many resamples at a time, or one by one: the same interval."""
    data = np.random.default_rng(seed).normal(size=n)
    one, many = (
        statistic_interval(lambda chosen: np.median(data[chosen], axis=-1), n, seed=seed, resamples=60, at_once=at_once)
        for at_once in (False, True)
    )
    assert one == many
    assert one[0] < one[1]


@given(data=numbers, seed=st.integers(0, 9))
def test_interval_holds_the_mean(data, seed):
    """An interval is finite, in order and holds the mean of the sample; of constant data, rounding aside, it is it."""
    low, high = mean_interval(data, seed=seed)
    slack = 1e-9 * max(1.0, abs(np.mean(data)))
    assert low - slack <= np.mean(data) <= high + slack
    assert (low, high) == mean_interval(data, seed=seed)


@pytest.mark.parametrize("noise", [0.0, 1e-16])
def test_constant(noise):
    """Where all problems say the same, up to rounding, so does the interval."""
    for seed in range(10):
        data = 0.1 + noise * np.random.default_rng(seed).random(20)
        low, high = mean_interval(data, seed=seed)
        assert data.min() <= low <= high <= data.max()


@given(data=shares, seed=st.integers(0, 9))
def test_share_interval(data, seed):
    """The interval of a share lies in 0 to 1, holds the mean, and is never without width, however alike the data."""
    low, high = share_interval(data, seed=seed)
    assert 0 <= low < high <= 1
    assert low - 1e-9 <= np.mean(data) <= high + 1e-9
    inner = mean_interval(data, seed=seed)
    assert low <= inner[0]
    assert inner[1] <= high


@pytest.mark.parametrize(("value", "n"), [(1.0, 2), (1.0, 20), (0.0, 20), (1.0, 300)])
def test_share_of_constant_data(value, n):
    """A share of nothing but ones has Wilson's interval, n / (n + z^2) to 1; of nothing but zeros its mirror."""
    z = stats.norm.ppf(0.975)
    low, high = share_interval([value] * n, seed=0)
    away = z**2 / (n + z**2)
    assert (low, high) == pytest.approx((1 - away, 1) if value else (0, away), abs=1e-9)


def test_share_of_fractions():
    """One and a half of three lies between the lower end for one of three and the upper end for two."""
    low = stats.binomtest(1, 3).proportion_ci(method="wilson").low
    high = stats.binomtest(2, 3).proportion_ci(method="wilson").high
    assert share_interval([0.5, 0.5, 0.5], seed=0) == pytest.approx((low, high))


# p-values.


@given(effect=st.floats(-3, 3), null=numbers, tried=st.integers(1, 50))
def test_exceedance(effect, null, tried):
    """p is (1 + draws at or above the effect) / (1 + draws), times the tests tried, and never 0 or above 1."""
    p = exceedance_p(effect, null, tried=tried)
    as_large = sum(draw >= effect for draw in null)
    assert p == min(1, tried * (1 + as_large) / (1 + len(null)))
    assert 1 / (1 + len(null)) <= p <= 1
    assert exceedance_p(max(null), null) >= 2 / (1 + len(null))  # a draw as large as the effect counts


def test_paired_shift():
    """A true shift gives a small p, its opposite a large one; tests tried multiply it, up to 1."""
    differences = np.random.default_rng(0).normal(0.8, 1, size=40)
    p = paired_p(differences, seed=0)
    assert p < 0.001
    assert paired_p(-differences, seed=0) > 0.99
    assert paired_p(differences, seed=0, tried=5) == pytest.approx(5 * p)
    assert paired_p(-differences, seed=0, tried=5) == 1


def test_paired_exact():
    """With few problems every flip of signs is counted: n positive differences have p = 2^-n."""
    assert paired_p([0.5, 1.0, 2.0, 0.1], seed=0) == pytest.approx(1 / 16)
    assert paired_p([-0.5, -1.0, -2.0, -0.1], seed=0) == 1


@pytest.mark.parametrize("spread", [1, [1, 5]])
def test_paired_null(spread):
    """Without a shift p is uniform: 5 % of samples fall below 0.05, whatever the spread of the problems."""
    scale = np.resize(spread, 20)
    p = np.array([paired_p(np.random.default_rng(seed).normal(scale=scale), seed=seed) for seed in range(150)])
    assert np.mean(p <= 0.05) <= 0.1
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.12)
    assert stats.kstest(p, "uniform").pvalue > 0.001


# AUC.


@given(
    pairs=st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=40).filter(
        lambda pairs: len({label for label, _ in pairs}) == 2
    )
)
def test_auc(pairs):
    """The AUC is Mann and Whitney's U over n1 n2: ties count half, and order is all that counts."""
    labels, scores = np.array([label for label, _ in pairs]), np.array([float(score) for _, score in pairs])
    u = stats.mannwhitneyu(scores[labels], scores[~labels]).statistic
    assert auc(labels, scores) == pytest.approx(u / labels.sum() / (~labels).sum())
    assert auc(labels, np.exp(scores) * 7) == pytest.approx(auc(labels, scores))
    assert auc(~labels, scores) == pytest.approx(1 - auc(labels, scores))


# Seeds and refusals.


@pytest.mark.parametrize(
    "compute",
    [
        lambda seed: mean_interval(DATA, seed=seed),
        lambda seed: statistic_interval(lambda chosen: DATA[chosen].mean(), len(DATA), seed=seed, resamples=100),
        lambda seed: paired_p(DATA - 0.4, seed=seed),
    ],
)
def test_seeded(compute):
    """The same seed gives the same numbers, whatever numpy's own state; another seed gives others."""
    first = compute(3)
    np.random.seed(0)  # noqa: NPY002
    assert compute(3) == first
    assert compute(4) != first


DATA = np.random.default_rng(5).random(25)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "compute",
    [
        lambda data: mean_interval(data, seed=0),
        lambda data: share_interval(data, seed=0),
        lambda data: exceedance_p(0.0, data),
        lambda data: exceedance_p(data[-1], [0.0, 1.0]),
        lambda data: paired_p(data, seed=0),
        lambda data: auc([True, False, True], data),
    ],
)
def test_not_finite(compute, bad):
    """What is not a number has no interval and no p-value: least of all a small one."""
    with pytest.raises(MechinterpError, match="finite"):
        compute([0.1, 0.2, bad])


@pytest.mark.parametrize(
    ("compute", "names"),
    [
        (lambda: mean_interval([1.0], seed=0), "at least 2"),
        (lambda: mean_interval([[1.0, 2.0]], seed=0), r"\(1, 2\)"),
        (lambda: share_interval([0.5, 1.2], seed=0), "between 0 and 1"),
        (lambda: share_interval([-0.1, 0.5], seed=0), "between 0 and 1"),
        (lambda: statistic_interval(np.mean, 1, seed=0), "n: expected a whole number of 2 or more, got 1"),
        (lambda: exceedance_p(1.0, []), "at least 2"),
        (lambda: auc([True, True], [0.1, 0.2]), "both classes"),
        (lambda: auc([True, False, True], [0.1, 0.2]), r"\(3,\) for \(2,\)"),
    ],
)
def test_refused(compute, names):
    """Too little data, shares that are none and a single class are refused."""
    with pytest.raises(MechinterpError, match=names):
        compute()


# Nearly the same.


def test_equivalence_by_hand():
    """The larger of two one-sided t tests, computed from the definition."""
    data = np.array([0.02, -0.01, 0.05, 0.03, -0.02, 0.04, 0.01, 0.02])
    error = data.std(ddof=1) / np.sqrt(8)
    by_hand = [stats.t.sf((data.mean() + 0.06) / error, 7), stats.t.sf((0.06 - data.mean()) / error, 7)]
    assert equivalence_p(data, margin=0.06) == pytest.approx(max(by_hand), rel=1e-9)
    assert equivalence_p(data, margin=0.06, tried=3) == pytest.approx(3 * max(by_hand), rel=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=30), st.floats(0.05, 2))
def test_equivalence_is_the_90_percent_interval(data, margin):
    """p <= .05 says that the t interval at 90 % lies within the margin, and the sign does not matter."""
    data = np.array(data) + np.linspace(0, 0.1, len(data))
    low, high = stats.t.interval(0.9, len(data) - 1, data.mean(), stats.sem(data))
    found = equivalence_p(data, margin=margin)
    if abs(found - 0.05) > 1e-6:
        assert (found < 0.05) == (-margin < low and high < margin)
    assert equivalence_p(-data, margin=margin) == pytest.approx(found)


def test_equivalence_is_not_a_lack_of_significance():
    """Few noisy numbers differ from 0 by nothing that is significant, and are not shown to be near it either."""
    noisy = np.array([1.0, -1.2, 0.9, -0.8, 0.3])
    assert stats.ttest_1samp(noisy, 0).pvalue > 0.5
    assert equivalence_p(noisy, margin=0.15) > 0.3


def test_equivalence_at_the_margin():
    """Of samples whose true mean is the margin, one in twenty is called equivalent at most."""
    called = [
        equivalence_p(np.random.default_rng(seed).normal(0.5, 1, size=20), margin=0.5) <= 0.05 for seed in range(600)
    ]
    assert np.mean(called) <= 0.075


@pytest.mark.parametrize(("value", "p"), [(0.0, 0.0), (0.09, 0.0), (0.1, 1.0), (-0.2, 1.0)])
def test_equivalence_without_spread(value, p):
    """Numbers that are all alike are within the margin, or not."""
    assert equivalence_p([value] * 5, margin=0.1) == p


@pytest.mark.parametrize("margin", [0, -0.1, math.nan, math.inf, "x"])
def test_equivalence_needs_a_margin(margin):
    """Within nothing there is nothing."""
    with pytest.raises(MechinterpError, match="margin"):
        equivalence_p([0.1, 0.2], margin=margin)
