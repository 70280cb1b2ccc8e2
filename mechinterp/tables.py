"""Interventions as the tables that rows are edited by.

tables_of  interventions -> their tables by place, checked against the model
begins     the first place that an intervention touches
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError
from mechinterp.freezing import Freeze, held
from mechinterp.interventions import (
    AblateHeads,
    AblateNeurons,
    Intervention,
    Steer,
    Transplant,
    TransplantHeads,
    parts,
)
from mechinterp.positions import At, Scope, bare
from mechinterp.replacements import (
    check_value,
    fit_scope,
    head_features,
    neuron_features,
    one_place_a_slot,
    steering_vector,
)
from mechinterp.row_edits import HEADS, KINDS, NEURONS, RESIDUAL, Edits, Frozen, Place, Swapped, Table
from mechinterp.shadow import change_of
from mechinterp.subject import Subject
from mechinterp.transplants import check_donor


def tables_of(
    subject: Subject, interventions: Sequence[Intervention | None], *, scope: Scope, slots: Sequence[Tensor]
) -> dict[Place, list[Edits]]:
    """Tables by place.

    Args:
        slots: what the scope says of each prompt; resample values need a row for each, and a slot for each of its.

    Raises:
        MechinterpError: an intervention that the model cannot have, values for other prompts, or for another scope.
    """
    tables: dict[Place, list[Edits]] = defaultdict(list)

    def add(place: Place, numbers: Iterable[int], chosen: Tensor | None, values: Tensor) -> None:
        numbers, to = list(numbers), subject.device
        of = torch.full((len(interventions),), -1)
        of[numbers] = torch.arange(len(numbers))
        chosen = None if chosen is None else chosen.to(to)
        tables[place].append(Table(of.to(to), chosen, values.to(to, subject.model.dtype)))

    added: dict[Place, dict[int, Tensor]] = defaultdict(dict)
    replaced: dict[tuple[Place, int], _Replaced] = {}  # those with the same values are edited at once
    frozen: dict[Place, dict[int, list[int]]] = defaultdict(dict)
    swapped: dict[tuple[Place, int], _Exchanged] = {}
    for number, one in enumerate(interventions):
        taken: dict[Place, set[int]] = defaultdict(set)
        for part in parts(one):
            if isinstance(part, Freeze):
                continue
            if isinstance(part, Steer):
                vector = steering_vector(subject, part.layer, part.vector, part.coefficient)
                here = Place(part.layer, RESIDUAL)
                added[here][number] = added[here].get(number, 0) + vector
                continue
            for place, features, values in _replacements(subject, part):
                if taken[place] & set(features):
                    raise MechinterpError(f"a tuple of interventions replaces the same in layer {place.layer} twice")
                taken[place].update(features)
                if isinstance(part, Transplant):
                    other = swapped.setdefault((place, id(part.reference)), _Exchanged(part.reference))
                    other.features[number] += features
                    continue
                known = replaced.setdefault((place, id(values)), _Replaced(values))
                known.features[number] += features
        if any(isinstance(part, Freeze) for part in parts(one)):
            for place, features in held(subject, parts(one)).items():
                frozen[place][number] = features
    for place, vectors in added.items():
        add(place, vectors, None, torch.stack(list(vectors.values())))
    for (place, _), these in replaced.items():
        new = _checked(subject, place, these.values, scope, slots)
        add(place, these.features, _chosen(subject, place, these.features), new)
    for (place, _), those in swapped.items():
        tables[place].append(_swapped(subject, place, those, len(interventions)))
    for place, by_number in frozen.items():
        of = torch.full((len(interventions),), -1)
        of[list(by_number)] = torch.arange(len(by_number))
        chosen = _chosen(subject, place, by_number)
        held_there = Frozen(of.to(subject.device), chosen.to(subject.device))
        tables[place].insert(0, held_there)  # before the edits: what is edited beside it is not undone
    return tables


def _chosen(subject: Subject, place: Place, by_number: Mapping[int, list[int]]) -> Tensor:
    """(interventions that act here, features)."""
    chosen = torch.zeros(len(by_number), place.width(subject.anatomy), dtype=torch.bool)
    for row, features in zip(chosen, by_number.values(), strict=True):
        row[features] = True
    return chosen


@dataclass(eq=False)
class _Replaced:
    """By number of the intervention, the inputs of one place that it replaces by these values."""

    values: Tensor | None
    features: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))


@dataclass(eq=False)
class _Exchanged:
    """By number of the intervention, the inputs of one place that are read and written by a reference's weights."""

    reference: Subject
    features: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))


def _swapped(subject: Subject, place: Place, these: _Exchanged, interventions: int) -> Swapped:
    check_donor(subject, these.reference)
    of = torch.full((interventions,), -1)
    of[list(these.features)] = torch.arange(len(these.features))
    chosen = _chosen(subject, place, these.features)
    features = chosen.any(0).nonzero()[:, 0]
    ours, theirs = (place.module(one.anatomy) for one in (subject, these.reference))
    change = change_of(ours, theirs, features)
    reads = these.reference if place.kind == HEADS else None
    to = subject.device
    return Swapped(of.to(to), features.to(to), chosen[:, features].to(to), change, reads)


def _replacements(
    subject: Subject, part: AblateHeads | AblateNeurons | Transplant
) -> Iterator[tuple[Place, list[int], Tensor | None]]:
    if isinstance(part, AblateHeads | TransplantHeads):
        kind, features = HEADS, head_features(subject, part.heads)
    else:
        kind, features = NEURONS, neuron_features(subject, part.neurons)
    if isinstance(part, Transplant):
        yield from ((Place(layer, kind), these, None) for layer, these in features.items())
        return
    for layer, these in features.items():
        if part.values is not None and (not isinstance(part.values, Mapping) or part.values.get(layer) is None):
            check_value(subject, part.values, layer, KINDS[kind])  # says what there is
        yield Place(layer, kind), these, None if part.values is None else part.values[layer]


def _checked(subject: Subject, place: Place, given: Tensor | None, scope: Scope, slots: Sequence[Tensor]) -> Tensor:
    if given is None:
        return torch.zeros(())
    what = KINDS[place.kind]
    name, values = (
        f"values for the {what} of layer {place.layer}",
        check_value(subject, {place.layer: given}, place.layer, what),
    )
    if values.ndim == 3:
        if len(values) != len(slots):
            raise MechinterpError(f"{name}: {len(values)} rows for {len(slots)} prompts")
        fit_scope(scope, values, name)
        for row, said in zip(values, slots, strict=True) if not isinstance(bare(scope), At) else ():
            one_place_a_slot(said[None], row[None], name)
    return values


def begins(intervention: Intervention) -> Place:
    """The first place that it touches. Raises MechinterpError for what holds parts and edits none."""
    edits = [_begins(part) for part in parts(intervention) if not isinstance(part, Freeze)]
    if not edits:
        raise MechinterpError("Freeze: alone it edits nothing; give it in a tuple with an edit, or see direct")
    return min(edits)


def _begins(part: AblateHeads | AblateNeurons | Steer | Transplant) -> Place:
    if isinstance(part, Steer):
        return Place(part.layer, RESIDUAL)
    if isinstance(part, AblateHeads | TransplantHeads):
        return Place(min((layer for layer, _ in part.heads), default=0), HEADS)
    return Place(min((layer for layer, _ in part.neurons), default=0), NEURONS)
