"""Intervals, p-values and corrections; everything clustered by problem, everything seeded.

mean_interval       95 % interval of a mean over problems
statistic_interval  95 % interval of any statistic of a set of problems
share_interval      95 % interval of a mean of numbers between 0 and 1, honest where all are 1
exceedance_p        p-value of an effect among the effects of matched controls
paired_p            p-value of a paired difference over problems, by sign flips
auc                 area under the ROC curve
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from mechinterp.errors import MechinterpError
from mechinterp.evidence import Interval

RESAMPLES = 2000


def mean_interval(values: Sequence[float] | np.ndarray, *, seed: int) -> Interval:
    """Interval of the mean of one number a problem, by the bias-corrected bootstrap; a point for constant data."""
    data = _finite(values)
    if np.ptp(data) <= 1e-12 * np.abs(data).max():  # constant up to rounding, where the bootstrap gives NaN
        return float(data.min()), float(data.max())
    result = stats.bootstrap((data,), np.mean, n_resamples=RESAMPLES, rng=np.random.default_rng(seed), method="BCa")
    return _around(float(data.mean()), result)


def statistic_interval(
    statistic: Callable[[np.ndarray], Any], n: int, *, seed: int, resamples: int = RESAMPLES, at_once: bool = False
) -> Interval:
    """Percentile bootstrap interval of `statistic(indices of problems)` for n problems.

    Args:
        at_once: the statistic takes the indices of many resamples (r, n) and gives (r,).
    """
    if n < 2:
        raise MechinterpError(f"an interval needs at least 2 problems, got {n}")
    many = statistic if at_once else lambda rows: np.array([statistic(chosen) for chosen in rows])
    result = stats.bootstrap(
        (np.arange(n),),
        lambda rows, axis: many(np.atleast_2d(rows)),
        n_resamples=resamples,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return _around(float(many(np.arange(n)[None])[0]), result)


def share_interval(values: Sequence[float] | np.ndarray, *, seed: int) -> Interval:
    """Interval of the mean of one number between 0 and 1 a problem.

    The wider of the bootstrap and Wilson's score interval for as many trials as there are problems: a bootstrap of
    nothing but ones has no width, which n = 20 does not earn.
    """
    data = _finite(values)
    if data.min() < 0 or data.max() > 1:
        raise MechinterpError("share_interval: expected numbers between 0 and 1")
    low, high = mean_interval(data, seed=seed)
    successes = data.sum()
    floor = stats.binomtest(math.floor(successes + 1e-9), len(data)).proportion_ci(method="wilson").low
    ceiling = stats.binomtest(math.ceil(successes - 1e-9), len(data)).proportion_ci(method="wilson").high
    return min(low, float(floor)), max(high, float(ceiling))


def exceedance_p(effect: float, null: Sequence[float] | np.ndarray, *, tried: int = 1) -> float:
    """(1 + draws at or above the effect) / (1 + draws), times the number of tests tried (Bonferroni), at most 1."""
    if not math.isfinite(effect):
        raise MechinterpError(f"exceedance_p: the effect is {effect}, not a finite number")
    draws = _finite(null)
    return min(1.0, tried * (1 + int((draws >= effect).sum())) / (1 + len(draws)))


def paired_p(differences: Sequence[float] | np.ndarray, *, seed: int, tried: int = 1) -> float:
    """One-sided p-value that the mean difference is above 0, by flipping the sign of each problem's difference."""
    data = _finite(differences)
    result = stats.permutation_test(
        (data,),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        n_resamples=9999,
        rng=np.random.default_rng(seed),
    )
    return min(1.0, tried * float(result.pvalue))


def auc(labels: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Area under the ROC curve: the probability that a right attempt scores above a wrong one, ties counting half.

    From the ranks (Mann and Whitney 1947): it is computed thousands of times in a bootstrap.
    """
    given, values = np.asarray(labels), _finite(scores)
    low, high = given.min(initial=np.inf), given.max(initial=-np.inf)
    right = given == high
    if given.shape != values.shape or low >= high or not (right | (given == low)).all():
        raise MechinterpError(
            f"auc: expected labels of both classes, one a score, got {given.shape} for {values.shape} "
            f"with {len(np.unique(given))} classes"
        )
    positive = int(right.sum())
    negative = len(right) - positive
    ranks = stats.rankdata(values)
    return float((ranks[right].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _around(effect: float, result: Any) -> Interval:
    """The interval, stretched to hold the effect itself (a bootstrap of ranks may miss it)."""
    low, high = result.confidence_interval
    return min(float(low), effect), max(float(high), effect)


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < 2 or not np.isfinite(data).all():
        raise MechinterpError(f"expected at least 2 finite numbers in a row, got shape {data.shape}")
    return data
