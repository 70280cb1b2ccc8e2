"""Attention of many rows over the prefixes that they share.

shared_prefix   a block in which a model's attention layers do so

The rows come in rounds: one row for each prompt, then the next one for each. A row's queries see the keys of its
prompt's prefix, which are there once, and those of its own columns, which follow them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from mechinterp.subject import Subject, attention_by

_NAME = "shared_prefix"


@dataclass(frozen=True, eq=False)
class Prefix:
    """By layer the keys and values of the prompts' first T tokens, (prompts, n_kv_heads, T, d_head); no padding."""

    keys: Sequence[Tensor] | Mapping[int, Tensor]
    values: Sequence[Tensor] | Mapping[int, Tensor]


_prefix: ContextVar[Prefix | None] = ContextVar("prefix")


@contextmanager
def shared_prefix(subject: Subject, prefix: Prefix | None) -> Iterator[None]:
    """Rows that all begin with `prefix`, or (None) with their first token."""
    token = _prefix.set(prefix)
    try:
        with attention_by(subject, _NAME):
            yield
    finally:
        _prefix.reset(token)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scaling: float, **kwargs: Any
) -> tuple[Tensor, None]:
    """query (R, n_heads, S, d_head), key and value (R, n_kv_heads, S, d_head) -> (R, S, n_heads, d_head)."""
    prefix, window = _prefix.get(), kwargs.get("sliding_window")
    if prefix is not None:
        layer: int = module.layer_idx  # type: ignore[assignment]
        mixed = _over_prefix(query, key, value, prefix.keys[layer], prefix.values[layer], scaling, window)
    else:
        steps = query.shape[2]
        near = None if not window or steps <= window else _allowed(0, steps, window, query.device)
        mixed = scaled_dot_product_attention(
            query, key, value, attn_mask=near, is_causal=near is None, scale=scaling, enable_gqa=True
        )
    return mixed.transpose(1, 2).contiguous(), None


def _over_prefix(
    query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, scaling: float, window: int | None
) -> Tensor:
    prompts, kv_heads, width, d_head = keys.shape
    steps, rounds = query.shape[2], len(query) // prompts
    grouped = (query.float() * scaling).reshape(rounds, prompts, kv_heads, -1, d_head)  # a group's heads and columns
    # Every query of a prompt meets the same keys: one product for all rows.
    together = grouped.permute(1, 2, 0, 3, 4).flatten(2, 3)  # (prompts, n_kv_heads, rounds * queries, d_head)
    before = together @ keys.float().transpose(-1, -2)
    before = before.unflatten(2, (rounds, -1)).permute(2, 0, 1, 3, 4).flatten(0, 1)  # (R, n_kv_heads, queries, width)
    own = grouped.flatten(0, 1) @ key.float().transpose(-1, -2)  # (R, n_kv_heads, queries, S)
    scores = torch.cat([before, own], dim=-1).unflatten(2, (-1, steps))
    if steps > 1 or (window and width >= window):
        scores.masked_fill_(~_allowed(width, steps, window, query.device), float("-inf"))
    weights = scores.softmax(-1).flatten(2, 3)
    there = weights[..., :width].unflatten(0, (rounds, prompts)).permute(1, 2, 0, 3, 4).flatten(2, 3) @ values.float()
    there = there.unflatten(2, (rounds, -1)).permute(2, 0, 1, 3, 4).flatten(0, 1)
    mixed = there + weights[..., width:] @ value.float()
    return mixed.unflatten(2, (-1, steps)).flatten(1, 2).to(query.dtype)


def _allowed(width: int, steps: int, window: int | None, device: torch.device) -> Tensor:
    """(S, T + S): not in the future, and within the sliding window if there is one."""
    distance = torch.arange(width, width + steps, device=device)[:, None] - torch.arange(width + steps, device=device)
    return (distance >= 0) & (distance < (window or width + steps))


AttentionInterface.register(_NAME, _attend)
