"""The null of a measurement, drawn until no further draw can change the verdict. No torch here.

Draws       the effects of matched controls, made when they are needed
with_null   evidence with the draws that its verdict needs, and the p-value they give

Sequential Monte Carlo p-values: Besag and Clifford, Biometrika 78 (1991). Draws stop as soon as so many of them reach
the effect that p could no longer fall to what is allowed; p = (1 + reached) / (1 + drawn) is then above it, as that of
all draws would be. So a null that stops early gives the verdict of the full one. Where the verdict cannot be "holds"
whatever the null says, a few draws are made for the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mechinterp.errors import MechinterpError, quote
from mechinterp.evidence import TIE, Evidence, Threshold, verdict_of

MOST = 300
"""Draws of a null that is not stopped."""
FEW = 20
"""Draws that are made for the reader where the verdict does not depend on them."""
AT_ONCE = 50
"""Draws made before the next look at them."""


@dataclass(frozen=True)
class Draws:
    """The effect under matched controls, draw by draw.

    Attributes:
        make: effects of the draws with these numbers; called with ascending, adjoining ranges.
        count: how many can be had: `MOST`, or fewer where fewer distinct controls exist.
        distinct: how many exist, where that is known; see `Evidence`.
    """

    make: Callable[[range], Sequence[float] | np.ndarray]
    count: int = MOST
    distinct: int | None = None

    @classmethod
    def of(cls, effects: Sequence[float] | np.ndarray) -> Draws:
        """Draws that are there already."""
        made = _numbers(effects)
        return cls(lambda numbers: made[numbers.start : numbers.stop], len(made))


def with_null(
    evidence: Evidence, draws: Draws, threshold: Threshold, *, family: int = 1, at_once: int = AT_ONCE
) -> Evidence:
    """The evidence with its null and p-value.

    Raises:
        MechinterpError: no draws can be had, or a draw is not finite.
    """
    if draws.count < 1:
        raise MechinterpError("no matched control exists; the measurement has nothing to be compared with")
    allowed = (threshold.alpha or 0.0) / family
    most_reaching = allowed * (1 + draws.count) - 1  # with more, p of all draws is above what is allowed
    decides = verdict_of(replace(evidence, p_value=0.0), threshold, family=family)[0] == "holds"
    wanted = draws.count if decides else min(FEW, draws.count)
    found: list[float] = []
    reaching = 0
    while len(found) < wanted and not (decides and reaching > most_reaching + TIE and len(found) >= FEW):
        numbers = range(len(found), min(len(found) + (at_once if decides else wanted), wanted))
        made = _numbers(draws.make(numbers))
        if len(made) != len(numbers) or not np.isfinite(made).all():
            raise MechinterpError(
                f"a null gave {len(made)} numbers for {len(numbers)} draws, or one that is not finite"
            )
        found += made
        reaching = sum(value >= evidence.effect - TIE * max(1.0, abs(evidence.effect)) for value in found)
    return replace(evidence, null=tuple(found), p_value=(1 + reaching) / (1 + len(found)), distinct=draws.distinct)


def _numbers(effects: Iterable[float]) -> list[float]:
    try:
        return [float(value) for value in effects]
    except (TypeError, ValueError) as error:
        raise MechinterpError(f"a null: expected an effect for each draw, got {quote(effects)}") from error
