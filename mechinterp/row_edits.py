"""Edits of a batch in which every row is under an intervention of its own.

Rows       of each row of a batch: its intervention, its prompt, and where it is edited
Table      what the interventions do at one place of the model
RowEditor  applies tables to the rows that the model is being called with
edit_rows  a block with hooks in which it does so
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mechinterp.anatomy import Anatomy
from mechinterp.errors import MechinterpError
from mechinterp.subject import Subject

HEADS, NEURONS, RESIDUAL = 0, 1, 2
"""Kinds of places in the order of a layer: inputs of `o_proj`, inputs of `down_proj`, the residual stream after it."""
KINDS = ("heads", "neurons", "residual")


class Place(NamedTuple):
    layer: int
    kind: int

    def reader(self, anatomy: Anatomy) -> nn.Linear:
        """What it is the input of; the residual stream has many."""
        return anatomy.o_proj(self.layer) if self.kind == HEADS else anatomy.down_proj(self.layer)


@dataclass(frozen=True, eq=False)
class Rows:
    """R rows of S columns.

    Attributes:
        under: (R,) number of the intervention.
        prompt: (R,) number of the prompt, for resample values.
        slots: (R, S) -1 where the row is left alone, as a Scope gives them.
    """

    under: Tensor
    prompt: Tensor
    slots: Tensor

    def __getitem__(self, rows: slice) -> Rows:
        return Rows(self.under[rows], self.prompt[rows], self.slots[rows])

    def to(self, device: torch.device) -> Rows:
        return Rows(self.under.to(device), self.prompt.to(device), self.slots.to(device))


@dataclass(frozen=True, eq=False)
class Table:
    """K of the interventions at one place.

    Attributes:
        of: (interventions,) which of the K, -1 for an intervention that does nothing here.
        chosen: (K, features) the inputs that are replaced; None where something is added.
        values: what is put in: (), (features,) or (prompts, k, features); or what is added, (K, features).
    """

    of: Tensor
    chosen: Tensor | None
    values: Tensor

    def edit(self, inputs: Tensor, rows: Rows) -> Tensor:
        """`inputs` (R, S, features) after the edits; the given tensor is not changed."""
        which = self.of.to(inputs.device)[rows.under]
        here = (which >= 0).nonzero()[:, 0]
        if not len(here):
            return inputs
        everyone = len(here) == len(inputs)
        which, before, slots = which[here], inputs if everyone else inputs[here], rows.slots[here]
        there = (slots >= 0)[..., None]
        new = self.values.to(inputs.device)
        if self.chosen is None:
            after = before + new[which][:, None] * there
        else:
            chosen = self.chosen.to(inputs.device)[which][:, None] & there
            if new.ndim == 3:
                if (asked := int(slots.max())) >= new.shape[1]:
                    raise MechinterpError(
                        f"resample values for {new.shape[1]} slots, but the scope asks for slot {asked}"
                    )
                new = new[rows.prompt[here][:, None], slots.clamp(min=0)]
            after = torch.where(chosen, new, before)
        if everyone:
            return after
        inputs = inputs.clone()
        inputs[here] = after
        return inputs


@dataclass(eq=False)
class RowEditor:
    """Set `rows` before each call of the model, or of a part of it."""

    tables: Mapping[Place, Sequence[Table]]
    rows: Rows

    def edit(self, place: Place, inputs: Tensor) -> Tensor:
        for table in self.tables.get(place, ()):
            inputs = table.edit(inputs, self.rows)
        return inputs


@contextmanager
def edit_rows(subject: Subject, editor: RowEditor) -> Iterator[None]:
    """Apply the editor whenever the model's parts are called."""
    with ExitStack() as stack:
        for place in editor.tables:

            def before(module: nn.Module, args: tuple[Any, ...], place: Place = place) -> tuple[Any, ...]:
                return (editor.edit(place, args[0]), *args[1:])

            def after(module: nn.Module, args: Any, output: Any, place: Place = place) -> Any:
                if isinstance(output, tuple):
                    return (editor.edit(place, output[0]), *output[1:])
                return editor.edit(place, output)

            if place.kind == RESIDUAL:
                handle = subject.anatomy.layers[place.layer].register_forward_hook(after)
            else:
                handle = place.reader(subject.anatomy).register_forward_pre_hook(before)
            stack.callback(handle.remove)
        yield
