"""Capture activations at the asked layers and positions, and nowhere else.

capture       a `with` block around any number of forward passes; enter it after the edits that it should see
Captured      what it yields, in fp32
mean_heads    the mean output of every head over real tokens, for mean ablation
mean_neurons  the same for neurons
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mechinterp.errors import MechinterpError
from mechinterp.evidence import InstrumentError
from mechinterp.positions import Pass, PassWatch, at, watch_passes, whole_numbers
from mechinterp.subject import Subject, attention_by
from mechinterp.tokens import batches


@dataclass
class Captured:
    """Activations by layer, fp32, for B rows and k positions a row.

    Attributes:
        residual: (B, k, d_model), the residual stream after the layer.
        heads: (B, k, n_heads, d_head), what each head reads out, before W_O (see `head_output_weights`).
        neurons: (B, k, d_mlp), activations after the gate: the coefficients of the value vectors.
        attention: (B, k, n_heads, S), attention rows over token positions 0 to S - 1; padding is left out.
    """

    residual: dict[int, Tensor] = field(default_factory=dict)
    heads: dict[int, Tensor] = field(default_factory=dict)
    neurons: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)


@contextmanager
def capture(
    subject: Subject,
    positions: Tensor | Sequence[Sequence[int]],
    *,
    residual: Iterable[int] = (),
    heads: Iterable[int] = (),
    neurons: Iterable[int] = (),
    attention: Iterable[int] = (),
) -> Iterator[Captured]:
    """Capture at `positions` (B, k) in the layers named for each kind of site.

    Memory is proportional to the sites asked for. Works over several passes of the same rows, such as a prefix and
    the rest under a KV cache. Attention rows need the eager kernel; it is switched on for the block only.

    Raises:
        MechinterpError: a layer that the model does not have, or nothing to capture.
        InstrumentError: a position that no pass inside the block reached.
    """
    anatomy, found = subject.anatomy, Captured()
    wanted = whole_numbers(positions, "capture(positions)", ("rows", "k")).cpu()
    scope = at(wanted)
    span = int(wanted.max()) + 1
    reached: dict[tuple[str, int], Tensor] = {}

    def read_residual(watch: PassWatch, args: Any, output: Any) -> Tensor:
        return output[0] if isinstance(output, tuple) else output

    def read_heads(watch: PassWatch, args: Any, output: Any) -> Tensor:
        return args[0].unflatten(-1, (anatomy.n_heads, anatomy.d_head))

    def read_neurons(watch: PassWatch, args: Any, output: Any) -> Tensor:
        return args[0]

    def read_attention(watch: PassWatch, args: Any, output: Any) -> Tensor:
        return _align(output[1], watch.current, span).transpose(1, 2)

    def store(name: str, layer: int, values: Tensor, slots: Tensor) -> None:
        """Put values (B, T, ...) into found.<name>[layer] (B, k, ...), where slots (B, T) say so."""
        by_layer = getattr(found, name)
        if layer not in by_layer:
            by_layer[layer] = values.new_zeros((*wanted.shape, *values.shape[2:]), dtype=torch.float32)
            reached[name, layer] = torch.zeros(wanted.shape, dtype=torch.bool)
        rows, columns = (slots >= 0).nonzero(as_tuple=True)
        into = slots[rows, columns]
        device = values.device
        by_layer[layer][rows.to(device), into.to(device)] = values[rows.to(device), columns.to(device)].detach().float()
        reached[name, layer][rows.cpu(), into.cpu()] = True

    attention = tuple(attention)
    sites: list[tuple[str, Iterable[int], Callable[[int], Callable[..., Any]], Callable[..., Tensor]]] = [
        ("residual", residual, lambda i: anatomy.layers[i].register_forward_hook, read_residual),
        ("heads", heads, lambda i: anatomy.o_proj(i).register_forward_pre_hook, read_heads),
        ("neurons", neurons, lambda i: anatomy.down_proj(i).register_forward_pre_hook, read_neurons),
        ("attention", attention, lambda i: anatomy.attention(i).register_forward_hook, read_attention),
    ]
    with ExitStack() as stack:
        watch = stack.enter_context(watch_passes(subject))
        if attention:
            stack.enter_context(attention_by(subject, "eager"))
        for name, layers, register, read in sites:
            for layer in layers:
                anatomy.check_layer(layer)

                def hook(
                    module: nn.Module, args: Any, output: Any = None, *, name: str = name, layer: int = layer,
                    read: Callable[..., Tensor] = read,
                ) -> None:  # fmt: skip
                    slots = scope(watch.current)
                    if (slots >= 0).any():
                        store(name, layer, read(watch, args, output), slots)

                stack.callback(register(layer)(hook).remove)
                reached[name, layer] = torch.zeros(wanted.shape, dtype=torch.bool)
        if not reached:
            raise MechinterpError("capture: name at least one layer of residual, heads, neurons or attention")
        yield found
        for (name, layer), there in reached.items():
            if missed := int((~there)[wanted >= 0].sum()):
                raise InstrumentError(f"capture of {name} in layer {layer}: {missed} positions were never reached")


def mean_heads(subject: Subject, sequences: Sequence[Sequence[int]]) -> dict[int, Tensor]:
    """The mean of each head's output before W_O over all real tokens: (n_heads, d_head) by layer."""
    anatomy = subject.anatomy
    means = _mean_inputs(subject, sequences, anatomy.o_proj)
    return {layer: mean.unflatten(0, (anatomy.n_heads, anatomy.d_head)) for layer, mean in means.items()}


def mean_neurons(subject: Subject, sequences: Sequence[Sequence[int]]) -> dict[int, Tensor]:
    """The mean of each neuron's activation over all real tokens: (d_mlp,) by layer."""
    return _mean_inputs(subject, sequences, subject.anatomy.down_proj)


@torch.no_grad()
def _mean_inputs(
    subject: Subject, sequences: Sequence[Sequence[int]], module_of: Callable[[int], nn.Module]
) -> dict[int, Tensor]:
    sums: dict[int, Tensor] = {}
    tokens = sum(len(s) for s in sequences)
    if not tokens:
        raise MechinterpError("a mean over tokens: no sequences were given")
    with ExitStack() as stack:
        watch = stack.enter_context(watch_passes(subject))
        for layer in range(subject.anatomy.n_layers):

            def add(module: nn.Module, args: Any, *, layer: int = layer) -> None:
                real = watch.current.positions.to(args[0].device) >= 0  # padding would spoil the mean
                total = args[0][real].float().sum(0)
                sums[layer] = sums[layer] + total if layer in sums else total

            stack.callback(module_of(layer).register_forward_pre_hook(add).remove)
        for _, batch in batches(subject, sequences, progress="means"):
            subject.model.model(**batch.inputs(), use_cache=False)
    return {layer: total / tokens for layer, total in sums.items()}


def _align(weights: Tensor | None, now: Pass, span: int) -> Tensor:
    """Attention weights (B, n_heads, T, columns) -> (B, n_heads, T, span), indexed by token position."""
    if weights is None:
        raise InstrumentError("the model gave no attention weights; the eager kernel was not used")
    width = weights.shape[-1]
    seen = int((now.first + now.positions[:, -1]).max()) + 1  # columns so far; a sliding window has dropped some
    first = now.first.to(weights.device) - max(0, seen - width)
    columns = first[:, None] + torch.arange(span, device=weights.device)  # (B, span)
    inside = (columns >= 0) & (columns < width)
    index = columns.clamp(0, width - 1)[:, None, None, :].expand(*weights.shape[:3], -1)
    return weights.gather(-1, index) * inside[:, None, None, :]
