"""Whether the subject verifies at all, and whether by role or by repetition: the premise of every other claim.

Ladder      the rung, a sentence that says it, and the figures it stands on
climb       find the rung, on the test half
by_kind     V of right attempts beside V of wrong ones, by kind
by_order    the gap of role-swapped pairs, by which of the two numbers the prompt states first

Two axes. Says it: at least SAYS of the right and of the wrong attempts (target_edited, incorrect, foil) get the right
remark. By role: AUC of at least TELLS on target_edited, on foils and on wrong attempts that share a digit with the
target, and in every wording more than ROLE of the gap of target-edited pairs is left on role-swapped pairs, in which
both numbers stand equally often and only the role of the result tells right from wrong. verifies = both; latent = by
role only; repetition = it tells target-edited attempts apart, but not by role; none = the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import mechinterp as mi
from claims.measured.bars import ROLE, SAYS, TELLS, WRONG
from claims.measured.observations import Observations
from claims.measured.pairs import gap, pair_auc, share
from claims.measured.remarks import Remarks
from fixtures.task.wordings import ORDERS

Rung = Literal["verifies", "latent", "repetition", "none"]
SENTENCES: dict[Rung, str] = {
    "verifies": "It calls right attempts right and wrong ones wrong, and tells them apart by the role of the number, "
    "not only by its having been seen before.",
    "latent": "It tells right attempts from wrong ones by the role of the number, but does not say so in its remarks.",
    "repetition": "It mostly detects that the result stood there before: with both numbers in the text, their roles "
    "hardly matter to it. What it shows is not verification.",
    "none": "It does not tell right attempts from wrong ones.",
}
DIGIT = "It compares the {digit} digit of the result with the target's, not the number. That is not verification."
SEEN = "It takes a result for right that stood there before, be it an input number. That is not verification."
PLACE = (
    "It takes the number that stands {place} before the attempts for the target, whatever its role is. That is not "
    "verification."
)
MIXED = (
    "By the role of the number it tells right from wrong in some wordings of the prompt, and not in others ({others}): "
    "there it mostly detects that the result stood there before. Findings about verification would hang on the wording."
)
"""Instead of the sentence for repetition, where the figures say more closely what it does."""


@dataclass(frozen=True)
class Ladder:
    """Attributes:
    figures: AUC by kind, role share by wording with its interval, and the shares of attempts by kind that get the
        right remark.
    """

    rung: Rung
    sentence: str
    figures: dict[str, Any]

    @property
    def by_role(self) -> bool:
        return self.rung in ("verifies", "latent")

    def require_by_role(self) -> None:
        """Raise PreconditionUnmet unless the subject tells right from wrong by role."""
        if not self.by_role:
            auc = self.figures["AUC"]
            shares = ", ".join(f"{w} {s:.2f}" for w, (s, _) in self.figures["role share [95 %]"].items())
            left = f", share of their gap left by role: {shares}" if shares else ""
            shared = self.figures["AUC where a digit is shared"].items()
            apart = {"on foils": auc["foil"]} | {f"where the {digit} digit is shared": x for digit, x in shared}
            blind = "".join(f"; AUC {x:.2f} {where}" for where, x in apart.items() if shares and x < TELLS)
            raise mi.PreconditionUnmet(
                f"{self.rung}: a mechanism of verification needs a model that tells right from wrong by role; AUC "
                f"{auc['target_edited']:.2f} on target-edited pairs{left}{blind}"
            )


def by_kind(observed: Observations, v: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By kind (role-swapped ones by wording): V of right and of wrong attempts, each (problems of the test half,)."""
    test = observed.test
    right = v[observed.rows(test, "correct")]
    found = {kind: (right, v[observed.rows(test, kind)]) for kind in WRONG}
    for wording in observed.wordings:
        sides = [observed.rows(test, "role_swapped", right=side, wording=wording) for side in (True, False)]
        found[f"role_swapped, {wording}"] = (v[sides[0]], v[sides[1]])
    return found


def sharing(observed: Observations, v: np.ndarray, digit: str) -> tuple[np.ndarray, np.ndarray]:
    """V of right attempts of the test half, and of wrong ones that share a digit ("tens" or "last") with the target."""
    return v[observed.rows(observed.test, "correct")], v[observed.sharing(observed.test, digit)]


def by_order(observed: Observations, v: np.ndarray) -> dict[str, np.ndarray]:
    """By which number the prompt states first, the gap of role-swapped pairs, (problems of the test half,).

    The mean over the wordings in which a problem has that order; NaN where it has none.
    """
    sides = [observed.rows(observed.test, "role_swapped", right=side) for side in (True, False)]
    order = np.array([observed.sited[i].transcript.order for i in sides[0]])
    gaps = v[sides[0]] - v[sides[1]]
    place = np.searchsorted(observed.test.problems, observed.problem[sides[0]])
    found: dict[str, np.ndarray] = {}
    for name in ORDERS:
        chosen = order == name
        counts = np.bincount(place[chosen], minlength=len(observed.test))
        sums = np.bincount(place[chosen], weights=gaps[chosen], minlength=len(observed.test))
        found[name] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return found


def climb(observed: Observations, remarks: Remarks, *, seed: int) -> Ladder:
    v = remarks.log_odds(observed.log_p, observed.candidates)
    accepts = remarks.accepts(observed.log_p, observed.candidates)
    kinds = by_kind(observed, v)
    whole = np.subtract(*kinds["target_edited"])
    auc = {kind: pair_auc(*sides) for kind, sides in kinds.items()}
    swapped = {
        kind.removeprefix("role_swapped, "): np.subtract(*sides)
        for kind, sides in kinds.items()
        if kind.startswith("role_swapped")
    }
    there_is_a_gap = auc["target_edited"] >= TELLS and gap(*kinds["target_edited"]) > 0
    role = _shares(swapped, whole, seed) if there_is_a_gap else {}
    orders = _shares(by_order(observed, v), whole, seed) if there_is_a_gap else {}
    said = {"correct": float(accepts[observed.rows(observed.test, "correct")].mean())} | {
        kind: 1 - float(accepts[observed.rows(observed.test, kind)].mean()) for kind in WRONG
    }
    said_of_roles = {
        f"role_swapped, {'right' if side else 'wrong'}": float(
            (accepts[observed.rows(observed.test, "role_swapped", right=side)] == side).mean()
        )
        for side in (True, False)
    }
    digits = {digit: sharing(observed, v, digit) for digit in ("tens", "last")}
    shared = {digit: pair_auc(*sides) for digit, sides in digits.items() if len(sides[1])}
    tells = there_is_a_gap and min(auc["foil"], *shared.values()) >= TELLS
    rung: Rung
    if tells and all(low > ROLE for _, (low, _) in role.values()):
        rung = "verifies" if min(said.values()) >= SAYS else "latent"
    else:
        rung = "repetition" if auc["target_edited"] >= TELLS else "none"
    return Ladder(
        rung,
        _instead(auc, shared, orders, role) if rung == "repetition" else SENTENCES[rung],
        {
            "AUC": auc,
            "AUC where a digit is shared": shared,
            "gap of target-edited pairs, nats": float(whole.mean()),
            "role share [95 %]": role,
            "role share by order [95 %]": orders,
            "get the right remark": said | said_of_roles,
        },
    )


Shares = dict[str, tuple[float, list[float]]]


def _shares(parts: dict[str, np.ndarray], whole: np.ndarray, seed: int) -> Shares:
    """Of the gap of target-edited pairs, what is left in each, with its interval; of the problems that have it."""
    found = {}
    for name, part in parts.items():
        there = np.isfinite(part)
        if there.any():
            value, interval = share(part[there], whole[there], seed=seed)
            found[name] = (value, list(interval))
    return found


def _instead(auc: dict[str, float], shared: dict[str, float], orders: Shares, role: Shares) -> str:
    """What a model of the rung `repetition` does, as far as the figures tell."""
    mostly_lost = (auc["target_edited"] + 0.5) / 2  # less than half of what is above guessing is left
    for digit, left in shared.items():
        if left < mostly_lost:
            return DIGIT.format(digit=digit)
    if auc["foil"] < mostly_lost:
        return SEEN
    turned = [order for order, (_, (_, high)) in orders.items() if high < -ROLE]
    kept = [order for order, (_, (low, _)) in orders.items() if low > ROLE]
    if turned and kept:
        return PLACE.format(place=kept[0].removeprefix("target_"))
    others = [wording for wording, (_, (low, _)) in role.items() if not low > ROLE]
    return MIXED.format(others=", ".join(others)) if len(others) < len(role) else SENTENCES["repetition"]
