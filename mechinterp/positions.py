"""Where in a sequence an edit applies or a capture looks.

Scope          Pass -> slots (B, T): -1 leaves the position alone, another number applies the edit
everywhere     every real token of every pass
last           the last token of each row, in every pass
at             the given positions of each row
since          each row's given position and all that follow, decode steps included
when_last_is   every token of the rows whose last token in this pass is one of the given
maybe          another scope, which may select nothing
slots_of       what a scope says of a pass, checked
bare           a scope without its `maybe`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError, quote
from mechinterp.given import each, whole_numbers
from mechinterp.passes import Pass, Reach

Scope = Callable[[Pass], Tensor]


def everywhere(now: Pass) -> Tensor:
    """Every real token of every pass."""
    return _slots(now.positions >= 0)


def last(now: Pass) -> Tensor:
    """The last real token of each row, in every pass (under a KV cache: each new token)."""
    return _slots((now.positions >= 0) & (now.positions == now.positions.amax(dim=1, keepdim=True)))


@dataclass(frozen=True, eq=False)
class At:
    """See `at`."""

    positions: Tensor

    def __call__(self, now: Pass) -> Tensor:
        here = self.positions.to(now.positions.device)
        if len(here) != len(now.positions):
            raise MechinterpError(
                f"at(positions): {len(here)} rows of positions for a pass of {len(now.positions)} rows"
            )
        match = (now.positions[:, :, None] == here[:, None, :]) & (here[:, None, :] >= 0)  # (B, T, k)
        return torch.where(match.any(-1), match.long().argmax(-1), -1)


@dataclass(frozen=True, eq=False)
class Since:
    """See `since`."""

    starts: Tensor

    def __call__(self, now: Pass) -> Tensor:
        if len(self.starts) != len(now.positions):
            raise MechinterpError(f"since(starts): {len(self.starts)} starts for a pass of {len(now.positions)} rows")
        return _slots((now.positions >= 0) & (now.positions >= self.starts.to(now.positions.device)[:, None]))


@dataclass(frozen=True, eq=False)
class WhenLastIs:
    """See `when_last_is`."""

    tokens: Tensor

    def __call__(self, now: Pass) -> Tensor:
        if now.input_ids is None:
            raise MechinterpError("when_last_is: the model was given embeddings, not tokens")
        wanted = torch.isin(now.input_ids, self.tokens.to(now.input_ids.device))
        ending = (wanted & (last(now) >= 0)).any(1, keepdim=True)
        return _slots((now.positions >= 0) & ending)


@dataclass(frozen=True, eq=False)
class Maybe:
    """See `maybe`."""

    scope: Scope

    def __call__(self, now: Pass) -> Tensor:
        return self.scope(now)


def at(positions: Tensor | Sequence[Sequence[int]]) -> Scope:
    """The given positions, (B, k) with one row a sequence; slot j is column j.

    -1 stands for none, to fill rows that have fewer. A position named twice in a row is edited once, by its first slot.

    Raises:
        MechinterpError: no whole numbers, or one below -1: positions are counted from the row's first token.
    """
    return At(token_positions(positions, "at(positions)"))


def since(starts: Tensor | Sequence[int]) -> Scope:
    """Each row's position `starts[row]` and all that follow, decode steps included."""
    wanted = whole_numbers(starts, "since(starts)", ("rows",))
    if (wanted < 0).any():
        raise MechinterpError(f"since(starts): {int(wanted.min())}; positions are counted from a row's first token, 0")
    return Since(wanted)


def when_last_is(tokens: Iterable[int]) -> Scope:
    """Every token of the rows whose last token in this pass is one of `tokens` (the published ` (` rule)."""
    chosen = each(tokens, "when_last_is(tokens)", "whole numbers (tokens)")
    if not chosen:
        raise MechinterpError("when_last_is: no tokens were given; the edit would never fire")
    return WhenLastIs(whole_numbers(chosen, "when_last_is(tokens)", ("tokens",)))


def maybe(scope: Scope) -> Scope:
    """The same scope, of which it is no error that a position is never reached, or nothing is ever selected."""
    return Maybe(checked_scope(scope))


def bare(scope: Scope) -> Scope:
    """A scope without its `maybe`."""
    while isinstance(scope, Maybe):
        scope = scope.scope
    return scope


def checked_scope(scope: Any) -> Scope:
    """Raises MechinterpError for what is no scope, such as bare positions."""
    if not callable(scope):
        raise MechinterpError(f"scope: expected one such as mi.last or mi.at(positions), got {quote(scope)}")
    return scope


def slots_of(scope: Scope, now: Pass) -> Tensor:
    """(B, T) what the scope says of this pass; padding is left alone whatever it says.

    Raises:
        MechinterpError: it gives no whole number for each token.
    """
    slots = scope(now)
    if not isinstance(slots, Tensor) or not _whole(slots) or slots.shape != now.positions.shape:
        got = f"{slots.dtype} {tuple(slots.shape)}" if isinstance(slots, Tensor) else f"a {type(slots).__name__}"
        raise MechinterpError(
            f"scope: expected whole numbers (rows, columns) {tuple(now.positions.shape)}, -1 where nothing is edited, "
            f"got {got}"
        )
    return torch.where(now.positions >= 0, slots.to(now.positions.device).clamp(min=-1), -1)


def reach_of(scope: Scope) -> Reach | None:
    """What has to be met for the scope to have applied where it says; None where it names no positions."""
    if isinstance(scope, At):
        return Reach(scope.positions, onwards=False)
    return Reach(scope.starts[:, None], onwards=True) if isinstance(scope, Since) else None


def token_positions(positions: Any, what: str) -> Tensor:
    """(B, k) positions with -1 for none; `what` is how errors call them."""
    wanted = whole_numbers(positions, what, ("rows", "k"))
    if not wanted.numel():
        raise MechinterpError(f"{what}: no positions were given, {tuple(wanted.shape)}")
    if (wanted < -1).any():
        raise MechinterpError(
            f"{what}: {int(wanted.min())}; positions are counted from a row's first token, 0, and -1 stands for none"
        )
    return wanted


def _whole(numbers: Tensor) -> bool:
    return not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)


def _slots(chosen: Tensor) -> Tensor:
    return torch.where(chosen, 0, -1)
