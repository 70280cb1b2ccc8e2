"""Interventions: `with` blocks that stack, undo themselves on error, and say how often they fired.

ablate_heads     set the outputs of attention heads to zero, to a mean, or to those of another run
ablate_neurons   the same for MLP neurons: what a neuron writes is its activation times its value vector
steer            add a vector to the residual stream after a layer
Edit             what a block yields: how often it fired

Heads are edited at the input of `o_proj` (their O-circuit is off, attention itself is not touched), neurons at
the input of `down_proj`. Untouched positions stay bit for bit what they were.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mechinterp.errors import MechinterpError
from mechinterp.evidence import InstrumentError
from mechinterp.positions import PassWatch, Scope, everywhere, watch_passes
from mechinterp.subject import Subject

Head = tuple[int, int]
Neuron = tuple[int, int]


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


@contextmanager
def ablate_heads(
    subject: Subject,
    heads: Iterable[Head],
    *,
    values: Mapping[int, Tensor] | None = None,
    scope: Scope = everywhere,
) -> Iterator[Edit]:
    """Replace the outputs of heads (layer, head), before W_O.

    Args:
        values: None for zero ablation. A layer's (n_heads, d_head) for mean ablation, see `mean_heads`. A layer's
            (B, k, n_heads, d_head) for resample ablation, slot by slot of an `at` scope, as `capture` gives them.
        scope: where, see `mechinterp.positions`.

    Raises:
        MechinterpError: no heads, or one that the model does not have, or values of another shape.
    """
    columns = head_columns(subject, heads)
    new = check_values(subject, values, columns, "heads")
    with _edit_inputs(subject, subject.anatomy.o_proj, columns, new, scope, "heads") as edit:
        yield edit


@contextmanager
def ablate_neurons(
    subject: Subject,
    neurons: Iterable[Neuron],
    *,
    values: Mapping[int, Tensor] | None = None,
    scope: Scope = everywhere,
) -> Iterator[Edit]:
    """Replace the activations of neurons (layer, neuron), after the gate.

    Args:
        values: None for zero ablation. A layer's (d_mlp,) for mean ablation, (B, k, d_mlp) for resample ablation.
        scope: where, see `mechinterp.positions`.

    Raises:
        MechinterpError: no neurons, or one that the model does not have, or values of another shape.
    """
    columns = neuron_columns(subject, neurons)
    new = check_values(subject, values, columns, "neurons")
    with _edit_inputs(subject, subject.anatomy.down_proj, columns, new, scope, "neurons") as edit:
        yield edit


@contextmanager
def steer(
    subject: Subject, layer: int, vector: Tensor, *, coefficient: float = 1.0, scope: Scope = everywhere
) -> Iterator[Edit]:
    """Add `coefficient * vector` (d_model,) to the residual stream after `layer`.

    Raises:
        MechinterpError: no such layer, a vector of another size or with values that are not finite.
    """
    added = steering_vector(subject, layer, vector, coefficient)
    edit = Edit()

    def hook(watch: PassWatch) -> Callable[..., Any]:
        def add(module: nn.Module, args: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            rows, places, _ = _chosen(watch, scope, hidden, edit, layer)
            if not rows.numel():
                return None
            hidden = hidden.clone()
            hidden[rows, places] += added.to(hidden)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return add

    with ExitStack() as stack:
        watch = stack.enter_context(watch_passes(subject))
        stack.callback(subject.anatomy.layers[layer].register_forward_hook(hook(watch)).remove)
        yield edit


@contextmanager
def _edit_inputs(
    subject: Subject,
    module_of: Callable[[int], nn.Linear],
    columns: Mapping[int, list[int]],
    values: Mapping[int, Tensor] | None,
    scope: Scope,
    what: str,
) -> Iterator[Edit]:
    """Replace columns of the inputs of linear modules: the one mechanism behind heads and neurons."""
    edit = Edit()

    def hook(layer: int, watch: PassWatch) -> Callable[..., Any]:
        which = torch.tensor(columns[layer])
        new = None if values is None else values[layer]

        def replace(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            inputs = args[0]  # (B, T, features)
            rows, places, slots = _chosen(watch, scope, inputs, edit, layer)
            if not rows.numel():
                return None
            inputs, on = inputs.clone(), which.to(inputs.device)
            if new is None:
                put = inputs.new_zeros(())
            elif new.ndim == 1:
                put = new.to(inputs)[on]
            else:
                if new.shape[0] != inputs.shape[0] or int(slots.max()) >= new.shape[1]:
                    raise MechinterpError(
                        f"values for the {what} of layer {layer}: {tuple(new.shape[:2])} rows and slots, but this pass "
                        f"has {inputs.shape[0]} rows and its scope asks for slot {int(slots.max())}"
                    )
                put = new.to(inputs)[rows, slots][:, on]  # (edited, columns)
            inputs[rows[:, None], places[:, None], on] = put
            return (inputs, *args[1:])

        return replace

    with ExitStack() as stack:
        watch = stack.enter_context(watch_passes(subject))
        for layer in columns:
            stack.callback(module_of(layer).register_forward_pre_hook(hook(layer, watch)).remove)
        yield edit


def _chosen(watch: PassWatch, scope: Scope, hidden: Tensor, edit: Edit, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and slots to edit in this pass, each (edited,); counted in `edit`."""
    slots = scope(watch.current)
    rows, places = (slots >= 0).nonzero(as_tuple=True)
    edit.passes[layer] += 1
    edit.positions[layer] += rows.numel()
    return rows.to(hidden.device), places.to(hidden.device), slots[rows, places].to(hidden.device)


def head_columns(subject: Subject, heads: Iterable[Head]) -> dict[int, list[int]]:
    """By layer, the inputs of `o_proj` that are the outputs of these heads. Raises MechinterpError, see above."""
    anatomy = subject.anatomy
    columns: dict[int, list[int]] = defaultdict(list)
    for layer, head in sorted(set(heads)):
        anatomy.check_head(layer, head)
        columns[layer] += range(head * anatomy.d_head, (head + 1) * anatomy.d_head)
    return _some(columns, "heads")


def neuron_columns(subject: Subject, neurons: Iterable[Neuron]) -> dict[int, list[int]]:
    """By layer, the inputs of `down_proj` that are these neurons. Raises MechinterpError, see above."""
    columns: dict[int, list[int]] = defaultdict(list)
    for layer, neuron in sorted(set(neurons)):
        subject.anatomy.check_neuron(layer, neuron)
        columns[layer].append(neuron)
    return _some(columns, "neurons")


def _some(columns: dict[int, list[int]], what: str) -> dict[int, list[int]]:
    if not columns:
        raise MechinterpError(f"ablate_{what}: no {what} were given; an empty ablation would measure nothing")
    return columns


def check_values(
    subject: Subject, values: Mapping[int, Tensor] | None, layers: Iterable[int], what: str
) -> dict[int, Tensor] | None:
    """The values of these layers, with the dimensions of one position flattened into one."""
    if values is None:
        return None
    return {layer: check_value(subject, values, layer, what) for layer in layers}


def check_value(subject: Subject, values: Mapping[int, Tensor], layer: int, what: str) -> Tensor:
    """The values of one layer, with the dimensions of one position flattened into one."""
    anatomy = subject.anatomy
    unit = (anatomy.n_heads, anatomy.d_head) if what == "heads" else (anatomy.d_mlp,)
    given = values.get(layer)
    if given is None:
        raise MechinterpError(f"values for the {what}: none for layer {layer}, only for layers {sorted(values)}")
    fits = given.ndim in (len(unit), len(unit) + 2) and tuple(given.shape[-len(unit) :]) == unit
    if not fits or not torch.isfinite(given).all():
        raise MechinterpError(
            f"values for the {what} of layer {layer}: expected finite numbers, {unit} for all positions or "
            f"(rows, k, ...), got shape {tuple(given.shape)}"
        )
    return given.flatten(-len(unit))


def steering_vector(subject: Subject, layer: int, vector: Tensor, coefficient: float) -> Tensor:
    """`coefficient * vector`, fit for this model. Raises MechinterpError, see `steer`."""
    subject.anatomy.check_layer(layer)
    if tuple(vector.shape) != (subject.anatomy.d_model,) or not torch.isfinite(coefficient * vector).all():
        raise MechinterpError(
            f"steer: expected a finite vector of {subject.anatomy.d_model} numbers, "
            f"got {coefficient:g} times one of shape {tuple(vector.shape)}"
        )
    return coefficient * vector
