"""One token through a model, to see that its parts do what its anatomy says.

check_parts     refuses a model in which they do something else
check_weights   refuses one whose layers have come to compute something else than their weights

A class's name says little: an adapter has the `weight` of the layer that it changes, a fused kernel passes the modules
by, a patched layer scales what it adds. So the heads and neurons of one token are replaced by random numbers, as an
edit would, and what every part reads and writes is compared with what the rest of mechinterp relies on. That torch's
own linear layers compute what their weights say is tried in the first layer; for the others random numbers stand, or
the token would take as long as to read all weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mechinterp.anatomy import Anatomy
from mechinterp.errors import MechinterpError
from mechinterp.recording import PARTS, POSITION, Call, Recording
from mechinterp.visible import visible

_PLAIN = "pass a model whose modules are its family's own, without patched methods and left-over hooks"
_MERGED = "merge adapters (merge_and_unload()), load quantised weights dequantised, remove hooks and autocast"
_Law = tuple[str, Any, Any, str]


@torch.no_grad()
def check_parts(model: Any, anatomy: Anatomy) -> None:
    """Refuse a model unless, for one token,

    - every module that is hooked is called once, and the attention is computed by the kernel that is asked for;
    - `o_proj`, `down_proj` and the unembedding write what their weights make of random numbers;
    - a layer adds to the residual stream what these write, and nothing else, and the next one reads it;
    - the final norm scales by its weight, and rotary angles depend on nothing but the position.

    It costs less than one step of decoding. The model and torch's random numbers are left as they were.

    Raises:
        MechinterpError: names the part, the layer and what to do.
    """
    try:
        seen = Recording()
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


@torch.no_grad()
def check_weights(anatomy: Anatomy) -> None:
    """Try the layers whose weights are read and that are not torch's own: an adapter can be switched on and trained.

    Past their hooks: this is called where edits may be open. A model that has none such costs nothing.

    Raises MechinterpError: names the layer.
    """
    layers = range(anatomy.n_layers)
    read = [(f"layer {i}: its o_proj", anatomy.o_proj(i)) for i in layers]
    read += [(f"layer {i}: its down_proj", anatomy.down_proj(i)) for i in layers]
    for what, module in [*read, ("the unembedding", anatomy.unembed)]:
        if type(module) is not nn.Linear:
            generator = torch.Generator().manual_seed(0)
            size = (1, module.weight.shape[1])
            inputs = torch.randn(size, generator=generator, dtype=torch.float32, device="cpu").to(module.weight)
            bias = None if module is anatomy.unembed else module.bias
            wanted = linear(inputs, module.weight, bias)
            _check(f"{what} does not compute what its weight says", module.forward(inputs), wanted, _MERGED)


def _check_calls(anatomy: Anatomy, seen: Recording) -> None:
    names = [f"layer {i}" for i in range(anatomy.n_layers)]
    names += [f"{part} of {layer}" for layer in names for part in PARTS]
    for name in [*names, "final norm", "decoder", "unembedding"]:
        if (calls := len(seen.calls[name])) != 1:
            raise MechinterpError(f"{name} is called {calls} times for one token, not once; {_PLAIN}")
    heads = (anatomy.n_heads, anatomy.n_kv_heads, anatomy.d_head)
    if seen.attended != [(i, *heads) for i in range(anatomy.n_layers)]:
        raise MechinterpError(f"its attention is not computed by the kernel that is asked for; {_PLAIN}")


def _laws(anatomy: Anatomy, seen: Recording, logits: Tensor) -> Iterator[_Law]:
    """What is compared: a sentence of what is wrong otherwise, what was found, what it should be, and what to do."""
    stream = None
    for i in range(anatomy.n_layers):
        here = f"layer {i}"
        layer = seen[here]
        norm, attention, o_proj, mlp_norm, mlp, down_proj = (seen[f"{part} of {here}"] for part in PARTS)
        for name, call in zip((here, *PARTS), (layer, norm, attention, o_proj, mlp_norm, mlp, down_proj), strict=True):
            yield f"layer {i}: a hook changes what its {name} reads", call.hooked, call.given, _PLAIN
        if stream is not None:
            yield f"{here} does not read what the layer before it writes", layer.given, stream, _PLAIN
        stream = layer.given
        yield f"{here}: its attention norm does not read the residual stream", norm.given, stream, _PLAIN
        yield f"{here}: its attention does not read its norm", attention.given, norm.writes, _PLAIN
        yield from _weighs(seen, f"{here}: its o_proj", anatomy.o_proj(i), o_proj)
        yield f"{here}: its attention does not write what o_proj does", attention.writes, o_proj.writes, _PLAIN
        stream = stream + attention.writes.to(stream.device)
        yield f"{here}: its MLP norm does not read the stream plus the attention", mlp_norm.given, stream, _PLAIN
        yield f"{here}: its MLP does not read its norm", mlp.given, mlp_norm.writes, _PLAIN
        yield from _weighs(seen, f"{here}: its down_proj", anatomy.down_proj(i), down_proj)
        yield f"{here}: its MLP does not write what down_proj does", mlp.writes, down_proj.writes, _PLAIN
        stream = stream + mlp.writes.to(stream.device)
        yield f"{here} does not write the stream plus its MLP", layer.writes, stream, _PLAIN
    norm, decoder = seen["final norm"], seen["decoder"]
    yield "the final norm does not read what the last layer writes", norm.reads, stream, _PLAIN
    yield "the decoder does not give out what the final norm writes", decoder.writes, norm.writes, _PLAIN
    unembed = seen["unembedding"]
    yield "the unembedding does not read what the decoder gives out", unembed.reads, decoder.writes, _PLAIN
    yield from _weighs(seen, "the unembedding", anatomy.unembed, unembed, bias=False)
    yield "the logits are not what the unembedding writes", logits, unembed.writes, _PLAIN


def _weighs(seen: Recording, what: str, module: nn.Linear, call: Call, *, bias: bool = True) -> Iterator[_Law]:
    if module not in seen.spared:
        wanted = linear(call.reads.to(module.weight.device), module.weight, module.bias if bias else None)
        yield f"{what} does not compute what its weight says", call.writes, wanted, _MERGED


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


def _check_rotary(model: Any, anatomy: Anatomy, seen: Recording) -> None:
    """The angles of a position are the same in every layer, beside a longer text and after one."""
    rotary, like = model.model.rotary_emb, seen["layer 0"].given
    near = torch.full((1, 1), POSITION, device=like.device)
    far = near + 2 * model.config.max_position_embeddings
    alone = torch.cat(rotary(like, near))
    beside = torch.cat([angles[:1] for angles in rotary(like.expand(2, -1, -1), torch.cat([near, far]))])
    after = torch.cat(rotary(like, near))
    for angles in (beside, after):
        _check("rotary angles depend on the longest text so far", angles, alone, _PLAIN)
    for i in range(anatomy.n_layers):
        given = torch.cat([angles.to(alone.device) for angles in seen[f"attention of layer {i}"].angles])
        _check(f"layer {i}: its attention is not given the angles of its positions", given, alone, _PLAIN)
