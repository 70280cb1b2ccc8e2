"""Attention heads: how the model knows that it is right.

Part III of the discussion finds heads that attend from the last digit of a right answer to earlier mentions of the
target, turns their O-circuit off, and sees that the model no longer recognises its own right answer and that the
success value vectors no longer fire.

The published run kept no wrong attempts, so that a model which always says `not` would have passed it. Here both
classes are judged, each right attempt beside its minimal pair: the same text with another target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

import mechinterp as mi
from claims.claim import DISCUSSION, PAPER, claim
from claims.headsweep import AT_LEAST, single_heads, sweep_heads
from claims.laboratory import ATTENDS, DRAWS
from mechinterp import Control, Evidence, PreconditionUnmet, Threshold

if TYPE_CHECKING:
    from claims.laboratory import Laboratory

DAMAGE = 0.5
"""Nats a token that other text may lose to an ablation before it counts as damage."""


@claim(
    "heads.attend_target",
    statement="Some heads attend from the last digit of a right answer to earlier mentions of it.",
    measure="attention mass to the target minus that to a number mentioned as often, mean over the selected heads",
    published="33 of 576 heads above 0.1: L3H13, L4H0, L4H5, L5H9, ...",
    source=f"{DISCUSSION}, Part III; {PAPER}",
    control="an input number mentioned as often; random heads of the same layers; the same text with another target",
    threshold=Threshold(at_least=ATTENDS),
)
def test_some_heads_attend_to_the_target(lab: Laboratory, judge: Callable[[Evidence], None]) -> None:
    """Some heads attend from the last digit of a right answer to earlier mentions of it."""
    mass = lab.observed.to_target["last_digit"] - lab.observed.to_decoy["last_digit"]  # (n, layers, heads)
    selected = lab.observed.to_target["last_digit"][lab.select.of("correct")].mean(0)
    heads = lab.heads or [divmod(int(selected.argmax()), selected.shape[1])]
    gap = over(mass[lab.judge.of("correct")], heads)  # (problems,)
    edited = over(mass[lab.judge.of("target_edited")], heads)
    sets = mi.matched_head_sets(heads, lab.observed.head_norms, draws=DRAWS, seed=lab.seed)
    null = [over(mass[lab.judge.of("correct")], one).mean() for one in sets]
    by_decoy = mi.paired_p(gap, seed=lab.seed)
    judge(
        Evidence(
            effect=gap.mean(),
            interval=mi.mean_interval(gap, seed=lab.seed),
            n=len(gap),
            p_value=max(by_decoy, mi.exceedance_p(gap.mean(), null)),
            null=tuple(null),
            controls=(
                Control(
                    "the same text with another target",
                    float((gap - edited).mean()),
                    mi.mean_interval(gap - edited, seed=lab.seed),
                ),
            ),
            series={"heads above 0.1, by layer": (selected > ATTENDS).sum(1).tolist()},
            details={
                "heads": {f"L{at}H{head}": round(float(selected[at, head]), 3) for at, head in heads},
                "above 0.1": int((selected > ATTENDS).sum()),
                "of": selected.numel(),
            },
        )
    )


@claim(
    "heads.ablation_disables",
    statement="Turning those heads off, the model no longer recognises its own right answer.",
    measure="share of the verdict's discrimination (2 AUC - 1, minimal pairs) that is lost when the heads' outputs, "
    "from the result to ` (`, are replaced",
    published="29 of 576 heads (discussion); 33: 96.0 % no longer verified, n = 300, right attempts only (paper)",
    source=f"{DISCUSSION}, Part III; {PAPER}",
    control="random head sets matched by layer and output norm; both classes; other text must survive",
    threshold=Threshold(at_least=AT_LEAST),
)
@pytest.mark.parametrize("replaced_by", ["zero", "minimal_pair"])
def test_without_these_heads_a_right_answer_is_not_recognised(
    lab: Laboratory, replaced_by: str, judge: Callable[[Evidence], None]
) -> None:
    """Turning those heads off, the model no longer recognises its own right answer."""
    require_heads(lab)
    swept = sweep_heads(lab, replaced_by)
    everyone = np.arange(swept.n)
    null = [swept.lost(draw, everyone) for draw in swept.log_odds_random]
    effect = swept.lost(swept.log_odds, everyone)
    damage = DAMAGE - swept.damage
    judge(
        Evidence(
            effect=effect,
            interval=swept.lost_interval(lab.seed),
            n=swept.n,
            p_value=mi.exceedance_p(effect, null),
            null=tuple(null),
            noise=abs(swept.lost(swept.log_odds_observed, everyone)),
            controls=(
                Control(
                    f"damage: other text may lose {DAMAGE} nats a token when the heads are off everywhere",
                    float(damage.mean()),
                    mi.mean_interval(damage, seed=lab.seed),
                ),
            ),
            details={
                **swept.summary(),
                "heads": [f"L{at}H{head}" for at, head in lab.heads],
                "every head alone": lab.remember(single_heads, lambda: single_heads(lab)),
            },
        )
    )


@claim(
    "heads.silence_values",
    statement="With those heads off, the success value vectors no longer fire.",
    measure="share of the success value vectors' activation at ` (`, right minus wrong attempts, that is lost",
    published="a plot of activations before and after",
    source=f"{DISCUSSION}, Part III",
    control="random head sets matched by layer and output norm",
    threshold=Threshold(at_least=AT_LEAST),
)
def test_without_these_heads_the_success_values_are_silent(lab: Laboratory, judge: Callable[[Evidence], None]) -> None:
    """With those heads off, the success value vectors no longer fire."""
    require_heads(lab)
    swept = sweep_heads(lab, "zero")
    everyone = np.arange(swept.n)
    if (gap := swept.gap(swept.activation_clean, everyone)) <= 0:
        raise PreconditionUnmet(f"the success value vectors do not fire more on right attempts (by {gap:.3g})")
    null = [swept.silenced(draw, everyone) for draw in swept.activation_random]
    effect = swept.silenced(swept.activation, everyone)
    judge(
        Evidence(
            effect=effect,
            interval=swept.silenced_interval(lab.seed),
            n=swept.n,
            p_value=mi.exceedance_p(effect, null),
            null=tuple(null),
            noise=abs(swept.silenced(swept.activation_observed, everyone)),
            details={
                "activation_before": swept.by_class(swept.activation_clean),
                "activation_after": swept.by_class(swept.activation),
                "value_vectors": len(lab.success_values),
            },
        )
    )


def over(mass: np.ndarray, heads: list[mi.Head]) -> np.ndarray:
    """(n, layers, heads) -> (n,), mean over the given heads."""
    layers, numbers = zip(*heads, strict=True)
    return np.asarray(mass)[:, layers, numbers].mean(1)


def require_heads(lab: Laboratory) -> None:
    """Raise PreconditionUnmet unless there are heads to turn off and a verdict to lose."""
    lab.require_verdicts()
    if not lab.heads:
        raise PreconditionUnmet(f"no head attends to the target with more than {ATTENDS} of its attention")
