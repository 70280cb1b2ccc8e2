"""Token sequences in left-padded batches.

Batch            what the model is called with
pad              sequences -> one Batch
batches          sequences -> (indices, Batch) pairs of similar lengths, with a progress bar
same_length      indices of sequences that need no padding
last_logits      logits at the last real token of each row
last_columns     where that is
unembed          final hidden states -> logits
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear
from tqdm import tqdm

from mechinterp.errors import MechinterpError
from mechinterp.subject import Subject


@dataclass(frozen=True)
class Batch:
    """B rows padded on the left to T columns; positions come from the mask, so that padding shifts nothing."""

    input_ids: Tensor  # (B, T)
    attention_mask: Tensor  # (B, T)
    position_ids: Tensor  # (B, T)

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments for the model."""
        return dict(vars(self))

    def for_generate(self) -> dict[str, Tensor]:
        """Keyword arguments for `generate`, which derives positions from the mask itself."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}


def pad(subject: Subject, sequences: Sequence[Sequence[int]]) -> Batch:
    """One left-padded batch on the subject's device. Raises MechinterpError for no or empty sequences."""
    if not sequences or not all(len(s) for s in sequences):
        raise MechinterpError("expected at least one sequence, each with at least one token")
    filler = subject.tokenizer.pad_token_id
    filler = filler if filler is not None else subject.tokenizer.eos_token_id or 0
    width = max(len(s) for s in sequences)
    ids = torch.full((len(sequences), width), filler, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = torch.tensor(sequence)
        mask[row, width - len(sequence) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return Batch(ids.to(subject.device), mask.to(subject.device), positions.to(subject.device))


def batches(
    subject: Subject, sequences: Sequence[Sequence[int]], *, size: int = 16, progress: str | None = None
) -> Iterator[tuple[list[int], Batch]]:
    """Batches of at most `size` sequences of similar lengths, with the indices of their rows.

    `progress` names a progress bar on stderr (only where stderr is a terminal).
    """
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    with tqdm(total=len(order), desc=progress, unit="seq", disable=None if progress else True, leave=False) as bar:
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield rows, pad(subject, [sequences[i] for i in rows])
            bar.update(len(rows))


def same_length(sequences: Sequence[Sequence[int]], at_most: int) -> Iterator[list[int]]:
    """Indices of sequences of one length, `at_most` at a time."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, sequence in enumerate(sequences):
        by_length[len(sequence)].append(index)
    for alike in by_length.values():
        yield from (alike[first : first + at_most] for first in range(0, len(alike), at_most))


@torch.no_grad()
def last_logits(subject: Subject, batch: Batch) -> Tensor:
    """Logits at the last real token of each row, wherever its padding is: (B, vocab), fp32.

    Raises:
        MechinterpError: a row of nothing but padding.
    """
    ends = last_columns(batch.attention_mask)
    hidden = subject.model.model(**batch.inputs(), use_cache=False).last_hidden_state
    return unembed(subject, hidden[torch.arange(len(ends), device=hidden.device), ends.to(hidden.device)])


def last_columns(mask: Tensor) -> Tensor:
    """The column of each row's last real token, (B,), from an attention mask (B, T)."""
    real = mask.long() > 0
    if real.ndim != 2 or not real.any(1).all():
        raise MechinterpError("a row of the batch holds nothing but padding; it has no last token")
    return real.shape[1] - 1 - real.flip(1).long().argmax(1)


def unembed(subject: Subject, final: Tensor) -> Tensor:
    """Final hidden states (B, d_model) -> logits (B, vocab), fp32.

    Copied first: on a strided slice the unembedding would be multiplied once a row, not once.
    """
    weight = subject.anatomy.unembed.weight
    return linear(final.contiguous().to(weight.device).float(), weight.float())
