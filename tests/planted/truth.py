"""What is true of each variant of the planted model.

Truth   which parts do what, and what it says of an attempt
TRUTH   by variant
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal

from fixtures.task.transcripts import Transcript
from mechinterp.intervene import Head, Neuron

from .neurons import PER_LAYER
from .space import MATCH, UNREAD


@dataclass(frozen=True)
class Truth:
    """Which parts do what.

    Attributes:
        says_this: whether it says `this` of an attempt; otherwise it says `not`.
        marks: the roles of the numbers that it takes for targets.
        compares: the digits that it compares with them.
        reads: which of them it compares with: any that is equal, or the first or the last one stated.
        writes: what verifiers write into.
        verifiers: attend from the result to such a number. In `order_first` and `order_last` always, otherwise if the
            digits are equal; never in `constant`.
        hidden: verify as well, but attend to the token after the target.
        causal: the heads that, ablated together, leave right and wrong indistinguishable. The gap in log-odds shrinks
            with each of them.
        bystanders: attend from the result to what is marked whether or not it is equal, and write that into noise; the
            last one writes nothing.
        echoes: the same with less than a tenth of their attention, but they write as much as verifiers do.
        witnesses: attend from the result to what is marked, equal or not, and write that there is one, so that a result
            that is not it differs from one where no target is known.
        setup: the marker and the shift head. They act on earlier tokens: harmless to ablate from the result on.
        movers: attend from ` (` to the result.
        success, failure: value neurons.
        own_words: whether all but the first of a layer name words of their own, or only the common direction does.
        opposed: whether value neurons are negative where their kind is not meant, and take off words of the other kind.
        verdict: neurons that write `this`, `not`, and those that keep them from growing without bound.
        busy: neurons that fire at every ` (` and write noise.
        layers: the order in which the layers stand.
    """

    says_this: Callable[[Transcript], bool]
    marks: tuple[Literal["target", "rival", "input"], ...] = ("target",)
    compares: Literal["all digits", "tens", "last digit"] = "all digits"
    reads: Literal["equal", "first", "last"] = "equal"
    writes: int = MATCH
    verifiers: tuple[Head, ...] = ((1, 1), (1, 6), (1, 13), (2, 4), (2, 9), (2, 10))
    hidden: tuple[Head, ...] = ()
    causal: tuple[Head, ...] = verifiers
    bystanders: tuple[Head, ...] = ((1, 3), (2, 0))
    echoes: tuple[Head, ...] = (*product((1,), (0, 2, 8, 10, 12, 15)), *product((2,), (1, 5, 8, 11, 13, 15)))
    witnesses: tuple[Head, ...] = ()
    setup: tuple[Head, ...] = ((0, 2), (1, 5))
    movers: tuple[Head, ...] = ((3, 5),)
    success: tuple[Neuron, ...] = tuple(product((3, 4), range(20, 20 + PER_LAYER)))
    failure: tuple[Neuron, ...] = tuple(product((3, 4), range(70, 70 + PER_LAYER)))
    own_words: bool = True
    opposed: bool = False
    verdict: tuple[Neuron, ...] = ((5, 8), (5, 77), (5, 30), (5, 51))
    busy: tuple[Neuron, ...] = tuple(product((3, 4), range(40, 52)))
    layers: tuple[int, ...] = (0, 1, 2, 3, 4, 5)


def _is_right(attempt: Transcript) -> bool:
    return attempt.is_right


def _never(attempt: Transcript) -> bool:
    return False


def _was_stated(attempt: Transcript) -> bool:
    return attempt.value in (attempt.target, attempt.rival)


def _was_seen(attempt: Transcript) -> bool:
    return _was_stated(attempt) or attempt.value in attempt.problem.numbers


def _shares_tens(attempt: Transcript) -> bool:
    return attempt.value // 10 % 10 == attempt.target // 10 % 10


def _shares_last_digit(attempt: Transcript) -> bool:
    return attempt.shares_last_digit


def _equals_first(attempt: Transcript) -> bool:
    return attempt.value == (attempt.rival if attempt.order == "target_last" else attempt.target)


def _equals_last(attempt: Transcript) -> bool:
    return attempt.value == (attempt.rival if attempt.order == "target_first" else attempt.target)


_HIDDEN: tuple[Head, ...] = ((2, 2), (2, 7), (2, 14))
_FEW: tuple[Head, ...] = ((1, 1), (2, 4), (2, 9))
TRUTH = {
    "planted": Truth(_is_right),
    "redundant": Truth(_is_right, hidden=_HIDDEN, causal=(*Truth.verifiers, *_HIDDEN)),
    "few": Truth(_is_right, verifiers=_FEW, causal=_FEW),
    "implied": Truth(_is_right, own_words=False),
    "opposed": Truth(_is_right, witnesses=((2, 3),), opposed=True),
    "decoy": Truth(_is_right, hidden=_HIDDEN, causal=_HIDDEN, writes=UNREAD),
    "repetition": Truth(_was_stated, marks=("target", "rival")),
    "seen": Truth(_was_seen, marks=("target", "rival", "input")),
    "tens": Truth(_shares_tens, compares="tens"),
    "last_digit": Truth(_shares_last_digit, compares="last digit"),
    "order_first": Truth(_equals_first, marks=("target", "rival"), reads="first", setup=((0, 2),)),
    "order_last": Truth(_equals_last, marks=("target", "rival"), reads="last", setup=((0, 2),)),
    "constant": Truth(_never, marks=(), causal=()),
    "mute": Truth(_never, causal=(), movers=()),
    "shuffled": Truth(_never, causal=(), layers=(4, 2, 5, 1, 3, 0)),
}
