"""Edits of a batch in which every row is under an intervention of its own.

Rows       of each row of a batch: its intervention, its prompt, and where it is edited
Table      what the interventions do at one place of the model
Frozen     what they hold there at what it is in the clean run
Swapped    what they read and write there through another subject's weights
RowEditor  applies tables to the rows that the model is being called with
edit_rows  a block with hooks in which it does so
"""

from __future__ import annotations

from collections.abc import Iterator
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
QUERIES, KEYS = 3, 4
"""Outputs of `q_proj` and `k_proj`: no edit begins there, but they may be held."""
KINDS = ("heads", "neurons", "residual", "queries", "keys")


class Place(NamedTuple):
    layer: int
    kind: int

    @property
    def is_input(self) -> bool:
        """Whether it is what its module reads, and not what it writes."""
        return self.kind in (HEADS, NEURONS)

    def module(self, anatomy: Anatomy) -> nn.Module:
        """What reads it, or writes it."""
        if self.kind == RESIDUAL:
            return anatomy.layers[self.layer]
        attention: Any = anatomy.attention(self.layer)
        if self.kind in (QUERIES, KEYS):
            return attention.q_proj if self.kind == QUERIES else attention.k_proj
        return anatomy.o_proj(self.layer) if self.kind == HEADS else anatomy.down_proj(self.layer)

    def width(self, anatomy: Anatomy) -> int:
        """Its features."""
        if self.kind == RESIDUAL:
            return anatomy.d_model
        if self.kind == NEURONS:
            return anatomy.d_mlp
        return (anatomy.n_kv_heads if self.kind == KEYS else anatomy.n_heads) * anatomy.d_head


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


@dataclass(frozen=True, eq=False)
class Frozen:
    """K of the interventions hold features of one place at what they are in the clean run.

    Attributes:
        of: (interventions,) which of the K, -1 for an intervention that holds nothing here.
        chosen: (K, features).
        clean: (P, C, features) of the prompts that the rows stand in rounds of; None where rows have no clean run.
    """

    of: Tensor
    chosen: Tensor
    clean: Tensor | None = None

    def edit(self, inputs: Tensor, rows: Rows) -> Tensor:
        which = self.of.to(inputs.device)[rows.under]
        if self.clean is None:
            raise MechinterpError("Freeze: these rows have no clean run to be held at")
        if not (which >= 0).any():
            return inputs
        chosen = self.chosen.to(inputs.device)[which] & (which >= 0)[:, None]  # (R, features)
        prompts, columns = len(self.clean), inputs.shape[1]
        by_round = inputs.unflatten(0, (-1, prompts))
        held = torch.where(
            chosen.unflatten(0, (-1, prompts))[:, :, None], self.clean[:, -columns:].to(inputs), by_round
        )
        return held.flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Swapped:
    """K of the interventions read some features of one place, and write them, through a reference's weights.

    Attributes:
        of: (interventions,) which of the K, -1 for an intervention that does nothing here.
        features: (m,) those that any of them exchanges.
        chosen: (K, m) which of these each one does.
        change: (m, d_model) what they write with the reference's weights beyond what they write with the subject's.
        reference: whose heads read; None for neurons, which fire as they do.
        reads: (R, S, features) what the rows that are edited next read out with the reference's weights.
    """

    of: Tensor
    features: Tensor
    chosen: Tensor
    change: Tensor
    reference: Subject | None = None
    reads: Tensor | None = None

    def there(self, rows: Rows, device: torch.device) -> Tensor:
        """(R, S, m), whether it is exchanged."""
        which = self.of.to(device)[rows.under]
        chosen = self.chosen.to(device)[which] & (which >= 0)[:, None]
        return chosen[:, None] & (rows.slots >= 0)[..., None].to(device)

    def edit(self, inputs: Tensor, rows: Rows) -> Tensor:
        there = self.there(rows, inputs.device)
        if self.reference is None or not there.any():
            return inputs
        if self.reads is None or len(self.reads) != len(inputs):
            raise MechinterpError("TransplantHeads: these rows have nothing read by the reference's weights")
        on, inputs = self.features.to(inputs.device), inputs.clone()
        inputs[..., on] = torch.where(there, self.reads[:, -inputs.shape[1] :][..., on].to(inputs), inputs[..., on])
        return inputs

    def write(self, inputs: Tensor, outputs: Tensor, rows: Rows) -> Tensor:
        """What the place's module has written of `inputs`, with the reference's weights where they are exchanged."""
        there = self.there(rows, inputs.device)
        if not there.any():
            return outputs
        read = inputs[..., self.features.to(inputs.device)].float() * there
        return (outputs.float() + (read @ self.change.to(inputs.device)).to(outputs.device)).to(outputs)


Edits = Table | Frozen | Swapped


@dataclass(eq=False)
class RowEditor:
    """Set `rows` before each call of the model, or of a part of it."""

    tables: dict[Place, list[Edits]]
    rows: Rows

    def edit(self, place: Place, inputs: Tensor) -> Tensor:
        for table in self.tables.get(place, ()):
            inputs = table.edit(inputs, self.rows)
        return inputs

    def write(self, place: Place, inputs: Tensor, outputs: Tensor) -> Tensor:
        """What the module of a place writes, where some of it is written by other weights."""
        for table in self.swaps(place):
            outputs = table.write(inputs, outputs, self.rows)
        return outputs

    def swaps(self, place: Place) -> list[Swapped]:
        return [table for table in self.tables.get(place, ()) if isinstance(table, Swapped)]


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

            def written(module: nn.Module, args: Any, output: Tensor, place: Place = place) -> Tensor:
                return editor.write(place, args[0], output)

            module = place.module(subject.anatomy)
            if editor.swaps(place):
                stack.callback(module.register_forward_hook(written).remove)
            if place.is_input:
                stack.callback(module.register_forward_pre_hook(before).remove)
            else:
                stack.callback(module.register_forward_hook(after).remove)
        yield
