"""The clean pass: prompts run once without edits, and what is kept of that for rows that begin in the middle.

Clean      of some prompts of one length, what later rows need
run_clean  the pass
Wanted     which activations it keeps
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from mechinterp.metric import Metric, Readout
from mechinterp.row_edits import HEADS, NEURONS, RESIDUAL, Place
from mechinterp.shared_prefix import Prefix
from mechinterp.subject import Subject


@dataclass(frozen=True)
class Wanted:
    """Layers of which activations are kept.

    Attributes:
        stream: what enters the layer; the number of layers stands for what enters the final norm.
        heads: what the heads read out.
    """

    stream: frozenset[int]
    heads: frozenset[int]

    @classmethod
    def by(cls, places: Iterable[Place], metric: Metric) -> Wanted:
        """What rows that begin at these places, and the metric, need."""
        after = {place.layer + 1 for place in places if place.kind == RESIDUAL} | {i + 1 for i in metric.residual}
        inside = {place.layer for place in places if place.kind != RESIDUAL} | set(metric.neurons)
        return cls(frozenset(after | inside), frozenset(inside))

    @classmethod
    def all(cls, layers: int) -> Wanted:
        return cls(frozenset(range(layers + 1)), frozenset(range(layers)))


@dataclass(frozen=True, eq=False)
class Clean:
    """P prompts of T tokens; of the tokens from `start` on, C of them, activations by layer.

    Attributes:
        prompt: (P,) numbers of the prompts.
        keys, values: by layer, (P, n_kv_heads, T, d_head).
        stream: (P, C, d_model), see `Wanted`.
        heads: (P, C, n_heads * d_head).
        final: (P, d_model), the last token after the final norm.
    """

    subject: Subject
    prompt: Tensor
    start: int
    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    stream: Mapping[int, Tensor]
    heads: Mapping[int, Tensor]
    final: Tensor

    def part(self, rows: slice | Sequence[int], start: int) -> Clean:
        """Of some of these prompts, what follows a later token."""
        later = start - self.start
        return replace(
            self,
            prompt=self.prompt[rows],
            start=start,
            keys=[keys[rows] for keys in self.keys],
            values=[values[rows] for values in self.values],
            stream={layer: stream[rows, later:] for layer, stream in self.stream.items()},
            heads={layer: heads[rows, later:] for layer, heads in self.heads.items()},
            final=self.final[rows],
        )

    @property
    def columns(self) -> int:
        """C."""
        return self.keys[0].shape[2] - self.start

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        held = [*self.keys, *self.values, *self.stream.values(), *self.heads.values(), self.final]
        return sum(tensor.nbytes for tensor in held)

    @property
    def prefix(self) -> Prefix | None:
        """Keys and values of the tokens before `start`, None where there are none."""
        if not self.start:
            return None
        return Prefix([keys[:, :, : self.start] for keys in self.keys], [v[:, :, : self.start] for v in self.values])

    def written(self, layer: int, heads: Tensor) -> Tensor:
        """What a layer's attention writes, from what its heads read out; past the hooks that edit other rows."""
        return self.subject.anatomy.o_proj(layer).forward(heads)

    def middle(self, layer: int) -> Tensor:
        """(P, C, d_model), between attention and MLP."""
        return self.stream[layer] + self.written(layer, self.heads[layer])

    def readout(self, metric: Metric) -> Readout:
        """The last token of each prompt."""
        residual = {layer: self.stream[layer + 1][:, -1] for layer in metric.residual}
        neurons = {layer: self._neurons(layer, slice(-1, None))[:, 0] for layer in metric.neurons}
        return Readout(self.subject, self.prompt, self.final, residual, neurons)

    def at(self, place: Place) -> Tensor:
        """(P, C, features): what heads read out, neurons, queries or keys. To be asked for outside of edits."""
        if place.kind == HEADS:
            return self.heads[place.layer]
        if place.kind == NEURONS:
            return self._neurons(place.layer, slice(None))
        normed = self.subject.anatomy.attention_norm(place.layer)(self.stream[place.layer])
        return place.module(self.subject.anatomy).forward(normed)

    def _neurons(self, layer: int, columns: slice) -> Tensor:
        """(P, columns, d_mlp)."""
        anatomy, found = self.subject.anatomy, []
        keep = anatomy.down_proj(layer).register_forward_pre_hook(lambda module, args: found.append(args[0]))
        try:
            anatomy.mlp(layer)(anatomy.mlp_norm(layer)(self.middle(layer)[:, columns]))
        finally:
            keep.remove()
        return found[0]


def run_clean(
    subject: Subject, prompts: Sequence[Sequence[int]], numbers: Sequence[int], start: int, wanted: Wanted
) -> Clean:
    """Run the prompts with these numbers, all of one length."""
    anatomy = subject.anatomy
    stream: dict[int, Tensor] = {}
    heads: dict[int, Tensor] = {}
    cache = DynamicCache()  # without the configuration: layers with a sliding window, too, keep every key
    with ExitStack() as stack:

        def keep(into: dict[int, Tensor], layers: Iterable[int], module_of: Callable[[int], nn.Module]) -> None:
            for layer in sorted(layers):

                def store(module: nn.Module, args: tuple[Tensor], layer: int = layer) -> None:
                    into[layer] = args[0][:, start:].clone()  # not a view: it would keep every column

                stack.callback(module_of(layer).register_forward_pre_hook(store).remove)

        def entered(layer: int) -> nn.Module:
            return anatomy.attention_norm(layer) if layer < anatomy.n_layers else anatomy.norm

        keep(stream, wanted.stream, entered)
        keep(heads, wanted.heads, anatomy.o_proj)
        ids = torch.tensor([prompts[number] for number in numbers], device=subject.device)
        final = subject.model.model(ids, past_key_values=cache, use_cache=True).last_hidden_state[:, -1].clone()
    prompt = torch.tensor(list(numbers), device=subject.device)
    keys, values = [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers]
    return Clean(subject, prompt, start, keys, values, stream, heads, final)
