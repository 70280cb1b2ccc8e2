"""Edits of a batch in which every row is under an intervention of its own.

Rows       of each row of a batch: its intervention, its prompt, and where it is edited
Table      what the interventions do at one place of the model
tables_of  interventions -> their tables by place, checked against the model
begins     the first place that an intervention touches
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError
from mechinterp.intervene import check_values, head_columns, neuron_columns, steering_vector
from mechinterp.interventions import AblateHeads, Intervention, Steer
from mechinterp.subject import Subject

HEADS, NEURONS, RESIDUAL = 0, 1, 2
"""Kinds of places in the order of a layer: inputs of `o_proj`, inputs of `down_proj`, the residual stream after it."""


class Place(NamedTuple):
    layer: int
    kind: int


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
            new = new[rows.prompt[here][:, None], slots.clamp(min=0)] if new.ndim == 3 else new
            after = torch.where(chosen, new, before)
        if everyone:
            return after
        inputs = inputs.clone()
        inputs[here] = after
        return inputs


def begins(intervention: Intervention) -> Place:
    """The first place that it touches."""
    if isinstance(intervention, Steer):
        return Place(intervention.layer, RESIDUAL)
    if isinstance(intervention, AblateHeads):
        return Place(min((layer for layer, _ in intervention.heads), default=0), HEADS)
    return Place(min((layer for layer, _ in intervention.neurons), default=0), NEURONS)


def tables_of(
    subject: Subject, interventions: Sequence[Intervention], *, prompts: int, slots: int
) -> dict[Place, list[Table]]:
    """Tables by place.

    Args:
        prompts, slots: how many there are; resample values need a row and a slot for each.

    Raises:
        MechinterpError: an intervention that the model cannot have, or values for other prompts.
    """
    tables: dict[Place, list[Table]] = defaultdict(list)

    def add(place: Place, numbers: list[int], chosen: Tensor | None, values: Tensor) -> None:
        of = torch.full((len(interventions),), -1)
        of[numbers] = torch.arange(len(numbers))
        to = subject.device
        chosen = None if chosen is None else chosen.to(to)
        tables[place].append(Table(of.to(to), chosen, values.to(to, subject.model.dtype)))

    added: dict[Place, dict[int, Tensor]] = defaultdict(dict)
    alike: dict[tuple[type, int], list[int]] = defaultdict(list)  # those with the same values are edited at once
    for number, one in enumerate(interventions):
        if isinstance(one, Steer):
            vector = steering_vector(subject, one.layer, one.vector, one.coefficient)
            added[Place(one.layer, RESIDUAL)][number] = vector
        else:
            alike[type(one), id(one.values)].append(number)
    for place, vectors in added.items():
        add(place, list(vectors), None, torch.stack(list(vectors.values())))
    for numbers in alike.values():
        kind, what, columns = _columns(subject, [interventions[number] for number in numbers])
        given = interventions[numbers[0]].values  # type: ignore[union-attr]
        for layer, new in _values(subject, given, {layer for one in columns for layer in one}, what, prompts, slots):
            touching = [i for i, one in enumerate(columns) if layer in one]
            module = subject.anatomy.o_proj(layer) if kind == HEADS else subject.anatomy.down_proj(layer)
            chosen = torch.zeros(len(touching), module.in_features, dtype=torch.bool)
            for k, i in enumerate(touching):
                chosen[k, columns[i][layer]] = True
            add(Place(layer, kind), [numbers[i] for i in touching], chosen, new)
    return tables


def _columns(subject: Subject, alike: Sequence[Intervention]) -> tuple[int, str, list[dict[int, list[int]]]]:
    if isinstance(alike[0], AblateHeads):
        return HEADS, "heads", [head_columns(subject, one.heads) for one in alike]  # type: ignore[union-attr]
    return NEURONS, "neurons", [neuron_columns(subject, one.neurons) for one in alike]  # type: ignore[union-attr]


def _values(
    subject: Subject, given: Mapping[int, Tensor] | None, layers: set[int], what: str, prompts: int, slots: int
) -> Iterator[tuple[int, Tensor]]:
    new = check_values(subject, given, layers, what)
    for layer in sorted(layers):
        values = torch.zeros(()) if new is None else new[layer]
        if values.ndim == 3 and (len(values) != prompts or values.shape[1] < slots):
            raise MechinterpError(
                f"values for the {what} of layer {layer}: {tuple(values.shape[:2])} prompts and slots, but there are "
                f"{prompts} prompts and the scope asks for {slots} slots"
            )
        yield layer, values
