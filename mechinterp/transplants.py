"""Weights of one subject, run inside another: `with` blocks that stack and undo themselves.

transplant_heads    heads work with the reference's queries, keys, values and outputs
transplant_values   neurons write with the reference's value vectors

A head of the reference reads the subject's own stream through the subject's norm, and norms its queries and keys as the
reference does where a family has such norms. Heads that share their keys and values with others may be exchanged alone:
the others go on with their own. Biases of `o_proj` and `down_proj` belong to no component and stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mechinterp.aim import Edit, aiming
from mechinterp.errors import MechinterpError
from mechinterp.positions import Scope, everywhere
from mechinterp.replacements import Head, Neuron, head_features, neuron_features
from mechinterp.shadow import Shadow, change_of
from mechinterp.subject import Subject
from mechinterp.weights import check_comparable


@contextmanager
def transplant_heads(
    subject: Subject, reference: Subject, heads: Iterable[Head], *, scope: Scope = everywhere
) -> Iterator[Edit]:
    """Heads (layer, head) of the subject work with the reference's weights.

    At the positions in scope a head reads out and writes what the reference's weights make of the subject's stream; the
    keys and values that it looks at are the reference's at all positions. What others capture or ablate of the head
    inside the block is what it then reads out.

    Raises:
        MechinterpError: weights that do not correspond, a reference that is the subject, no heads, or one that the
            model does not have.
        InstrumentError: as `ablate_heads`.
    """
    check_donor(subject, reference)
    features = head_features(subject, heads)
    with ExitStack() as stack:
        aim = stack.enter_context(aiming(subject, scope, features))
        for layer, these in features.items():
            shadow, read = Shadow(reference, layer), dict[str, Tensor]()

            def attend(
                module: nn.Module, args: Any, kwargs: Any, shadow: Shadow = shadow, read: dict[str, Tensor] = read
            ) -> None:
                read["out"] = shadow.run(subject, kwargs, aim.watch.now().cached)

            attention = subject.anatomy.attention(layer)
            stack.callback(attention.register_forward_pre_hook(attend, with_kwargs=True).remove)
            stack.callback(_exchange(subject, reference, aim, layer, these, "o_proj", read))
        yield aim.edit


@contextmanager
def transplant_values(
    subject: Subject, reference: Subject, neurons: Iterable[Neuron], *, scope: Scope = everywhere
) -> Iterator[Edit]:
    """Neurons (layer, neuron) of the subject write with the reference's value vectors, columns of `down_proj`.

    Raises:
        MechinterpError, InstrumentError: as `transplant_heads`.
    """
    check_donor(subject, reference)
    features = neuron_features(subject, neurons)
    with ExitStack() as stack:
        aim = stack.enter_context(aiming(subject, scope, features))
        for layer, these in features.items():
            stack.callback(_exchange(subject, reference, aim, layer, these, "down_proj", {}))
        yield aim.edit


def check_donor(subject: Subject, reference: Subject) -> None:
    """Raises MechinterpError for a reference whose weights cannot stand in, or that is the subject itself."""
    check_comparable(subject, reference)
    if reference.model is subject.model:
        raise MechinterpError("transplant: the reference is the subject itself; give another one, or a copy of it")
    reference.check_ready()


def _exchange(
    subject: Subject,
    reference: Subject,
    aim: Any,
    layer: int,
    features: list[int],
    name: str,
    read: Mapping[str, Tensor],
) -> Callable[[], None]:
    """Hooks of a linear module: some of its inputs become what was read, and are written by the reference's weights."""
    ours, theirs = (getattr(one.anatomy, name)(layer) for one in (subject, reference))
    on = torch.tensor(features)
    change = change_of(ours, theirs, on)
    where: dict[str, tuple[Tensor, Tensor]] = {}

    def before(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        inputs = args[0]
        rows, places, _ = aim.chosen(layer, inputs.device)
        where["edited"] = rows, places
        if not rows.numel() or "out" not in read:
            return None
        inputs, which = inputs.clone(), on.to(inputs.device)
        new = read["out"].to(inputs)[rows, places][:, which]
        inputs[rows[:, None], places[:, None], which] = new
        return (inputs, *args[1:])

    def after(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        rows, places = where["edited"]
        if not rows.numel():
            return None
        output = output.clone()
        written = args[0][rows, places][:, on.to(output.device)].float() @ change.to(output.device)
        output[rows, places] = (output[rows, places].float() + written).to(output)
        return output

    handles = [ours.register_forward_pre_hook(before), ours.register_forward_hook(after)]

    def remove() -> None:
        for handle in handles:
            handle.remove()

    return remove
