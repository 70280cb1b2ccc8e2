"""Sequences that begin alike, run once up to where they part.

resumed   sequences -> batches of their ends, each with the keys and values of what stands before
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from tqdm import tqdm
from transformers import DynamicCache

from mechinterp.errors import MechinterpError
from mechinterp.given import whole_number, whole_numbers
from mechinterp.subject import Subject
from mechinterp.tokens import Batch, pad, token_ids

LEAST = 0.5
"""Sequences of one length that share this much are run together."""


@dataclass
class _Family:
    """Sequences of one length, and how many tokens of them need to be run only once."""

    rows: list[int]
    shared: int


def resumed(
    subject: Subject,
    sequences: Sequence[Sequence[int]],
    first: Sequence[int],
    *,
    size: int = 16,
    progress: str | None = None,
) -> Iterator[tuple[list[int], Batch]]:
    """Batches as `batches` gives them, of the ends of the sequences only, to be run once each.

    What stands before an end is run here, once for all sequences that share it; positions, attention and logits are
    those of the whole sequences. For what is read near the end of texts that differ in their last line.

    Args:
        first: of each sequence the first position that has to be in its end.
        size: at most so many beginnings at a time, with all sequences that share one.

    Raises:
        MechinterpError: as `token_ids`, or positions that are not of the sequences.
    """
    sequences = token_ids(subject, sequences)
    size = whole_number(size, "resumed: size", least=1)
    starts = whole_numbers(first, "resumed: first", ("sequences",)).tolist()
    if len(starts) != len(sequences) or any(not 0 <= s < len(q) for s, q in zip(starts, sequences, strict=False)):
        raise MechinterpError(
            f"resumed: first: expected a position of each of the {len(sequences)} sequences, got {len(starts)}: "
            "give one that is at least 0 and less than the sequence's length"
        )
    families = sorted(_families(sequences, starts), key=lambda one: len(sequences[one.rows[0]]) - one.shared)
    with tqdm(total=len(sequences), desc=progress, unit="seq", disable=None if progress else True, leave=False) as bar:
        for begin in range(0, len(families), size):
            chunk = families[begin : begin + size]
            rows = [row for family in chunk for row in family.rows]
            yield rows, _ends(subject, sequences, chunk)
            bar.update(len(rows))


def _families(sequences: list[list[int]], first: list[int]) -> list[_Family]:
    """In order of length and tokens, neighbours that share enough."""
    found: list[_Family] = []
    for row in sorted(range(len(sequences)), key=lambda i: (len(sequences[i]), sequences[i])):
        mine = sequences[row]
        if found and len(sequences[found[-1].rows[0]]) == len(mine):
            family = found[-1]
            pairs = zip(sequences[family.rows[0]], mine, strict=True)
            alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            shared = min(family.shared, alike, first[row])
            if shared >= LEAST * len(mine):
                family.rows.append(row)
                family.shared = shared
                continue
        found.append(_Family([row], first[row]))
    return found


@torch.no_grad()
def _ends(subject: Subject, sequences: list[list[int]], chunk: list[_Family]) -> Batch:
    """Ends of one length, so that no padding stands between them and what is before."""
    tail = max(len(sequences[family.rows[0]]) - family.shared for family in chunk)
    beginnings = [sequences[family.rows[0]][:-tail] for family in chunk]
    rows = [row for family in chunk for row in family.rows]
    if not all(beginnings):
        return pad(subject, [sequences[row] for row in rows])
    before = pad(subject, beginnings)
    cache = DynamicCache()  # without the configuration: layers with a sliding window, too, keep every key
    subject.model.model(**before.inputs(), past_key_values=cache, use_cache=True)
    of = torch.tensor([number for number, family in enumerate(chunk) for _ in family.rows], device=subject.device)
    cache.batch_select_indices(of)
    ids = torch.tensor([sequences[row][-tail:] for row in rows], device=subject.device)
    mask = torch.cat([before.attention_mask[of], torch.ones_like(ids)], dim=1)
    return Batch(ids, mask, mask.cumsum(1)[:, -tail:] - 1, cache)
