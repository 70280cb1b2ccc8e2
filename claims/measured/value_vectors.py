"""The value vectors near the probe, and what they are compared with.

ValueVectors   the nearest ones, those that fire for success, matched and synthetic ones
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

import mechinterp as mi
from claims.measured.bars import NEAREST, ZEROED
from claims.measured.observations import Observations
from claims.measured.once import once
from claims.measured.probing import Probing
from mechinterp import Neuron, Subject


@dataclass(eq=False)
class ValueVectors:
    """Value vectors by their cosine with the probe's direction at ` (`."""

    subject: Subject
    observed: Observations
    probing: Probing
    seed: int

    @property
    def second_half(self) -> range:
        return range(self.subject.anatomy.n_layers // 2, self.subject.anatomy.n_layers)

    def direction(self, layer: int, sign: int) -> Tensor:
        """(d_model,), of length 1; sign 1 is right, -1 wrong."""
        return sign * normalize(self.probing.fitted.directions[layer].float(), dim=0)

    def cosines(self, layer: int, sign: int) -> Tensor:
        """(d_mlp,)."""
        vectors = mi.value_vectors(self.subject, layer).cpu()
        return normalize(vectors, dim=1) @ self.direction(layer, sign)

    def nearest(self, sign: int, k: int = NEAREST, layers: Sequence[int] | None = None) -> list[Neuron]:
        """The k nearest of some layers, by default of the second half, the nearest first."""
        near = []
        for layer in self.second_half if layers is None else layers:
            top = self.cosines(layer, sign).topk(min(k, self.subject.anatomy.d_mlp))
            near += [(float(c), layer, int(i)) for c, i in zip(top.values, top.indices, strict=True)]
        return [(layer, i) for _, layer, i in sorted(near, reverse=True)[:k]]

    def nearest_of_each_layer(self, sign: int, share: float = ZEROED) -> list[Neuron]:
        """As published: so many of each layer of the second half."""
        count = max(1, round(share * self.subject.anatomy.d_mlp))
        return [neuron for layer in self.second_half for neuron in self.nearest(sign, count, [layer])]

    def vectors(self, neurons: Sequence[Neuron]) -> Tensor:
        """(n, d_model), fp32."""
        by_layer = {at: mi.value_vectors(self.subject, at).cpu() for at in sorted({at for at, _ in neurons})}
        return torch.stack([by_layer[layer][i] for layer, i in neurons])

    def synthetic(self, neurons: Sequence[Neuron], sign: int, draws: range) -> Tensor:
        """(draws, n, d_model): for each neuron a vector with its cosine to the probe, and otherwise like another
        value vector of its layer, drawn at random.
        """
        rngs = [np.random.default_rng([self.seed, draw, 11]) for draw in draws]
        made = torch.empty(len(draws), len(neurons), self.subject.anatomy.d_model)
        for layer in sorted({layer for layer, _ in neurons}):
            unit = normalize(mi.value_vectors(self.subject, layer).cpu(), dim=1)
            direction = self.direction(layer, sign)
            members = [n for n, (at, _) in enumerate(neurons) if at == layer]
            cosine = (unit[[neurons[n][1] for n in members]] @ direction)[:, None]
            for row, rng in zip(made, rngs, strict=True):
                others = unit[rng.integers(len(unit), size=len(members))]
                across = normalize(others - (others @ direction)[:, None] * direction, dim=1)
                row[members] = cosine * direction + (1 - cosine.square()).clamp(min=0).sqrt() * across
        return made

    @once
    def success(self) -> list[Neuron]:
        """Of the nearest to "right", those that fire more after right attempts (fit half)."""
        near = self.nearest(1)
        gap = self.observed.activity[1] - self.observed.activity_wrong
        return [neuron for neuron in near if gap[neuron] > 0] or near

    @once
    def written(self) -> Tensor:
        """What each success value vector writes along its layer's probe, a unit of activation: (n,)."""
        return torch.stack([self.vectors([one])[0] @ self.direction(one[0], 1) for one in self.success])

    @property
    def metric(self) -> mi.Metric:
        """What the success value vectors write along the probe at the last token, summed."""
        by_layer: dict[int, list[int]] = {}
        weights: dict[int, list[float]] = {}
        for (layer, neuron), weight in zip(self.success, self.written.tolist(), strict=True):
            by_layer.setdefault(layer, []).append(neuron)
            weights.setdefault(layer, []).append(weight)

        def of(read: mi.Readout) -> Tensor:
            parts = [
                read.neurons[layer][:, chosen].double()
                @ torch.tensor(weights[layer], dtype=torch.float64).to(read.neurons[layer].device)
                for layer, chosen in by_layer.items()
            ]
            return torch.stack([part.cpu() for part in parts]).sum(0)

        return mi.Metric(of, neurons=tuple(by_layer), name=f"written along the probe by {by_layer}: {weights}")

    def matched(self, neurons: Sequence[Neuron], *, pool: int) -> list[list[Neuron]]:
        """For each neuron, others of its layer as active at ` (` and writing as much, see `mi.matched_neurons`."""
        activity = self.observed.activity[0]  # (layers, d_mlp)
        lengths = torch.stack([mi.value_vectors(self.subject, at).norm(dim=1).cpu() for at in range(len(activity))])
        sizes = torch.stack([activity, activity * lengths], dim=-1).clamp(min=1e-6).log()
        return mi.matched_neurons(neurons, sizes, pool=pool)
