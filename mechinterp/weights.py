"""Weights of one subject beside those of another, component by component: what training has moved, and how far.

weight_changes     how far each component of a kind has moved
WeightChanges      what it gives: distance, cosine and norms, and the percentile of some components among all
check_comparable   refuses two subjects whose weights do not correspond

Both are compared in fp32 whatever their number formats are. A distance of zero says as little as a cosine of one where
nothing else has moved either: read it beside the percentile.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from mechinterp.anatomy import Anatomy
from mechinterp.errors import MechinterpError, quote
from mechinterp.given import pairs
from mechinterp.subject import Subject, check_subject

PARTS_OF_HEADS = ("query", "key", "value", "output", "query bias", "key bias", "value bias")
"""Of keys and values there is one for each group of heads that share them."""
PARTS_OF_NEURONS = ("gate", "up", "value vector")
PARTS_OF_LAYERS = ("attention norm", "mlp norm")
"""Gains, which scale what all heads or neurons of a layer read: one unit a layer."""
KINDS = PARTS_OF_HEADS + PARTS_OF_NEURONS + PARTS_OF_LAYERS


@dataclass(frozen=True, eq=False)
class WeightChanges:
    """How far the components of one kind have moved: (layers, units) each, fp32 on the CPU.

    Attributes:
        kind: one of KINDS.
        heads_a_unit: query heads that share one unit: more than 1 for keys and values under grouped queries.
        distance: ||subject - reference|| / ||reference||; infinite where the reference has nothing but zeros.
        cosine: of the two; 1 for zeros beside zeros, 0 for zeros beside something.
        norm, reference_norm: lengths, for a cosine hides scale.
    """

    kind: str
    heads_a_unit: int
    distance: Tensor
    cosine: Tensor
    norm: Tensor
    reference_norm: Tensor

    def of(self, components: Any) -> Tensor:
        """Distances of some heads (query heads, also for keys and values) or neurons, in the order given: (n,)."""
        return self.distance[self._places(components)]

    def percentile(self, components: Any) -> Tensor:
        """Of some heads or neurons, the share of all components of the kind that moved less: (n,), 0 to 1.

        Those that moved as much count half, the component itself among them. Where nothing moved, all are at 0.5.
        """
        every, mine = self.distance.flatten(), self.of(components)[:, None]
        return (every < mine).float().mean(1) + (every == mine).float().mean(1) / 2

    def _places(self, components: Any) -> tuple[Tensor, Tensor]:
        given = pairs(components, f"{self.kind}: components")
        layers, units = self.distance.shape
        most = units * self.heads_a_unit
        if not given:
            raise MechinterpError(f"{self.kind}: no components were given; give (layer, number) pairs")
        for layer, number in given:
            if not (0 <= layer < layers and 0 <= number < most):
                raise MechinterpError(
                    f"{self.kind}: number {number} of layer {layer}, but there are layers 0 to {layers - 1} with 0 to "
                    f"{most - 1}"
                )
        rows = torch.tensor(given)
        return rows[:, 0], rows[:, 1] // self.heads_a_unit


@torch.no_grad()
def weight_changes(subject: Subject, reference: Subject, kind: str) -> WeightChanges:
    """How far each component of a kind has moved from the reference to the subject.

    A head's query, key and value are its rows of `q_proj`, `k_proj` and `v_proj`, its output its columns of `o_proj`; a
    neuron's gate and up are its rows, its value vector is its column of `down_proj`. The gains of the norms
    before them, which act like weights, are kinds of their own.

    Raises:
        MechinterpError: weights that do not correspond, see `check_comparable`, an unknown kind, or a bias that the
            models do not have.
    """
    check_comparable(subject, reference)
    if kind not in KINDS:
        raise MechinterpError(f"weight_changes: kind: expected one of {', '.join(KINDS)}, got {quote(kind)}")
    found = []
    for layer in range(subject.anatomy.n_layers):
        ours, theirs = (_units(one.anatomy, layer, kind) for one in (subject, reference))
        found.append(_compared(ours, theirs.to(ours.device)))
    distance, cosine, norm, reference_norm = (torch.stack(part) for part in zip(*found, strict=True))
    anatomy = subject.anatomy
    shared = (
        anatomy.n_heads // anatomy.n_kv_heads if kind.split()[0] in ("key", "value") and "vector" not in kind else 1
    )
    return WeightChanges(kind, shared, distance, cosine, norm, reference_norm)


def check_comparable(subject: Subject, reference: Subject) -> None:
    """Refuse two subjects whose weights do not correspond one to one.

    Raises:
        MechinterpError: of other families or shapes, or one of them stored quantised: the distance between rounded
            weights is that of the rounding.
    """
    for one in (subject, reference):
        check_subject(one)
        one.check_unchanged()
        if one.quantised or getattr(one.model.config, "quantization_config", None):
            how = f" ({one.quantised})" if one.quantised else ""
            raise MechinterpError(
                f"{one.name} is quantised{how}: the distance of its weights would be that of the rounding; name the "
                "checkpoint as it was trained"
            )
    for fact in ("family", *(one.name for one in fields(Anatomy) if one.name.startswith(("n_", "d_")))):
        ours, theirs = getattr(subject.anatomy, fact), getattr(reference.anatomy, fact)
        if ours != theirs:
            raise MechinterpError(
                f"{subject.name} has {fact} {ours}, {reference.name} has {theirs}; only weights of the same family and "
                "shape can be compared"
            )


def _units(anatomy: Anatomy, layer: int, kind: str) -> Tensor:
    """(units, numbers), fp32."""
    attention: Any = anatomy.attention(layer)
    mlp: Any = anatomy.mlp(layer)
    if kind in ("gate", "up"):
        return getattr(mlp, f"{kind}_proj").weight.detach().float()
    if kind in PARTS_OF_LAYERS:
        norm: Any = anatomy.attention_norm(layer) if kind == "attention norm" else anatomy.mlp_norm(layer)
        return norm.weight.detach().float()[None]
    if kind == "value vector":
        return anatomy.down_proj(layer).weight.detach().float().T
    if kind == "output":
        return anatomy.o_proj(layer).weight.detach().float().T.reshape(anatomy.n_heads, -1)
    part, _, bias = kind.partition(" ")
    module = getattr(attention, {"query": "q_proj", "key": "k_proj", "value": "v_proj"}[part])
    given = module.bias if bias else module.weight
    if given is None:
        raise MechinterpError(f"weight_changes: this model has no {kind}")
    return given.detach().float().reshape(anatomy.n_heads if part == "query" else anatomy.n_kv_heads, -1)


def _compared(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distance, cosine and the two norms, (units,) each."""
    norm, reference_norm = ours.norm(dim=1), theirs.norm(dim=1)
    apart = (ours - theirs).norm(dim=1)
    distance = torch.where(apart == 0, 0.0, apart / reference_norm)
    same = (norm == 0) & (reference_norm == 0)
    product = (ours * theirs).sum(1) / (norm * reference_norm).clamp(min=torch.finfo(torch.float32).tiny)
    cosine = torch.where(same, 1.0, product.clamp(-1, 1))
    return distance.cpu(), cosine.cpu(), norm.cpu(), reference_norm.cpu()
