"""Where in a sequence an edit applies or a capture looks.

A position is a token's index in its row, counted from the row's first real token: padding does not shift it,
and a decode step under a KV cache goes on counting. Positions are derived from the attention mask.

Pass           what one forward pass sees: positions and tokens
Scope          Pass -> slots (B, T): -1 leaves the position alone, another number applies the edit
everywhere     every real token of every pass
last           the last token of each row, in every pass
at             the given positions of each row
since          each row's given position and all that follow, decode steps included
when_last_is   every token of the rows whose last token in this pass is one of the given
watch_passes   keeps the current Pass of a model at hand
being_watched  whether a block of `watch_passes` is open
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError
from mechinterp.subject import Subject


@dataclass(frozen=True)
class Pass:
    """One forward pass over B rows and T columns.

    Attributes:
        positions: (B, T) token positions, -1 at padding.
        first: (B,) the column, counted over cached and new columns alike, of each row's first real token.
        input_ids: (B, T), or None when the model was given embeddings.
    """

    positions: Tensor
    first: Tensor
    input_ids: Tensor | None


Scope = Callable[[Pass], Tensor]


def everywhere(now: Pass) -> Tensor:
    """Every real token of every pass."""
    return _slots(now.positions >= 0)


def last(now: Pass) -> Tensor:
    """The last real token of each row, in every pass (under a KV cache: each new token)."""
    return _slots((now.positions >= 0) & (now.positions == now.positions.amax(dim=1, keepdim=True)))


def at(positions: Tensor | Sequence[Sequence[int]]) -> Scope:
    """The given positions, (B, k) with one row a sequence; slot j is column j. A negative entry stands for none."""
    wanted = whole_numbers(positions, "at(positions)", ("rows", "k"))

    def scope(now: Pass) -> Tensor:
        here = wanted.to(now.positions.device)
        if here.shape[0] != now.positions.shape[0]:
            raise MechinterpError(
                f"at(positions): {here.shape[0]} rows of positions for a pass of {now.positions.shape[0]} rows"
            )
        match = (now.positions[:, :, None] == here[:, None, :]) & (here[:, None, :] >= 0)  # (B, T, k)
        return torch.where(match.any(-1), match.long().argmax(-1), -1)

    return scope


def since(starts: Tensor | Sequence[int]) -> Scope:
    """Each row's position `starts[row]` and all that follow, decode steps included."""
    wanted = whole_numbers(starts, "since(starts)", ("rows",))

    def scope(now: Pass) -> Tensor:
        if len(wanted) != len(now.positions):
            raise MechinterpError(f"since(starts): {len(wanted)} starts for a pass of {len(now.positions)} rows")
        return _slots(now.positions >= wanted.to(now.positions.device)[:, None].clamp(min=0))

    return scope


def when_last_is(tokens: Collection[int]) -> Scope:
    """Every token of the rows whose last token in this pass is one of `tokens` (the published ` (` rule)."""
    if not tokens:
        raise MechinterpError("when_last_is: no tokens were given; the edit would never fire")

    def scope(now: Pass) -> Tensor:
        if now.input_ids is None:
            raise MechinterpError("when_last_is: the model was given embeddings, not tokens")
        ids = torch.tensor(sorted(tokens), device=now.input_ids.device)
        ending = torch.isin(now.input_ids[:, -1], ids) & (now.positions[:, -1] >= 0)
        return _slots((now.positions >= 0) & ending[:, None])

    return scope


class PassWatch:
    """Holds the current pass."""

    current: Pass


@contextmanager
def watch_passes(subject: Subject) -> Iterator[PassWatch]:
    """Keep `watch.current` up to date while the model runs, whether called directly or by `generate`."""
    watch = PassWatch()

    def before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        watch.current = _read_pass(args, kwargs)

    before.of = watch  # type: ignore[attr-defined]
    handle = subject.model.model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield watch
    finally:
        handle.remove()


def being_watched(subject: Subject) -> bool:
    """Whether some edit or capture of this model is open: each of them watches the passes."""
    hooks = subject.model.model._forward_pre_hooks.values()
    return any(isinstance(getattr(hook, "of", None), PassWatch) for hook in hooks)


def _read_pass(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pass:
    input_ids = args[0] if args else kwargs.get("input_ids")
    mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
    source = input_ids if input_ids is not None else kwargs["inputs_embeds"]
    rows, columns = source.shape[:2]
    cache = kwargs.get("past_key_values")
    past = cache.get_seq_length() if cache is not None else 0
    if mask is None:
        mask = torch.ones(rows, past + columns, dtype=torch.long, device=source.device)
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        raise MechinterpError("the attention mask must be (rows, columns); a prepared 4-D mask hides the padding")
    if mask.shape[1] < past + columns:
        raise MechinterpError(
            f"the attention mask has {mask.shape[1]} columns; it must cover {past} cached and {columns} new ones"
        )
    real = mask.long()[:, : past + columns]
    positions = torch.where(real > 0, real.cumsum(1) - 1, -1)[:, -columns:]
    return Pass(positions, real.argmax(1), input_ids)


def whole_numbers(values: Tensor | Sequence[Any], what: str, dimensions: tuple[str, ...]) -> Tensor:
    """`values` as a tensor of whole numbers with these dimensions; `what` is how errors call it."""
    expected = f"{what}: expected whole numbers ({', '.join(dimensions)})"
    try:
        numbers = torch.as_tensor(values)
    except (TypeError, ValueError) as error:
        raise MechinterpError(f"{expected}, as many in every row") from error
    if numbers.ndim != len(dimensions) or numbers.is_floating_point() or numbers.dtype == torch.bool:
        raise MechinterpError(f"{expected}, got {numbers.dtype} of shape {tuple(numbers.shape)}")
    return numbers


def _slots(chosen: Tensor) -> Tensor:
    return torch.where(chosen, 0, -1)
