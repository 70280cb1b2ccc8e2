"""Do some heads look from the answer to the target?

Part III of the discussion takes the heads with more than a tenth of their attention on earlier mentions of the target
at the last digit of a right answer: 33 of 576. A head that looks from any number to its own earlier mentions does so
too: the control is what the same heads do at the input numbers of the same line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, PAPER, Claim
from claims.harness.types import Judge
from claims.measured.bars import ATTENDS, ROLE
from mechinterp import Control, Draws, Evidence, Threshold
from mechinterp.nulls import MOST

if TYPE_CHECKING:
    from torch import Tensor

CLAIM = Claim(
    "heads.attend_target",
    statement="Some heads attend from the last digit of a right answer to earlier mentions of it.",
    source=f"{DISCUSSION}, Part III; {PAPER}",
    published="33 of 576 heads above 0.1: L3H13, L4H0, L4H5, L5H9, ...",
)


@CLAIM.as_published(
    measure="attention from the last digit to the target's mentions in the prompt, mean over the heads above 0.1",
    threshold=Threshold(ATTENDS, reason="the source's own: a head attends from 0.1 on", alpha=None, min_n=4),
    quirks=(
        "only the last batch of four is averaged",
        "heads are chosen by what is reported",
        "any head that looks from a number to its earlier mentions counts",
    ),
)
def test_heads_attend_to_the_target(lab: measured.Laboratory, judge: Judge) -> None:
    """Some heads attend from the last digit of a right answer to its mentions in the prompt."""
    heads, mass, _ = lab.a_prev
    anatomy = lab.subject.anatomy
    shown = heads or [divmod(int(mass.mean(0).argmax()), anatomy.n_heads)]
    by_problem = measured.over_heads(mass, shown)
    judge(
        Evidence(
            by_problem.mean(),
            mi.mean_interval(by_problem, seed=lab.seed),
            len(by_problem),
            selected=measured.head_names(heads),
            details={
                "heads": dict(
                    zip(measured.head_names(shown), [float(mass.mean(0)[head]) for head in shown], strict=True)
                ),
                "above 0.1": len(heads),
            },
        )
    )


@CLAIM.audited(
    measure="attention from the result of right attempts to the target minus attention from input numbers of the same "
    "line to as many of their own earlier mentions, mean over the selected heads",
    threshold=Threshold(ATTENDS, reason="the source's own bar for a head, on top of what every number gets"),
    null="as many heads of the same layers below 0.1, matched by what they write",
)
def test_heads_attend_to_the_target_more_than_to_any_number(lab: measured.Laboratory, judge: Judge) -> None:
    """Some heads attend from a right answer to the target, more than from any number to its earlier mentions."""
    observed, off, seed = lab.observed, lab.heads, lab.seed
    heads = off.selected or [divmod(int(off.mass.argmax()), off.mass.shape[1])]
    right, edited = (observed.rows(observed.test, kind) for kind in ("correct", "target_edited"))
    more = observed.to_target - observed.to_own  # (n, layers, heads)
    effect = measured.over_heads(more[right], heads)  # (problems,)
    interval = mi.mean_interval(effect, seed=seed)
    other_target = measured.over_heads(observed.to_target[right], heads) - measured.over_heads(
        observed.to_target[edited], heads
    )
    sets = mi.matched_head_sets(heads, off.written, draws=MOST, seed=seed, exclude=off.attending)
    null = [measured.over_heads(more[right], one).mean() for one in sets.sets]
    shared = {digit: np.isin(edited, observed.sharing(observed.test, digit)) for digit in ("tens", "last")}

    def attention(heads: Sequence[mi.Head]) -> tuple[float, mi.Interval]:
        mass = measured.over_heads(more[right], heads)
        return float(mass.mean()), mi.mean_interval(mass, seed=seed)

    def left(name: str, rows: np.ndarray, elsewhere: Tensor) -> Control:
        """Of the attention to the target, what is not paid elsewhere: more than ROLE of it must be left."""
        to_target = measured.over_heads(observed.to_target[rows], heads)
        margin = (1 - ROLE) * to_target - measured.over_heads(elsewhere, heads)
        if len(margin) < 2:
            return Control(name, 0.0, (-1.0, 1.0))
        return Control(name, float(margin.mean()), mi.mean_interval(margin, seed=seed))

    swapped = [observed.rows(observed.test, "role_swapped", right=side, single=True) for side in (True, False)]
    judge(
        Evidence(
            effect=effect.mean(),
            interval=interval,
            n=len(effect),
            controls=(
                Control(
                    "the same text with another target: attention to the place, not to the number",
                    float(other_target.mean()),
                    mi.mean_interval(other_target, seed=seed),
                ),
                left("repetition: the equal number in another role", swapped[0], observed.to_rival[swapped[1]]),
                *(
                    left(
                        f"the {digit} digit alone: another target that shares it",
                        right[same],
                        observed.to_target[edited[same]],
                    )
                    for digit, same in shared.items()
                ),
            ),
            selected=measured.head_names(off.selected),
            by_problem=measured.parts(observed.problem[right], effect),
            series={"heads above 0.1, by layer": (off.mass > ATTENDS).sum(1).float().tolist()},
            details={
                "heads": measured.by_head(off.mass, heads),
                "above 0.1": len(off.attending),
                "of": off.mass.numel(),
                "to the target": float(measured.over_heads(observed.to_target[right], heads).mean()),
                "from input numbers to their own mentions": float(
                    measured.over_heads(observed.to_own[right], heads).mean()
                ),
                "role-swapped: to the equal number as the target": float(
                    measured.over_heads(observed.to_target[swapped[0]], heads).mean()
                ),
                "role-swapped: to the equal number in another role": float(
                    measured.over_heads(observed.to_rival[swapped[1]], heads).mean()
                ),
                **measured.frozen_heads(lab, attention, interval, at_least=ATTENDS),
            },
        ),
        null=Draws(lambda numbers: null[numbers.start : numbers.stop], len(null), sets.distinct),
    )
