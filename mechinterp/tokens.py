"""Token sequences in left-padded batches.

Batch            what the model is called with
token_ids        sequences as lists of ids that the model knows
pad              sequences -> one Batch
batches          sequences -> (indices, Batch) pairs of similar lengths, with a progress bar
filler_of        what padding is made of
same_length      indices of sequences that need no padding
last_logits      logits at the last real token of each row
last_columns     where that is
unembed          final hidden states -> logits
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from tqdm import tqdm
from transformers import Cache

from mechinterp.errors import MechinterpError, quote
from mechinterp.given import each, whole_number, whole_numbers
from mechinterp.subject import Subject, check_subject


@dataclass(frozen=True)
class Batch:
    """B rows padded on the left to T columns; positions come from the mask, so that padding shifts nothing.

    With a cache of C columns they are the ends of longer rows, and can be run once: that adds to the cache.
    """

    input_ids: Tensor  # (B, T)
    attention_mask: Tensor  # (B, C + T)
    position_ids: Tensor  # (B, T)
    cache: Cache | None = None

    def inputs(self) -> dict[str, Any]:
        """Keyword arguments for the model.

        Raises:
            MechinterpError: a batch with a cache that was run before.
        """
        given: dict[str, Any] = {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }
        if self.cache is None:
            return given
        if self.cache.get_seq_length() != self.attention_mask.shape[1] - self.input_ids.shape[1]:
            raise MechinterpError("this batch was run before, which has added to its cache; make it anew")
        return given | {"past_key_values": self.cache}

    def for_generate(self) -> dict[str, Tensor]:
        """Keyword arguments for `generate`, which derives positions from the mask itself."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}


def token_ids(subject: Subject, sequences: Iterable[Any], what: str = "sequences") -> list[list[int]]:
    """Sequences of token ids, given as lists, arrays or tensors.

    Raises:
        MechinterpError: none, an empty one, what are no token ids, or one that the model has no embedding for.
    """
    check_subject(subject)
    rows = subject.model.get_input_embeddings().weight.shape[0]
    found = []
    for number, sequence in enumerate(each(sequences, what, "lists of token ids")):
        ids = whole_numbers(sequence, f"{what}: number {number}", ("tokens",))
        if not len(ids):
            raise MechinterpError(f"{what}: number {number} is empty; expected at least one token")
        if int(ids.min()) < 0 or int(ids.max()) >= rows:
            odd = int(ids.min() if ids.min() < 0 else ids.max())
            raise MechinterpError(f"{what}: number {number} has token id {odd}; this model has 0 to {rows - 1}")
        found.append(ids.tolist())
    if not found:
        raise MechinterpError(f"{what}: none were given; expected at least one sequence")
    return found


def pad(subject: Subject, sequences: Sequence[Sequence[int]]) -> Batch:
    """One left-padded batch on the subject's device. Raises MechinterpError as `token_ids`."""
    sequences = token_ids(subject, sequences)
    filler = filler_of(subject)
    width = max(len(s) for s in sequences)
    ids = torch.full((len(sequences), width), filler, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = torch.tensor(sequence, dtype=torch.long)
        mask[row, width - len(sequence) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return Batch(ids.to(subject.device), mask.to(subject.device), positions.to(subject.device))


def batches(
    subject: Subject, sequences: Sequence[Sequence[int]], *, size: int = 16, progress: str | None = None
) -> Iterator[tuple[list[int], Batch]]:
    """Batches of at most `size` sequences of similar lengths, with the indices of their rows.

    `progress` names a progress bar on stderr (only where stderr is a terminal). Raises MechinterpError as `token_ids`.
    """
    sequences, size = token_ids(subject, sequences), whole_number(size, "batches: size", least=1)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    with tqdm(total=len(order), desc=progress, unit="seq", disable=None if progress else True, leave=False) as bar:
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield rows, pad(subject, [sequences[i] for i in rows])
            bar.update(len(rows))


def filler_of(subject: Subject) -> int:
    """A token id that padding can be made of: some tokenizers pad with one that has no row in the embedding."""
    rows = subject.model.get_input_embeddings().weight.shape[0]
    for given in (getattr(subject.tokenizer, name, None) for name in ("pad_token_id", "eos_token_id")):
        if isinstance(given, int) and 0 <= given < rows:
            return given
    return 0


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
    check_subject(subject)
    if not isinstance(batch, Batch):
        raise MechinterpError(f"last_logits: expected a Batch, such as pad(subject, sequences), got {quote(batch)}")
    ends = last_columns(batch.attention_mask[:, -batch.input_ids.shape[1] :])
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
