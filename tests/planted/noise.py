"""What is not planted: heads that look anywhere and neurons that fire at anything, from noise to noise.

They read which word a token is and write noise, as much as the verifiers write or more. A little of it leaks into the
circuit, so that no two transcripts have the same log-odds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from .space import D_HEAD, D_MLP, D_MODEL, FAILS, HEADS, IDENTITY, MATCH, MOVED, NOISE, SUCCEEDS, weights

LEAK = 0.02  # relative to what is written into noise


def randomise(model: LlamaForCausalLM, layer: int, rng: torch.Generator) -> None:
    """All heads and neurons of a layer."""
    for head in range(HEADS):
        q, k, v, o = weights(model, (layer, head))
        for part in (q, k, v):
            part[:, IDENTITY] = 0.5 * normal(rng, D_HEAD, IDENTITY)
        o.copy_(0.05 * math.exp(1.5 * torch.rand(1, generator=rng)) * scatter(rng, D_HEAD))
    mlp = model.model.layers[layer].mlp
    for part in (mlp.gate_proj.weight, mlp.up_proj.weight):
        part[:, IDENTITY] = 0.3 * normal(rng, D_MLP, IDENTITY)
    mlp.down_proj.weight.copy_(0.03 * scatter(rng, D_MLP))


def scatter(rng: torch.Generator, columns: int) -> Tensor:
    """Columns of about unit norm that write into NOISE, and a little into the circuit: (d_model, columns)."""
    written = torch.zeros(D_MODEL, columns)
    written[NOISE] = normal(rng, columns, NOISE).T / math.sqrt(NOISE.stop - NOISE.start)
    circuit = [MATCH, MOVED, SUCCEEDS, FAILS]
    written[circuit] = LEAK * torch.randn(len(circuit), columns, generator=rng)
    return written


def normal(rng: torch.Generator, rows: int, dims: slice) -> Tensor:
    return torch.randn(rows, dims.stop - dims.start, generator=rng)
