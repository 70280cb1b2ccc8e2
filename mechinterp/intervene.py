"""Interventions: `with` blocks that stack, undo themselves on error, and say how often they fired.

ablate_heads     set the outputs of attention heads to zero, to a mean, or to those of another run
ablate_neurons   the same for MLP neurons: what a neuron writes is its activation times its value vector
steer            add a vector to the residual stream after a layer
Edit             what a block yields: how often it fired

Heads are edited at the input of `o_proj` (their O-circuit is off, attention itself is not touched), neurons at
the input of `down_proj`. Untouched positions stay bit for bit what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mechinterp.aim import Edit, aiming
from mechinterp.given import layers
from mechinterp.positions import Scope, everywhere
from mechinterp.replacements import (
    Head,
    Neuron,
    check_value,
    fit_scope,
    head_features,
    neuron_features,
    one_place_a_slot,
    steering_vector,
)
from mechinterp.subject import Subject, check_subject


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
        MechinterpError: no heads, or one that the model does not have, or values of another shape or for another
            scope.
        InstrumentError: when the block ends, a position that no pass has reached, or an edit that never fired,
            unless the scope is a `maybe`.
    """
    features = head_features(subject, heads)
    with _edit_inputs(subject, subject.anatomy.o_proj, features, values, scope, "heads") as edit:
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
        MechinterpError, InstrumentError: as `ablate_heads`.
    """
    features = neuron_features(subject, neurons)
    with _edit_inputs(subject, subject.anatomy.down_proj, features, values, scope, "neurons") as edit:
        yield edit


@contextmanager
def steer(
    subject: Subject, layer: int, vector: Tensor, *, coefficient: float = 1.0, scope: Scope = everywhere
) -> Iterator[Edit]:
    """Add `coefficient * vector` (d_model,) to the residual stream after `layer`.

    Raises:
        MechinterpError: no such layer, a vector of another size or with values that are not finite.
        InstrumentError: as `ablate_heads`.
    """
    check_subject(subject)
    (layer,) = layers([layer], subject.anatomy, "steer")
    added = steering_vector(subject, layer, vector, coefficient)
    with ExitStack() as stack:
        aim = stack.enter_context(aiming(subject, scope, [layer]))

        def add(module: nn.Module, args: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            rows, places, _ = aim.chosen(layer, hidden.device)
            if not rows.numel():
                return None
            hidden = hidden.clone()
            hidden[rows, places] += added.to(hidden)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        stack.callback(subject.anatomy.layers[layer].register_forward_hook(add).remove)
        yield aim.edit


@contextmanager
def _edit_inputs(
    subject: Subject,
    module_of: Callable[[int], nn.Linear],
    features: Mapping[int, list[int]],
    values: Mapping[int, Tensor] | None,
    scope: Scope,
    what: str,
) -> Iterator[Edit]:
    """Replace some of the inputs of linear modules: the one mechanism behind heads and neurons."""
    given = {} if values is None else {layer: check_value(subject, values, layer, what) for layer in features}
    for layer, new in given.items():
        fit_scope(scope, new, f"values for the {what} of layer {layer}")
    with ExitStack() as stack:
        aim = stack.enter_context(aiming(subject, scope, features))

        def hook(layer: int) -> Callable[..., Any]:
            which, new = torch.tensor(features[layer]), given.get(layer)

            def replace(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
                inputs = args[0]  # (B, T, features)
                rows, places, slots = aim.chosen(layer, inputs.device)
                if new is not None:
                    one_place_a_slot(aim.slots, new, f"values for the {what} of layer {layer}")
                if not rows.numel():
                    return None
                inputs, on = inputs.clone(), which.to(inputs.device)
                if new is None:
                    put = inputs.new_zeros(())
                elif new.ndim == 1:
                    put = new.to(inputs)[on]
                else:
                    put = new.to(inputs)[rows, slots][:, on]  # (edited, features)
                inputs[rows[:, None], places[:, None], on] = put
                return (inputs, *args[1:])

            return replace

        for layer in features:
            stack.callback(module_of(layer).register_forward_pre_hook(hook(layer)).remove)
        yield aim.edit
