"""Clean passes that several sweeps share.

CleanPasses   of prompts: run when they are first needed, kept as far as the memory allows
first_edited  where a scope begins in a prompt
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from mechinterp.clean import Clean, Wanted, run_clean
from mechinterp.memory import bytes_of_clean
from mechinterp.state import state_of
from mechinterp.subject import Subject
from mechinterp.tokens import same_length

PROMPTS_AT_ONCE = 16


class CleanPasses:
    """Clean passes of prompts, in groups of one length.

    Of a group that is kept, so are the activations of every layer, from one of its starts on. Those from the latest
    starts on are kept first, group by group, then those of earlier ones, as far as `most` bytes go. What is not kept is
    run again each time, for what is needed then.

    Args:
        starts: by prompt, where the scopes begin that will be asked for.
    """

    def __init__(self, subject: Subject, prompts: list[list[int]], starts: Sequence[Sequence[int]], most: int) -> None:
        self.subject, self.prompts = subject, prompts
        order = sorted(range(len(prompts)), key=lambda number: tuple(starts[number]))  # alike, so that little is wasted
        self.groups = [
            [order[i] for i in group] for group in same_length([prompts[number] for number in order], PROMPTS_AT_ONCE)
        ]
        self.keep_from = _plan(subject, prompts, self.groups, starts, most)
        self.kept: dict[int, Clean] = {}
        self.state: Any = None  # of the model when they were run

    def parts(self, numbers: Sequence[int], at_most: int | None) -> Iterator[tuple[int, list[int]]]:
        """These prompts in portions: a group, and which of its rows. To be asked for by every sweep."""
        if (state := state_of(self.subject)) != self.state:
            self.kept, self.state = {}, state
        wanted = set(numbers)
        for index, group in enumerate(self.groups):
            rows = [row for row, number in enumerate(group) if number in wanted]
            size = min(at_most or len(group), len(group))
            yield from ((index, rows[first : first + size]) for first in range(0, len(rows), size))

    def clean(self, index: int, rows: list[int], start: int, wanted: Wanted) -> Clean:
        """Of some rows of a group, what follows their token `start`."""
        group = self.groups[index]
        if not self.keep_from.get(index, start + 1) <= start:
            return run_clean(self.subject, self.prompts, [group[row] for row in rows], start, wanted)
        if index not in self.kept:
            everything = Wanted.all(self.subject.anatomy.n_layers)
            self.kept[index] = run_clean(self.subject, self.prompts, group, self.keep_from[index], everything)
        return self.kept[index].part(slice(None) if len(rows) == len(group) else rows, start)


def _plan(
    subject: Subject, prompts: list[list[int]], groups: list[list[int]], starts: Sequence[Sequence[int]], most: int
) -> dict[int, int]:
    """Of each group that is kept, from which start on."""
    plan: dict[int, int] = {}
    taken: dict[int, int] = {}
    by_group = [sorted(map(min, zip(*(starts[number] for number in group), strict=True))) for group in groups]
    for rank in range(len(starts[0])):  # the latest starts first
        for index, group in enumerate(groups):
            start = by_group[index][-1 - rank]
            size = bytes_of_clean(subject, len(group), len(prompts[group[0]]), start)
            if sum(taken.values()) - taken.get(index, 0) + size <= most:
                plan[index], taken[index] = start, size
    return plan


def first_edited(slots: Tensor) -> int:
    """Of a prompt's slots (T,), the first that is not -1; the last token where there is none."""
    edited = (slots >= 0).nonzero()
    return int(edited[0]) if len(edited) else len(slots) - 1
