"""Whether a model is still what it was.

state_of       weights, hooks and attention kernel of a subject, to be compared with an earlier state
weights_of     the weights alone
foreign_hooks  whether others have hooks on its layers
"""

from __future__ import annotations

from typing import Any

from mechinterp.subject import Subject

OURS = ("mechinterp", "transformers", "accelerate")
"""Packages whose hooks leave what a layer computes as it is, or are known of."""


def state_of(subject: Subject) -> tuple[Any, ...]:
    """Changes with every change that torch knows of, such as a step of an optimizer; `weight.data` goes unseen."""
    model = subject.model
    hooks = (key for module in model.modules() for key in (*module._forward_hooks, *module._forward_pre_hooks))
    return (weights_of(subject), tuple(hooks), model.config._attn_implementation)


def weights_of(subject: Subject) -> tuple[Any, ...]:
    """By parameter, where it lies and how often it was changed there."""
    return tuple((p.data_ptr(), p.dtype, 0 if p.is_inference() else p._version) for p in subject.model.parameters())


def foreign_hooks(subject: Subject) -> bool:
    """On the decoder's layers or around them."""
    every = [
        hook
        for module in (subject.model.model, *subject.anatomy.layers)
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    return any((getattr(hook, "__module__", None) or "").partition(".")[0] not in OURS for hook in every)
