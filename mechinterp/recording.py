"""One token's way through a model.

Recording   what each part is given, reads and writes, its heads, neurons and final residual made random
Call        one call of a part
PARTS       the parts of a layer, as the anatomy calls them
POSITION    where the token stands
"""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AttentionInterface

from mechinterp.anatomy import Anatomy
from mechinterp.inspection import attention_kernel

PARTS = ("attention_norm", "attention", "o_proj", "mlp_norm", "mlp", "down_proj")
POSITION = 7  # at 0 nothing would be rotated

_KERNEL = "one_token"
_attended: ContextVar[list[tuple[int, ...]]] = ContextVar("attended")


class Call(NamedTuple):
    """Of one module: what it is given, the same after the hooks that were there before, what it reads and writes."""

    given: Any
    hooked: Any
    reads: Any
    writes: Any
    angles: Any


class Recording:
    """One token on its way, its heads, neurons and final residual replaced by random numbers."""

    def __init__(self) -> None:
        self.calls: dict[str, list[Call]] = defaultdict(list)
        self.spared: set[nn.Module] = set()
        self.attended: list[tuple[int, ...]] = []
        self._generator = torch.Generator().manual_seed(0)  # of its own: torch's is left as it is
        self._hooks = ExitStack()

    def __getitem__(self, name: str) -> Call:
        return self.calls[name][0]

    def run(self, model: Any, anatomy: Anatomy) -> Tensor:
        """The logits."""
        read = [*map(anatomy.o_proj, range(anatomy.n_layers)), *map(anatomy.down_proj, range(anatomy.n_layers))]
        tried = {anatomy.o_proj(0), anatomy.down_proj(0), *(part for part in read if not _is_plain(part))}
        if not _is_plain(anatomy.unembed) or anatomy.unembed.bias is not None:
            tried.add(anatomy.unembed)
        inside = {module for part in tried for module in part.modules()}
        self.spared = {module for module in model.modules() if _is_plain(module)} - inside
        with self._hooks as hooks:
            for i, layer in enumerate(anatomy.layers):
                self._watch(f"layer {i}", layer)
                for name in PARTS:
                    self._watch(f"{name} of layer {i}", getattr(anatomy, name)(i), edit=name.endswith("_proj"))
            hooks.callback(anatomy.norm.register_forward_hook(self._enlarge).remove)
            for name, module in (
                ("final norm", anatomy.norm),
                ("decoder", model.model),
                ("unembedding", anatomy.unembed),
            ):
                self._watch(name, module)
            for module in self.spared:
                self._spare(module)
            hooks.callback(_attended.reset, _attended.set(self.attended))
            hooks.enter_context(attention_kernel(model, _KERNEL))
            hooks.enter_context(_compiling_nothing())
            token = torch.zeros(1, 1, dtype=torch.long, device=model.get_input_embeddings().weight.device)
            return model(input_ids=token, position_ids=token + POSITION, use_cache=False).logits

    def _watch(self, name: str, module: nn.Module, *, edit: bool = False) -> None:
        inputs: list[Any] = []

        def first(module: nn.Module, args: Any, kwargs: Any) -> None:
            inputs.append(_input(args, kwargs))

        def last(module: nn.Module, args: Any, kwargs: Any) -> Any:
            inputs.append(_input(args, kwargs))
            return ((self._noise(args[0]), *args[1:]), kwargs) if edit else None

        def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            angles = kwargs.get("position_embeddings")
            given, hooked = inputs[-2:]
            self.calls[name].append(Call(given, hooked, _input(args, kwargs), _output(output), angles))

        for handle in (
            module.register_forward_pre_hook(first, prepend=True, with_kwargs=True),
            module.register_forward_pre_hook(last, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        ):
            self._hooks.callback(handle.remove)

    def _spare(self, module: Any) -> None:
        def forward(inputs: Tensor) -> Tensor:
            if inputs.dtype != module.weight.dtype:
                return linear(inputs, module.weight, module.bias)  # an error, if there is one, is the model's own
            return self._noise(inputs[..., :1].expand(*inputs.shape[:-1], module.out_features))

        module.forward = forward
        self._hooks.callback(delattr, module, "forward")

    def _enlarge(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return 100 * self._noise(output)  # for logits so large that a cap on them would show

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator, dtype=torch.float32, device="cpu").to(like)


def _is_plain(module: nn.Module) -> bool:
    """Whether it is torch's own linear layer with nothing about it, which computes what its weight says."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return type(module) is nn.Linear and "forward" not in vars(module) and not hooked


def _input(args: Any, kwargs: Any) -> Any:
    return args[0] if args else kwargs.get("hidden_states")


def _output(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else getattr(output, "last_hidden_state", output)


def _compiling_nothing() -> AbstractContextManager[Any]:
    """What is compiled out of sight either runs without our hooks here, which shows, or stops with an error."""
    return torch.compiler.set_stance("fail_on_recompile") if "torch._dynamo" in sys.modules else nullcontext()


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """One token attends to itself: query (1, n_heads, 1, d_head), key and value (1, n_kv_heads, 1, d_head)."""
    layer: int = module.layer_idx  # type: ignore[assignment]
    _attended.get().append((layer, query.shape[1], key.shape[1], query.shape[3]))
    return value.repeat_interleave(query.shape[1] // value.shape[1], dim=1).transpose(1, 2), None


AttentionInterface.register(_KERNEL, _attend)
