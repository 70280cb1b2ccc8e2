"""Is a model what it seems, so that hooks on its modules act?

check_whole       refuses a wrapper around a model, and modules that are compiled
Parts, parts_of   the modules of a model, as they were when it was checked
check_unchanged   refuses a model that was compiled, wrapped or adapted since then
uncompiled        a block in which compiled code of a model runs uncompiled, with the hooks that are set
attention_kernel  a block in which a model's attention is computed by a kernel of that name
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from mechinterp.errors import MechinterpError

Parts = tuple[Any, ...]


def check_whole(model: Any) -> None:
    """Refuse what is not a model of transformers itself. Raises MechinterpError: names what to pass instead."""
    if not isinstance(model, nn.Module):
        raise MechinterpError(f"expected a causal language model of transformers, got {type(model).__name__}")
    if any("_fsdp_wrapped_module" in module._modules for module in model.modules()):
        raise MechinterpError("the model is sharded (FSDP), its weights are not whole; save it and load it whole")
    if "_orig_mod" not in model._modules and not isinstance(model, PreTrainedModel):
        name = type(model).__name__
        inner = next((path for path, one in model.named_modules() if isinstance(one, PreTrainedModel)), None)
        if inner is None:
            raise MechinterpError(f"{name} is no model of transformers; load one with AutoModelForCausalLM")
        whole = "merge_and_unload()" if hasattr(model, "merge_and_unload") else inner
        raise MechinterpError(f"{name} wraps the model, so that its parts are not where they seem; pass model.{whole}")
    for path, module in model.named_modules():
        if _is_compiled(module):
            where = f"model.{path}" if path else "model"
            way = f"take {where}._orig_mod" if "_orig_mod" in module._modules else "load it without compiling it"
            raise MechinterpError(f"{where} is compiled, and hooks in it would not act; pass it uncompiled: {way}")
    if away := next((name for name, weight in model.named_parameters() if weight.is_meta), None):
        raise MechinterpError(f"{away} is on the meta device, which holds no numbers; load all weights onto a device")


def _is_compiled(module: nn.Module) -> bool:
    """By any of torch.compile(module), module.compile(), a forward method that is compiled, or torch.jit."""
    forward = getattr(module, "forward", None)
    return (
        "_orig_mod" in module._modules
        or getattr(module, "_compiled_call_impl", None) is not None
        or (hasattr(forward, "_torchdynamo_orig_callable") and not getattr(forward, "_torchdynamo_disable", False))
        or isinstance(module, torch.jit.ScriptModule)
    )


def parts_of(model: nn.Module) -> Parts:
    """Of every module in turn: itself, its class, and what it is called by if not by its class's `forward`."""
    parts: list[Any] = []
    for module in model.modules():
        forward = vars(module).get("forward")
        if getattr(forward, "__func__", None) is type(module).forward and getattr(forward, "__self__", None) is module:
            forward = None  # put back after it was patched
        parts += [module, type(module), forward, getattr(module, "_compiled_call_impl", None)]
    return tuple(parts)


def check_unchanged(model: nn.Module, parts: Parts) -> None:
    """Refuse a model whose modules are not those that were checked, in less than a millisecond.

    Raises MechinterpError: says what to do.
    """
    now = parts_of(model)
    if len(now) != len(parts) or any(one is not other for one, other in zip(now, parts, strict=True)):
        check_whole(model)
        raise MechinterpError("the model's modules are not those that were checked; make its subject anew: Subject.of")


def uncompiled() -> AbstractContextManager[Any]:
    """`torch.compile(subject.model)` leaves the model as it is; code that it compiled before would pass hooks by."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def attention_kernel(model: Any, kernel: str) -> Iterator[None]:
    """Compute attention by one of transformers' kernels, such as "eager"."""
    before = model.config._attn_implementation
    model.set_attn_implementation(kernel)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
