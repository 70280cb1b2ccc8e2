"""Edits of a batch in which every row is under an intervention of its own.

Rows       of each row of a batch: its intervention, its prompt, and where it is edited
Table      what the interventions do at one place of the model
RowEditor  applies tables to the rows that the model is being called with
edit_rows  a block with hooks in which it does so
prompt_slots  what a scope says of each prompt
memory_for_rows  what a batch may take
tables_of  interventions -> their tables by place, checked against the model
begins     the first place that an intervention touches
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor, nn

from mechinterp.anatomy import Anatomy
from mechinterp.errors import MechinterpError
from mechinterp.intervene import check_value, head_columns, neuron_columns, steering_vector
from mechinterp.interventions import AblateHeads, AblateNeurons, Intervention, Single, Steer, parts
from mechinterp.positions import Pass, Scope
from mechinterp.subject import Subject
from mechinterp.tokens import pad

HEADS, NEURONS, RESIDUAL = 0, 1, 2
"""Kinds of places in the order of a layer: inputs of `o_proj`, inputs of `down_proj`, the residual stream after it."""
KINDS = ("heads", "neurons", "residual")

SHARE = 0.2
"""Of the free memory that the rows of a batch may take."""


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


def begins(intervention: Intervention) -> Place:
    """The first place that it touches."""
    return min(_begins(part) for part in parts(intervention))


def _begins(part: Single) -> Place:
    if isinstance(part, Steer):
        return Place(part.layer, RESIDUAL)
    if isinstance(part, AblateHeads):
        return Place(min((layer for layer, _ in part.heads), default=0), HEADS)
    return Place(min((layer for layer, _ in part.neurons), default=0), NEURONS)


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


def prompt_slots(subject: Subject, prompts: Sequence[Sequence[int]], scope: Scope) -> list[Tensor]:
    """Of each prompt, what the scope says of its tokens, (T,)."""
    batch = pad(subject, prompts)
    real = batch.attention_mask.bool()
    slots = scope(Pass(torch.where(real, batch.position_ids, -1), batch.attention_mask.argmax(1), batch.input_ids))
    return [row[-len(prompt) :] for row, prompt in zip(slots, prompts, strict=True)]


def tables_of(
    subject: Subject, interventions: Sequence[Intervention | None], *, prompts: int
) -> dict[Place, list[Table]]:
    """Tables by place.

    Args:
        prompts: how many there are; resample values need a row for each.

    Raises:
        MechinterpError: an intervention that the model cannot have, or values for other prompts.
    """
    tables: dict[Place, list[Table]] = defaultdict(list)

    def add(place: Place, numbers: Iterable[int], chosen: Tensor | None, values: Tensor) -> None:
        numbers, to = list(numbers), subject.device
        of = torch.full((len(interventions),), -1)
        of[numbers] = torch.arange(len(numbers))
        chosen = None if chosen is None else chosen.to(to)
        tables[place].append(Table(of.to(to), chosen, values.to(to, subject.model.dtype)))

    added: dict[Place, dict[int, Tensor]] = defaultdict(dict)
    replaced: dict[tuple[Place, int], _Replaced] = {}  # those with the same values are edited at once
    for number, one in enumerate(interventions):
        taken: dict[Place, set[int]] = defaultdict(set)
        for part in parts(one):
            if isinstance(part, Steer):
                here, vector = (
                    Place(part.layer, RESIDUAL),
                    steering_vector(subject, part.layer, part.vector, part.coefficient),
                )
                added[here][number] = added[here].get(number, 0) + vector
                continue
            for place, columns, values in _replacements(subject, part):
                if taken[place] & set(columns):
                    raise MechinterpError(f"a tuple of interventions replaces the same in layer {place.layer} twice")
                taken[place].update(columns)
                known = replaced.setdefault((place, id(values)), _Replaced(values))
                known.columns[number] += columns
    for place, vectors in added.items():
        add(place, vectors, None, torch.stack(list(vectors.values())))
    for (place, _), these in replaced.items():
        new = _checked(subject, place, these.values, prompts)
        chosen = torch.zeros(len(these.columns), place.reader(subject.anatomy).in_features, dtype=torch.bool)
        for row, columns in zip(chosen, these.columns.values(), strict=True):
            row[columns] = True
        add(place, these.columns, chosen, new)
    return tables


@dataclass(eq=False)
class _Replaced:
    """By number of the intervention, the inputs of one place that it replaces by these values."""

    values: Tensor | None
    columns: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))


def _replacements(
    subject: Subject, part: AblateHeads | AblateNeurons
) -> Iterator[tuple[Place, list[int], Tensor | None]]:
    if isinstance(part, AblateHeads):
        kind, columns = HEADS, head_columns(subject, part.heads)
    else:
        kind, columns = NEURONS, neuron_columns(subject, part.neurons)
    for layer, these in columns.items():
        if part.values is not None and layer not in part.values:
            check_value(subject, part.values, layer, KINDS[kind])
        yield Place(layer, kind), these, None if part.values is None else part.values[layer]


def _checked(subject: Subject, place: Place, given: Tensor | None, prompts: int) -> Tensor:
    if given is None:
        return torch.zeros(())
    what = KINDS[place.kind]
    values = check_value(subject, {place.layer: given}, place.layer, what)
    if values.ndim == 3 and len(values) != prompts:
        raise MechinterpError(f"values for the {what} of layer {place.layer}: {len(values)} rows for {prompts} prompts")
    return values


def memory_for_rows(subject: Subject, most: int) -> float:
    """Bytes, at most `most`: beyond some size larger batches are no faster."""
    on_cpu = subject.device.type == "cpu"
    free = psutil.virtual_memory().available if on_cpu else torch.cuda.mem_get_info(subject.device)[0]
    return min(SHARE * free, most)
