"""One token through a model, to see that its parts do what its anatomy says.

check_parts   refuses a model in which they do something else

A class's name says little: an adapter has the `weight` of the layer that it changes, a fused kernel passes the modules
by, a patched layer scales what it adds. So the heads and neurons of one token are replaced by random numbers, as an
edit would, and what every part reads and writes is compared with what the rest of mechinterp relies on.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AttentionInterface

from mechinterp.anatomy import Anatomy
from mechinterp.errors import MechinterpError
from mechinterp.inspection import attention_kernel
from mechinterp.visible import visible

_KERNEL = "one_token"
_POSITION = 7  # of the token; at 0 nothing is rotated
_PARTS = ("attention_norm", "attention", "o_proj", "mlp_norm", "mlp", "down_proj")
_PLAIN = "pass a model whose modules are its family's own, without patched methods and left-over hooks"
_MERGED = "merge adapters (merge_and_unload()), load quantised weights dequantised, remove hooks"
_attended: ContextVar[list[tuple[int, ...]]] = ContextVar("attended")


@torch.no_grad()
def check_parts(model: Any, anatomy: Anatomy) -> None:
    """Refuse a model unless, for one token,

    - every module that is hooked is called once, and the attention is computed by the kernel that is asked for;
    - `o_proj`, `down_proj` and the unembedding write what their weights make of random numbers;
    - a layer adds to the residual stream what these write, and nothing else, and the next one reads it;
    - the final norm scales by its weight, and rotary angles depend on nothing but the position.

    It costs little more than one step of decoding. The model and torch's random numbers are left as they were.

    Raises:
        MechinterpError: names the part, the layer and what to do.
    """
    try:
        seen = _Recording()
        logits = seen.run(model, anatomy)
        _check_calls(anatomy, seen)
        for what, found, wanted, remedy in _laws(anatomy, seen, logits):
            _check(what, found, wanted, remedy)
        _check_norm(anatomy.norm)
        _check_rotary(model, anatomy, seen)
    except MechinterpError:
        raise
    except Exception as error:  # what stands in a part's place may raise anything
        said = visible(" ".join(str(error).split())[:200])
        raise MechinterpError(f"a token does not pass its parts ({type(error).__name__}: {said}); {_PLAIN}") from error


class _Call(NamedTuple):
    """Of one module: what it is given, the same after the hooks that were there before, what it reads and writes."""

    given: Any
    hooked: Any
    reads: Any
    writes: Any
    angles: Any


class _Recording:
    """One token on its way, its heads, neurons and final residual replaced by random numbers."""

    def __init__(self) -> None:
        self.calls: dict[str, list[_Call]] = defaultdict(list)
        self.attended: list[tuple[int, ...]] = []
        self._generator = torch.Generator().manual_seed(0)  # of its own: torch's is left as it is
        self._hooks = ExitStack()

    def __getitem__(self, name: str) -> _Call:
        return self.calls[name][0]

    def run(self, model: Any, anatomy: Anatomy) -> Tensor:
        """The logits."""
        with self._hooks as hooks:
            for i, layer in enumerate(anatomy.layers):
                self._watch(f"layer {i}", layer)
                for name in _PARTS:
                    self._watch(f"{name} of layer {i}", getattr(anatomy, name)(i), edit=name.endswith("_proj"))
            hooks.callback(anatomy.norm.register_forward_hook(self._enlarge).remove)
            self._watch("final norm", anatomy.norm)
            self._watch("decoder", model.model)
            hooks.callback(_attended.reset, _attended.set(self.attended))
            hooks.enter_context(attention_kernel(model, _KERNEL))
            hooks.enter_context(_compiling_nothing())
            token = torch.zeros(1, 1, dtype=torch.long, device=model.get_input_embeddings().weight.device)
            return model(input_ids=token, position_ids=token + _POSITION, use_cache=False).logits

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
            self.calls[name].append(_Call(given, hooked, _input(args, kwargs), _output(output), angles))

        for handle in (
            module.register_forward_pre_hook(first, prepend=True, with_kwargs=True),
            module.register_forward_pre_hook(last, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
        ):
            self._hooks.callback(handle.remove)

    def _enlarge(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return 100 * self._noise(output)  # for logits so large that a cap on them would show

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator, dtype=torch.float32, device="cpu").to(like)


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


def _check_calls(anatomy: Anatomy, seen: _Recording) -> None:
    names = [f"layer {i}" for i in range(anatomy.n_layers)]
    names += [f"{part} of {layer}" for layer in names for part in _PARTS]
    for name in [*names, "final norm", "decoder"]:
        if (calls := len(seen.calls[name])) != 1:
            raise MechinterpError(f"{name} is called {calls} times for one token, not once; {_PLAIN}")
    heads = (anatomy.n_heads, anatomy.n_kv_heads, anatomy.d_head)
    if seen.attended != [(i, *heads) for i in range(anatomy.n_layers)]:
        raise MechinterpError(f"its attention is not computed by the kernel that is asked for; {_PLAIN}")


def _laws(anatomy: Anatomy, seen: _Recording, logits: Tensor) -> Iterator[tuple[str, Any, Any, str]]:
    """What is compared: a sentence of what is wrong otherwise, what was found, what it should be, and what to do."""
    stream = None
    for i in range(anatomy.n_layers):
        here = f"layer {i}"
        layer = seen[here]
        norm, attention, o_proj, mlp_norm, mlp, down_proj = (seen[f"{part} of {here}"] for part in _PARTS)
        for name, call in zip((here, *_PARTS), (layer, norm, attention, o_proj, mlp_norm, mlp, down_proj), strict=True):
            yield f"layer {i}: a hook changes what its {name} reads", call.hooked, call.given, _PLAIN
        if stream is not None:
            yield f"{here} does not read what the layer before it writes", layer.given, stream, _PLAIN
        stream = layer.given
        yield f"{here}: its attention norm does not read the residual stream", norm.given, stream, _PLAIN
        yield f"{here}: its attention does not read its norm", attention.given, norm.writes, _PLAIN
        wanted = _linear(anatomy.o_proj(i), o_proj.reads)
        yield f"{here}: its o_proj does not compute what its weight says", o_proj.writes, wanted, _MERGED
        yield f"{here}: its attention does not write what o_proj does", attention.writes, o_proj.writes, _PLAIN
        stream = stream + attention.writes.to(stream.device)
        yield f"{here}: its MLP norm does not read the stream plus the attention", mlp_norm.given, stream, _PLAIN
        yield f"{here}: its MLP does not read its norm", mlp.given, mlp_norm.writes, _PLAIN
        wanted = _linear(anatomy.down_proj(i), down_proj.reads)
        yield f"{here}: its down_proj does not compute what its weight says", down_proj.writes, wanted, _MERGED
        yield f"{here}: its MLP does not write what down_proj does", mlp.writes, down_proj.writes, _PLAIN
        stream = stream + mlp.writes.to(stream.device)
        yield f"{here} does not write the stream plus its MLP", layer.writes, stream, _PLAIN
    norm, decoder, weight = seen["final norm"], seen["decoder"], anatomy.unembed.weight
    yield "the final norm does not read what the last layer writes", norm.reads, stream, _PLAIN
    yield "the decoder does not give out what the final norm writes", decoder.writes, norm.writes, _PLAIN
    wanted = linear(decoder.writes.to(weight), weight)
    yield "the logits are not what the unembedding's weight says", logits, wanted, _MERGED


def _linear(module: nn.Linear, inputs: Tensor) -> Tensor:
    return linear(inputs.to(module.weight.device), module.weight, module.bias)


def _check(what: str, found: Any, wanted: Any, remedy: str) -> None:
    """In the same number format the same sums give the same numbers; kernels may round a few differently."""
    tolerance = max(1e-5, torch.finfo(wanted.dtype).eps / 8)
    off = _off(found, wanted)
    if not off <= tolerance:
        raise MechinterpError(f"{what} (off by {off:.2g} of it); {remedy}")


def _off(found: Tensor, wanted: Tensor) -> float:
    found, wanted = found.float(), wanted.to(found.device).float()
    if found.shape != wanted.shape:
        return float("inf")
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-30))


def _check_norm(norm: Any) -> None:
    """Up to a positive factor, `norm(x) = x * weight`; tried with a mean other than 0."""
    weight = norm.weight.float()
    generator = torch.Generator().manual_seed(1)
    x = 1 + torch.randn(weight.shape, generator=generator, dtype=torch.float32, device="cpu").to(weight)
    found = norm(x).float()
    unit = found.norm() / (x * weight).norm().clamp(min=1e-30)
    if not (off := _off(found, x * weight * unit)) <= 1e-4 + 2 * torch.finfo(norm.weight.dtype).eps:
        raise MechinterpError(
            f"the final norm does not scale by its weight (off by {off:.2g} of it); expected an RMS norm: {_PLAIN}"
        )


def _check_rotary(model: Any, anatomy: Anatomy, seen: _Recording) -> None:
    """The angles of a position are the same in every layer, beside a longer text and after one."""
    rotary, like = model.model.rotary_emb, seen["layer 0"].given
    near = torch.full((1, 1), _POSITION, device=like.device)
    far = near + 2 * model.config.max_position_embeddings
    alone = torch.cat(rotary(like, near))
    beside = torch.cat([angles[:1] for angles in rotary(like.expand(2, -1, -1), torch.cat([near, far]))])
    after = torch.cat(rotary(like, near))
    for angles in (beside, after):
        _check("rotary angles depend on the longest text so far", angles, alone, _PLAIN)
    for i in range(anatomy.n_layers):
        given = torch.cat([angles.to(alone.device) for angles in seen[f"attention of layer {i}"].angles])
        _check(f"layer {i}: its attention is not given the angles of its positions", given, alone, _PLAIN)
