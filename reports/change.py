"""One finding beside the same one of a baseline: what changed, with its interval, in one word.

change_of  the comparison of two findings
Change     what it says
Side       a finding in short
WORDS      kept, degraded, lost, emerged, changed, not comparable, and what each means
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np

from mechinterp.evidence import Verdict
from reports.fields import Bounds, Number, Strict, Text
from reports.finding import Finding, Tier
from reports.text import number, short

Word = Literal["kept", "degraded", "lost", "emerged", "changed", "not comparable"]
WORDS: Mapping[Word, str] = {
    "kept": "the verdict is that of the baseline, and what held has not clearly become weaker",
    "degraded": "what held is weaker, by more than chance and noise, or is no longer decided",
    "lost": "what held is refuted, or no longer means anything",
    "emerged": "what did not hold holds",
    "changed": "another verdict, neither of them holds",
    "not comparable": "it vanished, is new, failed, was not run, or is measured in another way",
}
LEVEL = 0.95
RESAMPLES = 9999
MEASURED_BY = ("measure", "threshold")
LONGEST = 240


class Side(Strict):
    """A finding in short."""

    verdict: Verdict
    """Its verdict."""
    effect: Number = None
    """Its effect."""
    interval: Bounds = None
    """95 % interval of its effect."""
    n: int | None = None
    """Problems that it was judged on."""


class Change(Strict):
    """A finding beside the same one of the baseline."""

    label: Text
    """`claim.id[case]`, or `claim.id[case]@as_published`."""
    claim: Text
    """Id of the claim."""
    case: Text
    """Which case of it."""
    tier: Tier
    """By which protocol."""
    word: Word
    """kept, degraded, lost, emerged, changed or not comparable."""
    passes: bool
    """Whether nothing has to be accepted: it is kept, or was never run in either."""
    why: Text
    """What the word stands on, in a sentence."""
    baseline: Side | None = None
    """What the baseline has; null for a new one."""
    new: Side | None = None
    """What was found; null for one that vanished."""
    change: Number = None
    """New effect minus the baseline's."""
    interval: Bounds = None
    """95 % interval of the change."""
    paired: bool = False
    """Whether problems were compared one by one: both runs were on the same ones."""
    drift: Number = None
    """New effect minus the first accepted one, where that is not the baseline's."""
    drift_interval: Bounds = None
    """95 % interval of the drift."""


def change_of(old: Finding | None, new: Finding | None, *, same_problems: bool, holding: int = 1) -> Change:
    """Compare two findings of one label; one of them may be missing.

    Args:
        same_problems: whether both were judged on the same problems, drawn by the same seeds.
        holding: findings of the baseline that hold: any of them may seem weaker by chance, and they share that chance.
    """
    known = new or old
    if known is None:
        raise ValueError("expected one finding at least")
    paired = same_problems and _same_parts(old, new)
    change, interval = _change(old, new, paired, LEVEL)
    _, cautious = _change(old, new, paired, 1 - (1 - LEVEL) / max(1, holding))
    word, why = _word(old, new, cautious)
    return Change(
        label=known.label,
        claim=known.claim,
        case=known.case,
        tier=known.tier,
        word=word,
        passes=word == "kept" or _never_run(old, new),
        why=short(why, LONGEST),
        baseline=_side(old),
        new=_side(new),
        change=change,
        interval=interval,
        paired=paired,
    )


def _word(old: Finding | None, new: Finding | None, change: tuple[float, float] | None) -> tuple[Word, str]:
    if old is None:
        return "not comparable", "new: the baseline has no such finding"
    if new is None:
        return "not comparable", "vanished: the run has no such finding"
    if problem := _not_comparable(old, new):
        return "not comparable", problem
    reason = "; ".join(new.reasons) or "no reason was given"
    if old.verdict != "holds":
        if new.verdict == "holds":
            return "emerged", f"it was {old.verdict}"
        return ("kept", "the same verdict") if new.verdict == old.verdict else ("changed", reason)
    if new.verdict == "inconclusive":
        return "degraded", reason
    if new.verdict != "holds":
        return "lost", reason
    noise = max(old.noise or 0.0, new.noise or 0.0)
    if change is not None and change[1] < -noise:
        beyond = f", beyond the noise {number(noise)}" if noise else ""
        return "degraded", f"it holds, but is weaker by {number(-change[1])} at least{beyond}"
    return "kept", "it holds, and is not clearly weaker"


def _not_comparable(old: Finding, new: Finding) -> str:
    """Why nothing can be said; empty where something can."""
    for finding, whose in ((new, "it"), (old, "the baseline")):
        if finding.verdict in ("error", "not_run"):
            failed = "failed" if finding.verdict == "error" else "was not run"
            return f"{whose} {failed}: {'; '.join(finding.reasons) or 'no reason was given'}"
    for name in MEASURED_BY:
        before, now = getattr(old, name), getattr(new, name)
        if before != now:
            return f"another {name} than the baseline's: {short(now, 100)!r}, not {short(before, 100)!r}"
    return ""


def _never_run(old: Finding | None, new: Finding | None) -> bool:
    """The baseline says that this is not run, and it was not."""
    return old is not None and new is not None and old.verdict == new.verdict == "not_run"


def _same_parts(old: Finding | None, new: Finding | None) -> bool:
    if old is None or new is None or not old.by_problem:
        return False
    parts = [*old.by_problem.values(), *new.by_problem.values()]
    return old.by_problem.keys() == new.by_problem.keys() and None not in parts


def _change(
    old: Finding | None, new: Finding | None, paired: bool, level: float
) -> tuple[float | None, tuple[float, float] | None]:
    if old is None or new is None or old.effect is None or new.effect is None or _not_comparable(old, new):
        return None, None
    change = new.effect - old.effect
    if paired:
        differences = [(new.by_problem[key] or 0.0) - (part or 0.0) for key, part in old.by_problem.items()]
        return change, _mean_interval(differences, level)
    if old.interval is None or new.interval is None:
        return change, None
    # Square and add (Newcombe 1998; Zou and Donner 2008): each end from the ends of both intervals, and both runs as if
    # they were on other problems, which makes it wide rather than narrow where they share some.
    wider = NormalDist().inv_cdf((1 + level) / 2) / NormalDist().inv_cdf((1 + LEVEL) / 2)
    down = math.hypot(new.effect - new.interval[0], old.interval[1] - old.effect) * wider
    up = math.hypot(new.interval[1] - new.effect, old.effect - old.interval[0]) * wider
    return change, (change - down, change + up)


def _mean_interval(values: Sequence[float], level: float) -> tuple[float, float]:
    """Of the mean of one number a problem, by the bias-corrected bootstrap; a point for constant numbers."""
    data = np.asarray(values)
    mean = float(data.mean())
    if np.ptp(data) <= 1e-12 * np.abs(data).max():  # there the bootstrap gives NaN
        return mean, mean
    from scipy import stats  # costs a second, which a run without a comparison need not pay

    for method in ("BCa", "percentile"):
        found = stats.bootstrap(
            (data,), np.mean, n_resamples=RESAMPLES, confidence_level=level, rng=np.random.default_rng(0), method=method
        ).confidence_interval
        if math.isfinite(found.low) and math.isfinite(found.high):
            break
    return min(mean, float(found.low)), max(mean, float(found.high))


def _side(finding: Finding | None) -> Side | None:
    if finding is None:
        return None
    return Side(verdict=finding.verdict, effect=finding.effect, interval=finding.interval, n=finding.n)
