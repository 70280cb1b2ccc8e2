"""Where an edit acts while the model runs.

Edit     how often it fired
Aim      the positions of the running pass that a scope selects
aiming   the block of an edit; left without an error, it checks that the edit acted
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mechinterp.evidence import InstrumentError
from mechinterp.passes import Pass, Watch, watch_passes
from mechinterp.positions import Maybe, Scope, checked_scope, reach_of, slots_of
from mechinterp.subject import Subject


@dataclass
class Edit:
    """How often an intervention fired.

    Attributes:
        passes: forward passes seen by each edited layer.
        positions: token positions edited in each layer, over all rows and passes.
    """

    passes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    positions: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def require(self, positions: int) -> None:
        """Raise InstrumentError unless every edited layer was edited at exactly this many positions."""
        for layer in self.passes:
            if self.positions[layer] != positions:
                raise InstrumentError(
                    f"the edit in layer {layer} fired at {self.positions[layer]} positions, expected {positions}"
                )
        if not self.passes:
            raise InstrumentError("the edit never ran: no forward pass inside the with block")


class Aim:
    """Where a scope says that the running pass is to be edited, and what has come of it."""

    def __init__(self, watch: Watch, scope: Scope, layers: Iterable[int]) -> None:
        self.watch, self.scope, self.layers, self.edit = watch, checked_scope(scope), list(layers), Edit()
        self.reach = reach_of(scope)
        self.seen: Pass | None = None

    def chosen(self, layer: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, columns and slots to edit in this pass, each (edited,)."""
        now = self.watch.now()
        if now is not self.seen:
            self.seen, self.slots = now, slots_of(self.scope, now)  # (B, T)
            self.rows, self.places = (self.slots >= 0).nonzero(as_tuple=True)
            if self.reach is not None:
                self.reach.see(now)
        self.edit.passes[layer] += 1
        self.edit.positions[layer] += self.rows.numel()
        slots = self.slots[self.rows, self.places]
        return self.rows.to(device), self.places.to(device), slots.to(device)

    def check(self) -> None:
        """Raise InstrumentError where passes were run and the edit did not act as it was said."""
        if not self.watch.completed:
            return
        for layer in self.layers:
            if not self.edit.passes[layer]:
                raise InstrumentError(f"the edit in layer {layer} never ran: its hook was not called in any pass")
        if self.reach is not None and (never := self.reach.never()).any():
            row, slot = never.nonzero()[0].tolist()
            position = int(self.reach.wanted[row, slot])
            raise InstrumentError(
                f"the edit never fired at position {position} of row {row} ({int(never.sum())} such): the row did not "
                "reach it in every run; give positions that there are, or maybe(scope)"
            )
        for layer, fired in self.edit.positions.items():
            if not fired:
                raise InstrumentError(
                    f"the edit in layer {layer} never fired: its scope selected no token in {self.edit.passes[layer]} "
                    "passes; give another one, or maybe(scope)"
                )


@contextmanager
def aiming(subject: Subject, scope: Scope, layers: Iterable[int]) -> Iterator[Aim]:
    """The block of an edit; left without an error, it checks that the edit acted."""
    with watch_passes(subject) as watch:
        aim = Aim(watch, scope, layers)
        yield aim
        if not isinstance(scope, Maybe):
            aim.check()
