"""What a model sees while it runs.

Pass           one forward pass: positions and tokens
Watch          the pass that is running, if one is
watch_passes   a block in which it is kept up to date
being_watched  whether such a block is open
Reach          which of the wanted positions were met, over all passes of a block

A position is a token's index in its row, counted from the row's first real token: padding does not shift it,
and a decode step under a KV cache goes on counting. Positions are derived from the attention mask.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError
from mechinterp.inspection import uncompiled
from mechinterp.subject import Subject


@dataclass(frozen=True)
class Pass:
    """One forward pass over B rows and T columns.

    Attributes:
        positions: (B, T) token positions, -1 at padding.
        first: (B,) the column, counted over cached and new columns alike, of each row's first real token.
        input_ids: (B, T), or None when the model was given embeddings.
        columns: (B, cached + T) token positions of cached and new columns; None stands for no cache.
    """

    positions: Tensor
    first: Tensor
    input_ids: Tensor | None
    columns: Tensor | None = None

    @property
    def so_far(self) -> Tensor:
        """(B, C) token positions of all columns, -1 at padding."""
        return self.positions if self.columns is None else self.columns

    @property
    def cached(self) -> int:
        """Columns that earlier passes have left in the cache."""
        return self.so_far.shape[1] - self.positions.shape[1]


class Watch:
    """The pass that is running, and how many were completed."""

    def __init__(self) -> None:
        self.current: Pass | None = None
        self.running = False
        self.completed = 0

    def now(self) -> Pass:
        """Raises MechinterpError where a part of the model is called by itself: its positions are not known."""
        if self.current is None or not self.running:
            raise MechinterpError(
                "a layer was called by itself inside a `with` block; call the model: its attention mask tells positions"
            )
        return self.current


@contextmanager
def watch_passes(subject: Subject) -> Iterator[Watch]:
    """Keep `watch.current` up to date while the model runs, whether called directly or by `generate`."""
    subject.check_ready()
    watch, model = Watch(), subject.model.model
    signature = inspect.signature(model.forward)

    def before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        watch.current = _read_pass(signature.bind_partial(*args, **kwargs).arguments)
        watch.running = True

    def after(module: torch.nn.Module, args: Any, output: Any) -> None:
        watch.running = False
        watch.completed += output is not None  # None: it ended in an error

    before.of = watch  # type: ignore[attr-defined]
    handles = [
        model.register_forward_pre_hook(before, with_kwargs=True),
        model.register_forward_hook(after, always_call=True),
    ]
    try:
        with uncompiled():
            yield watch
    finally:
        for handle in handles:
            handle.remove()


def being_watched(subject: Subject) -> bool:
    """Whether some edit or capture of this model is open: each of them watches the passes."""
    hooks = subject.model.model._forward_pre_hooks.values()
    return any(isinstance(getattr(hook, "of", None), Watch) for hook in hooks)


class Reach:
    """Which of the wanted positions were met, by the scopes that name positions.

    Passes that continue each other, under a KV cache or without, are one run. A run that begins anew has to reach all
    positions once more; what it finds in the cache was met when that was made.

    Args:
        wanted: (B, k), negative where nothing is wanted.
        onwards: a later position does as well.
    """

    def __init__(self, wanted: Tensor, *, onwards: bool) -> None:
        self.wanted, self.onwards = wanted, onwards
        self.met = torch.zeros_like(wanted, dtype=torch.bool)
        self.missed = torch.zeros_like(self.met)
        self.end: int | None = None  # columns after the last pass
        self.ids: Tensor | None = None  # its tokens

    def see(self, now: Pass) -> None:
        device = now.positions.device
        self.wanted, self.met, self.missed = (x.to(device) for x in (self.wanted, self.met, self.missed))
        if self.end not in (None, now.cached):
            if not now.cached and not self._grown(now):
                self.missed |= ~self.met
            in_cache = (now.so_far[:, : now.cached] >= 0).sum(1)
            self.met &= self.wanted < in_cache[:, None]
        here, wanted = now.positions[:, :, None], self.wanted[:, None]
        self.met |= (here >= wanted if self.onwards else here == wanted).logical_and(here >= 0).any(1)
        self.end, self.ids = now.so_far.shape[1], now.input_ids

    def _grown(self, now: Pass) -> bool:
        """Whether it is the last pass's text with more to it: generation without a cache runs it all again."""
        before, ids = self.ids, now.input_ids
        if before is None or ids is None or len(before) != len(ids) or before.shape[1] >= ids.shape[1]:
            return False
        return torch.equal(before, ids[:, : before.shape[1]])

    def never(self) -> Tensor:
        """(B, k), where a wanted position was not met, in the last run or in one before."""
        return (self.missed | ~self.met) & (self.wanted >= 0)


def _read_pass(given: Mapping[str, Any]) -> Pass:
    input_ids, mask, cache = (given.get(name) for name in ("input_ids", "attention_mask", "past_key_values"))
    source = input_ids if input_ids is not None else given.get("inputs_embeds")
    if not isinstance(source, Tensor) or source.ndim != (2 if input_ids is not None else 3):
        raise MechinterpError("the model was given neither token ids (rows, columns) nor embeddings (rows, columns, n)")
    if cache is not None and not hasattr(cache, "get_seq_length"):
        raise MechinterpError(f"past_key_values: expected a Cache of transformers, got a {type(cache).__name__}")
    new = source.shape[1]
    cached = int(cache.get_seq_length()) if cache is not None else 0
    real = _real(mask, source, cached)
    columns = torch.where(real, real.long().cumsum(1) - 1, -1)
    positions = columns[:, columns.shape[1] - new :]
    _check_position_ids(given.get("position_ids"), positions)
    return Pass(positions, real.long().argmax(1), input_ids, columns)


def _real(mask: Any, source: Tensor, cached: int) -> Tensor:
    """(B, cached + T) whether a column is a token, not padding."""
    rows, new = source.shape[:2]
    if mask is None:
        return torch.ones(rows, cached + new, dtype=torch.bool, device=source.device)
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        raise MechinterpError("the attention mask must be (rows, columns); a prepared 4-D mask hides the padding")
    if len(mask) != rows or mask.shape[1] < cached + new:
        raise MechinterpError(
            f"the attention mask has {len(mask)} rows and {mask.shape[1]} columns; it must have {rows} rows and cover "
            f"{cached} cached and {new} new columns"
        )
    mask = mask[:, : cached + new]
    if not ((mask == 0) | (mask == 1)).all():
        raise MechinterpError("the attention mask must be of ones for tokens and zeros for padding")
    return mask.bool()


def _check_position_ids(given: Any, positions: Tensor) -> None:
    """Several texts in one row count from 0 more than once: a position would not say which is meant."""
    if given is None:
        return
    if not isinstance(given, Tensor) or given.shape[-1:] != positions.shape[1:] or given.ndim > 2:
        raise MechinterpError("position_ids: expected (rows, columns), one for each token id")
    real = positions >= 0
    shift = (given.to(positions.device) - positions).expand(positions.shape)
    least = torch.where(real, shift, shift.amax() + 1).amin(1, keepdim=True)
    if (real & (shift != least)).any():
        raise MechinterpError("position_ids: they must rise by one from token to token; give one text a row")
