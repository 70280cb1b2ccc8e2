"""Right attempts beside wrong ones, in log-odds.

gap               mean V(right) - V(wrong)
share             an effect as a share of a gap, with its interval
parts             an effect's part of each problem, for comparisons between runs
class_levels      both classes' means, which stand beside every effect
hardest_auc       the AUC of the kind that is told apart worst
shift_rival       both classes fall alike, and nothing that tells them apart is lost
beyond_rival      the outputs of any other attempt of the same class would do as much

One number a problem; everything is bootstrapped by problem.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import mechinterp as mi


def gap(right: np.ndarray, wrong: np.ndarray) -> float:
    return float((right - wrong).mean())


def share(part: np.ndarray, whole: np.ndarray, *, seed: int) -> tuple[float, mi.Interval]:
    """Mean of `part` over mean of `whole`, both (problems,) of the same problems, and its 95 % interval."""

    def ratio(rows: np.ndarray) -> np.ndarray:
        below = whole[rows].mean(-1)
        return part[rows].mean(-1) / np.where(np.abs(below) < 1e-9, 1e-9, below)

    everyone = np.arange(len(part))
    return float(ratio(everyone)), mi.statistic_interval(ratio, len(part), seed=seed, at_once=True)


def parts(problems: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """`values` (problems,) by the numbers of their problems, which mean the same in every run on the same data."""
    return {str(problem): float(value) for problem, value in zip(problems, values, strict=True)}


def class_levels(right: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    return {"right": float(right.mean()), "wrong": float(wrong.mean())}


def pair_auc(right: np.ndarray, wrong: np.ndarray) -> float:
    labels = np.repeat([True, False], [len(right), len(wrong)])
    return mi.auc(labels, np.concatenate([right, wrong]))


def hardest_auc(kinds: Mapping[str, tuple[np.ndarray, np.ndarray]], problems: np.ndarray) -> float:
    """The smallest AUC over kinds of (right, wrong), each (problems,), on the chosen problems."""
    return min(pair_auc(right[problems], wrong[problems]) for right, wrong in kinds.values())


def shift_rival(
    lost_right: np.ndarray, lost_wrong: np.ndarray, gap: np.ndarray, *, at_least: float, seed: int
) -> mi.Control:
    """A constant `not`: both classes fall alike. So much of the gap must close as well."""
    margin, (low, high) = share(lost_right - lost_wrong, gap, seed=seed)
    name = f"a shift of both classes alike: {at_least:g} of the gap must close"
    return mi.Control(name, margin - at_least, (low - at_least, high - at_least))


def beyond_rival(moved: np.ndarray, moved_by_same: np.ndarray, gap: np.ndarray, *, seed: int) -> mi.Control:
    """An exchange for the outputs of another attempt of the same class must move less."""
    margin, interval = share(moved - moved_by_same, gap, seed=seed)
    return mi.Control("outputs of another problem's attempt of the same class", margin, interval)
