"""Intervals, p-values and corrections; everything clustered by problem, everything seeded.

mean_interval       95 % interval of a mean over problems
statistic_interval  95 % interval of any statistic of a set of problems
share_interval      95 % interval of a mean of numbers between 0 and 1, honest where all are 1
exceedance_p        p-value of an effect among the effects of matched controls
paired_p            p-value of a paired difference over problems, by sign flips
equivalence_p       p-value that a mean, or a paired difference, lies within a margin of 0: two one-sided tests
auc                 area under the ROC curve
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from mechinterp.errors import MechinterpError, quote
from mechinterp.evidence import Interval
from mechinterp.given import number_row, real_number, real_numbers, seeded, whole_number

RESAMPLES = 2000
ROUNDING = 1e-5
"""By how much a share may pass 0 or 1, as sums of fp32 attention or probabilities do."""


def mean_interval(values: Sequence[float] | np.ndarray, *, seed: int) -> Interval:
    """Interval of the mean of one number a problem, by the bias-corrected bootstrap; a point for constant data."""
    data, rng = number_row(values, "mean_interval"), seeded(seed, "mean_interval")
    if np.ptp(data) <= 1e-12 * np.abs(data).max():  # constant up to rounding, where the bootstrap gives NaN
        return float(data.min()), float(data.max())
    result = stats.bootstrap((data,), np.mean, n_resamples=RESAMPLES, rng=rng, method="BCa")
    return _around(float(data.mean()), result)


def statistic_interval(
    statistic: Callable[[np.ndarray], Any], n: int, *, seed: int, resamples: int = RESAMPLES, at_once: bool = False
) -> Interval:
    """Percentile bootstrap interval of `statistic(indices of problems)` for n problems.

    Args:
        at_once: the statistic takes the indices of many resamples (r, n) and gives (r,).
    """
    what = "statistic_interval"
    n, resamples = whole_number(n, f"{what}: n", least=2), whole_number(resamples, f"{what}: resamples", least=1)
    if not callable(statistic):
        raise MechinterpError(f"{what}: expected a function of the indices of problems, got {quote(statistic)}")

    def many(rows: np.ndarray) -> np.ndarray:
        given = statistic(rows) if at_once else [statistic(chosen) for chosen in rows]
        found = real_numbers(given, what, finite=False).detach().cpu().double().numpy()
        if found.shape != rows.shape[:1] or not np.isfinite(found).all():
            raise MechinterpError(
                f"{what}: the statistic gave {found.shape} for {len(rows)} resamples, {int(np.isfinite(found).sum())} "
                "of it finite; expected one finite number each"
            )
        return found

    result = stats.bootstrap(
        (np.arange(n),),
        lambda rows, axis: many(np.atleast_2d(rows)),
        n_resamples=resamples,
        vectorized=True,
        method="percentile",
        rng=seeded(seed, what),
    )
    return _around(float(many(np.arange(n)[None])[0]), result)


def share_interval(values: Sequence[float] | np.ndarray, *, seed: int) -> Interval:
    """Interval of the mean of one number between 0 and 1 a problem.

    The wider of the bootstrap and Wilson's score interval for as many trials as there are problems: a bootstrap of
    nothing but ones has no width, which n = 20 does not earn.
    """
    data = number_row(values, "share_interval")
    if data.min() < -ROUNDING or data.max() > 1 + ROUNDING:
        raise MechinterpError(
            f"share_interval: expected numbers between 0 and 1, got {data.min():.6g} to {data.max():.6g}"
        )
    data = data.clip(0, 1)
    low, high = mean_interval(data, seed=seed)
    successes = data.sum()
    floor = stats.binomtest(math.floor(successes + 1e-9), len(data)).proportion_ci(method="wilson").low
    ceiling = stats.binomtest(math.ceil(successes - 1e-9), len(data)).proportion_ci(method="wilson").high
    return min(low, float(floor)), max(high, float(ceiling))


def exceedance_p(effect: float, null: Sequence[float] | np.ndarray, *, tried: int = 1) -> float:
    """(1 + draws at or above the effect) / (1 + draws), times the number of tests tried (Bonferroni), at most 1."""
    effect, draws = real_number(effect, "exceedance_p: effect"), number_row(null, "exceedance_p: null")
    tried = whole_number(tried, "exceedance_p: tried", least=1)
    return min(1.0, tried * (1 + int((draws >= effect).sum())) / (1 + len(draws)))


def paired_p(differences: Sequence[float] | np.ndarray, *, seed: int, tried: int = 1) -> float:
    """One-sided p-value that the mean difference is above 0, by flipping the sign of each problem's difference."""
    data, tried = number_row(differences, "paired_p"), whole_number(tried, "paired_p: tried", least=1)
    result = stats.permutation_test(
        (data,),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        n_resamples=9999,
        rng=seeded(seed, "paired_p"),
    )
    return min(1.0, tried * float(result.pvalue))


def equivalence_p(values: Sequence[float] | np.ndarray, *, margin: float, tried: int = 1) -> float:
    """p-value that the mean of one number a problem lies within `margin` of 0, on either side.

    Two one-sided t tests, of which the larger p counts (Schuirmann 1987): "no significant difference" is not "the
    same". Of paired measurements give the differences; of a mean near m, what it differs from m by. Numbers that are
    all alike lie within it or not, without doubt.

    Raises:
        MechinterpError: a margin that is not above 0.
    """
    data, tried = number_row(values, "equivalence_p"), whole_number(tried, "equivalence_p: tried", least=1)
    margin = real_number(margin, "equivalence_p: margin")
    if margin <= 0:
        raise MechinterpError(f"equivalence_p: margin: expected more than 0, got {margin:g}")
    if np.ptp(data) <= 1e-12 * np.abs(data).max():
        return 0.0 if abs(data.mean()) < margin else 1.0
    sides = [
        stats.ttest_1samp(data, bound, alternative=beyond).pvalue
        for bound, beyond in ((-margin, "greater"), (margin, "less"))
    ]
    return min(1.0, tried * float(max(sides)))


def auc(labels: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Area under the ROC curve: the probability that a right attempt scores above a wrong one, ties counting half.

    From the ranks (Mann and Whitney 1947): it is computed thousands of times in a bootstrap.

    Args:
        labels: truth values, or any two numbers of which the larger says right, such as 0 and 1 or -1 and 1.
    """
    given, values = number_row(labels, "auc: labels"), number_row(scores, "auc: scores")
    right = given == given.max()
    if given.shape != values.shape or right.all() or not (right | (given == given.min())).all():
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
