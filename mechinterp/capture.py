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
from mechinterp.given import layers
from mechinterp.passes import Pass, Reach, Watch, watch_passes
from mechinterp.positions import token_positions
from mechinterp.subject import Subject, attention_by, check_subject
from mechinterp.tokens import batches, token_ids

Places = tuple[Tensor, Tensor]  # rows and columns of a pass, each (found,)


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
    the rest under a KV cache. Attention rows need the eager kernel; it is switched on for the block only. -1 stands
    for no position, to fill rows that have fewer, and is captured as zeros.

    Raises:
        MechinterpError: a layer that the model does not have, a position below -1, or nothing to capture.
        InstrumentError: a position that no pass inside the block reached, or activations that are not finite.
    """
    check_subject(subject)
    anatomy, found = subject.anatomy, Captured()
    wanted = token_positions(positions, "capture(positions)").cpu()
    span = int(wanted.max()) + 1
    if not span:
        raise MechinterpError("capture(positions): every position is -1, which stands for none; name at least one")

    def read_residual(now: Pass, args: Any, output: Any, at: Places) -> Tensor:
        return (output[0] if isinstance(output, tuple) else output)[at]

    def read_heads(now: Pass, args: Any, output: Any, at: Places) -> Tensor:
        return args[0][at].unflatten(-1, (anatomy.n_heads, anatomy.d_head))

    def read_neurons(now: Pass, args: Any, output: Any, at: Places) -> Tensor:
        return args[0][at]

    def read_attention(now: Pass, args: Any, output: Any, at: Places) -> Tensor:
        return _align(output[1], now, span, at)

    given = {"residual": residual, "heads": heads, "neurons": neurons, "attention": attention}
    asked = {name: layers(those, anatomy, f"capture({name})") for name, those in given.items()}
    if not any(asked.values()):
        raise MechinterpError("capture: name at least one layer of residual, heads, neurons or attention")
    sites: list[tuple[str, Callable[[int], Callable[..., Any]], Callable[..., Tensor]]] = [
        ("residual", lambda i: anatomy.layers[i].register_forward_hook, read_residual),
        ("heads", lambda i: anatomy.o_proj(i).register_forward_pre_hook, read_heads),
        ("neurons", lambda i: anatomy.down_proj(i).register_forward_pre_hook, read_neurons),
        ("attention", lambda i: anatomy.attention(i).register_forward_hook, read_attention),
    ]
    with ExitStack() as stack:
        watch = stack.enter_context(watch_passes(subject))
        if asked["attention"]:
            stack.enter_context(attention_by(subject, "eager"))
        looks = []
        for name, register, read in sites:
            for layer in asked[name]:
                look = _Look(watch, wanted, getattr(found, name), layer, read)
                stack.callback(register(layer)(look).remove)
                looks.append((f"capture of {name} in layer {layer}", look))
        yield found
        for what, look in looks:
            if missed := int(look.reach.never().sum()):
                raise InstrumentError(f"{what}: {missed} positions were never reached")
            if not look.found[look.layer].isfinite().all():
                raise InstrumentError(
                    f"{what}: numbers that are not finite, in a model of {subject.model.dtype}; load it in float32"
                )


class _Look:
    """The hook of one site in one layer: puts what it reads at the wanted positions into `found[layer]`."""

    def __init__(
        self, watch: Watch, wanted: Tensor, found: dict[int, Tensor], layer: int, read: Callable[..., Tensor]
    ) -> None:
        self.watch, self.wanted, self.found, self.layer, self.read = watch, wanted, found, layer, read
        self.reach = Reach(wanted, onwards=False)

    def __call__(self, module: nn.Module, args: Any, output: Any = None) -> None:
        now = self.watch.now()
        if len(self.wanted) != len(now.positions):
            raise MechinterpError(
                f"capture(positions): {len(self.wanted)} rows of positions for a pass of {len(now.positions)} rows"
            )
        self.reach.see(now)
        wanted = self.wanted.to(now.positions.device)[:, None]
        match = (now.positions[:, :, None] == wanted) & (wanted >= 0)  # (B, T, k)
        rows, columns, slots = (index.cpu() for index in match.nonzero(as_tuple=True))  # layers may lie elsewhere
        values = self.read(now, args, output, (rows, columns)).detach().float()  # (found, ...)
        if self.layer not in self.found:
            shape = (*self.wanted.shape, *values.shape[1:])
            with torch.inference_mode(False):  # so that what is captured can be used outside
                self.found[self.layer] = torch.zeros(shape, dtype=torch.float32, device=values.device)
        self.found[self.layer][rows, slots] = values


def mean_heads(subject: Subject, sequences: Sequence[Sequence[int]]) -> dict[int, Tensor]:
    """The mean of each head's output before W_O over all real tokens: (n_heads, d_head) by layer."""
    check_subject(subject)
    anatomy = subject.anatomy
    means = _mean_inputs(subject, sequences, anatomy.o_proj)
    return {layer: mean.unflatten(0, (anatomy.n_heads, anatomy.d_head)) for layer, mean in means.items()}


def mean_neurons(subject: Subject, sequences: Sequence[Sequence[int]]) -> dict[int, Tensor]:
    """The mean of each neuron's activation over all real tokens: (d_mlp,) by layer."""
    check_subject(subject)
    return _mean_inputs(subject, sequences, subject.anatomy.down_proj)


@torch.no_grad()
def _mean_inputs(
    subject: Subject, sequences: Sequence[Sequence[int]], module_of: Callable[[int], nn.Module]
) -> dict[int, Tensor]:
    sums: dict[int, Tensor] = {}
    sequences = token_ids(subject, sequences, "a mean over tokens: sequences")
    tokens = sum(len(s) for s in sequences)
    with ExitStack() as stack:
        watch = stack.enter_context(watch_passes(subject))
        for layer in range(subject.anatomy.n_layers):

            def add(module: nn.Module, args: Any, *, layer: int = layer) -> None:
                real = watch.now().positions.to(args[0].device) >= 0  # padding would spoil the mean
                total = args[0][real].float().sum(0)
                sums[layer] = sums[layer] + total if layer in sums else total

            stack.callback(module_of(layer).register_forward_pre_hook(add).remove)
        for _, batch in batches(subject, sequences, progress="means"):
            subject.model.model(**batch.inputs(), use_cache=False)
    return {layer: total / tokens for layer, total in sums.items()}


def _align(weights: Tensor | None, now: Pass, span: int, at: Places) -> Tensor:
    """Attention weights (B, n_heads, T, columns) -> those of some places (found, n_heads, span), by token position."""
    if weights is None:
        raise InstrumentError("the model gave no attention weights; the eager kernel was not used")
    so_far = now.so_far.to(weights.device)  # (B, C)
    dropped = max(0, so_far.shape[1] - weights.shape[-1])  # by a sliding window
    rows, columns = ((so_far >= 0) & (so_far < span)).nonzero(as_tuple=True)
    column = so_far.new_full((len(so_far), span), -1)  # of each position
    column[rows, so_far[rows, columns]] = columns - dropped
    row, place = at
    mine = column[row]  # (found, span)
    chosen = weights[row, :, place]  # (found, n_heads, columns)
    index = mine.clamp(min=0)[:, None].expand(-1, chosen.shape[1], -1)
    return chosen.gather(-1, index) * (mine >= 0)[:, None]
