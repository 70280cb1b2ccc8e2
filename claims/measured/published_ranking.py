"""The source's order of its attending heads: by how much their OV circuits drive the valid value vectors.

valid_vectors            the value vectors nearest to the probe's column for success
ranked_by_valid_vectors  heads in that order

Source: the released code of arXiv 2504.14379 (verify_circuit, notebooks/paper_attn): of each head the diagonal of
W_V W_O, without the norm's gain, as if it were a vector of the residual stream; of each valid vector its gate and up
projections of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import normalize

import mechinterp as mi
from claims.measured.bars import NEAREST
from mechinterp import Head, Neuron

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory

VALID = 200
"""Value vectors that heads are ranked by."""


def valid_vectors(lab: Laboratory) -> list[Neuron]:
    """Of the probe of every layer from a third of the depth on, the nearest of each layer up to its own; the first of
    all, the nearest first.
    """
    columns = normalize(lab.published_probe("open_paren").column("success"), dim=1)
    depth = len(columns)
    nearest: dict[Neuron, float] = {}
    for layer in range(depth):
        later = columns[max(layer, depth // 3) :]
        cosines = normalize(mi.value_vectors(lab.subject, layer).cpu(), dim=1) @ later.T  # (d_mlp, probes)
        top = cosines.topk(min(NEAREST, len(cosines)), dim=0)
        for cosine, neuron in zip(top.values.flatten().tolist(), top.indices.flatten().tolist(), strict=True):
            nearest[layer, neuron] = max(cosine, nearest.get((layer, neuron), -1.0))
    return sorted(nearest, key=lambda neuron: -nearest[neuron])[:VALID]


def ranked_by_valid_vectors(lab: Laboratory, heads: Sequence[Head]) -> list[Head]:
    """These heads, the one that drives the valid vectors most first."""
    subject, valid = lab.subject, valid_vectors(lab)
    gates, ups = (_projections(lab, name, valid) for name in ("gate_proj", "up_proj"))
    act: Any = subject.anatomy.mlp(0).act_fn
    drives = {}
    for layer in sorted({layer for layer, _ in heads}):
        values, outputs = mi.head_value_weights(subject, layer), mi.head_output_weights(subject, layer)
        diagonal = torch.einsum("hmd,hdm->hm", values, outputs).to(gates.device)  # (n_heads, d_model)
        drives[layer] = (act(gates @ diagonal.T) * (ups @ diagonal.T)).mean(0)  # (n_heads,)
    return sorted(heads, key=lambda head: -float(drives[head[0]][head[1]]))


def _projections(lab: Laboratory, name: str, neurons: Sequence[Neuron]) -> torch.Tensor:
    """(neurons, d_model), fp32: what each reads by this projection."""
    weights = {at: getattr(lab.subject.anatomy.mlp(at), name).weight for at in sorted({at for at, _ in neurons})}
    return torch.stack([weights[layer][i].detach().float().cpu() for layer, i in neurons])
