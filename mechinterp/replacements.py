"""What an intervention puts where, checked against a model.

Head, Neuron     (layer, head) and (layer, neuron)
head_features     by layer, the inputs of `o_proj` that are the outputs of these heads
neuron_features   by layer, the inputs of `down_proj` that are these neurons
check_value      what replaces them in one layer, as a flat tensor
fit_scope        refuses values slot by slot under a scope that does not say which slot goes where
one_place_a_slot the same of what a scope has said
steering_vector  what is added to the residual stream
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError, quote
from mechinterp.given import pairs, real_numbers
from mechinterp.positions import At, Scope, Since, WhenLastIs, bare, everywhere, last
from mechinterp.subject import Subject, check_subject

Head = tuple[int, int]
Neuron = tuple[int, int]


def head_features(subject: Subject, heads: Iterable[Head]) -> dict[int, list[int]]:
    """Raises MechinterpError for no heads, or one that the model does not have."""
    check_subject(subject)
    anatomy = subject.anatomy
    features: dict[int, list[int]] = defaultdict(list)
    for layer, head in sorted(pairs(heads, "heads")):
        anatomy.check_head(layer, head)
        features[layer] += range(head * anatomy.d_head, (head + 1) * anatomy.d_head)
    return _some(features, "heads")


def neuron_features(subject: Subject, neurons: Iterable[Neuron]) -> dict[int, list[int]]:
    """Raises MechinterpError for no neurons, or one that the model does not have."""
    check_subject(subject)
    features: dict[int, list[int]] = defaultdict(list)
    for layer, neuron in sorted(pairs(neurons, "neurons")):
        subject.anatomy.check_neuron(layer, neuron)
        features[layer].append(neuron)
    return _some(features, "neurons")


def _some(features: dict[int, list[int]], what: str) -> dict[int, list[int]]:
    if not features:
        raise MechinterpError(f"ablate_{what}: no {what} were given; an empty ablation would measure nothing")
    return features


def check_value(subject: Subject, values: Mapping[int, Any], layer: int, what: str) -> Tensor:
    """The values of one layer: (features,) for all positions, or (rows, k, features), slot by slot."""
    if not isinstance(values, Mapping):
        raise MechinterpError(f"values for the {what}: expected a mapping from layers to tensors, got {quote(values)}")
    anatomy, given = subject.anatomy, values.get(layer)
    unit = (anatomy.n_heads, anatomy.d_head) if what == "heads" else (anatomy.d_mlp,)
    if given is None:
        raise MechinterpError(
            f"values for the {what}: none for layer {layer}, only for layers {sorted(values, key=repr)}"
        )
    name = f"values for the {what} of layer {layer}"
    new = real_numbers(given, name)
    if new.ndim not in (len(unit), len(unit) + 2) or tuple(new.shape[-len(unit) :]) != unit or not new.numel():
        raise MechinterpError(
            f"{name}: expected {unit} for all positions or (rows, k, ...) slot by slot, got shape {tuple(new.shape)}"
        )
    if not torch.isfinite(new.to(subject.model.dtype)).all():
        raise MechinterpError(f"{name}: not finite in the model's {subject.model.dtype}")
    return new.flatten(-len(unit))


def fit_scope(scope: Scope, new: Tensor, name: str) -> None:
    """Raises MechinterpError for (rows, k, features) where the scope has other slots, or none of its own.

    Values of one slot may stand at the last token, which is one a row. What a scope of the user's own says is seen
    when it says it, see `one_place_a_slot`.
    """
    if new.ndim != 3:
        return
    rows, slots = new.shape[:2]
    within = bare(scope)
    if isinstance(within, At):
        if within.positions.shape != (rows, slots):
            theirs = tuple(within.positions.shape)
            raise MechinterpError(f"{name}: {rows} rows and {slots} slots, but the scope at(positions) has {theirs}")
        _same_where_named_twice(within.positions, new, name)
    elif within in (everywhere, last) or isinstance(within, Since | WhenLastIs):
        if within is last and slots == 1:
            return
        kind = getattr(within, "__name__", None) or {Since: "since", WhenLastIs: "when_last_is"}[type(within)]
        raise MechinterpError(
            f"{name}: {rows} rows and {slots} slots, but the scope {kind} does not say which slot goes where; "
            "name the positions with at(positions)"
        )


def one_place_a_slot(slots: Tensor, new: Tensor, name: str) -> None:
    """Raises MechinterpError where slots (rows, tokens), -1 for none, do not fit values (rows, k, features)."""
    if new.ndim != 3:
        return
    most = int(slots.max())
    if new.shape[0] != slots.shape[0] or most >= new.shape[1]:
        raise MechinterpError(
            f"{name}: {tuple(new.shape[:2])} rows and slots, but this pass has {slots.shape[0]} rows and its scope "
            f"asks for slot {most}"
        )
    times = torch.zeros(len(slots), new.shape[1] + 1, dtype=torch.long, device=slots.device)
    times.scatter_add_(1, slots + 1, torch.ones_like(slots))
    if (times[:, 1:] > 1).any():
        raise MechinterpError(
            f"{name}: the scope puts one of {new.shape[1]} slots at several positions of a row; each slot is for one"
        )


def _same_where_named_twice(positions: Tensor, new: Tensor, name: str) -> None:
    same = (positions[:, :, None] == positions[:, None, :]) & (positions >= 0)[:, None, :]
    first = same.long().argmax(2)  # (rows, k) the first slot with this position
    rows, slots = (
        (first != torch.arange(first.shape[1], device=first.device)).logical_and(positions >= 0).nonzero(as_tuple=True)
    )
    if not len(rows):
        return
    firsts = first[rows, slots].to(new.device)
    rows, slots = rows.to(new.device), slots.to(new.device)
    if not torch.equal(new[rows, slots], new[rows, firsts]):
        raise MechinterpError(f"{name}: a position is named twice in a row, with different values; which is meant?")


def steering_vector(subject: Subject, layer: int, vector: Any, coefficient: float) -> Tensor:
    """`coefficient * vector`, fit for this model. Raises MechinterpError, see `steer`."""
    subject.anatomy.check_layer(layer)
    direction = real_numbers(vector, "steer: vector", finite=False)
    by = real_numbers(coefficient, "steer: coefficient", finite=False)
    if by.ndim:
        raise MechinterpError(f"steer: coefficient: expected a number, got shape {tuple(by.shape)}")
    added = by.to(direction) * direction
    if tuple(direction.shape) != (subject.anatomy.d_model,) or not torch.isfinite(added.to(subject.model.dtype)).all():
        raise MechinterpError(
            f"steer: expected a finite vector of {subject.anatomy.d_model} numbers, "
            f"got {float(by):g} times one of shape {tuple(direction.shape)}"
        )
    return added
