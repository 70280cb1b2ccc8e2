"""Value vectors and the weights that heads write with.

value_vectors        what each neuron of a layer writes
head_output_weights  W_O, head by head
head_outputs         what each head writes into the residual stream
nearest_values       the value vectors nearest to a direction
matched_neurons      other neurons as active as the given ones
draw_matched         random sets of them, the control
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mechinterp.errors import MechinterpError
from mechinterp.intervene import Neuron
from mechinterp.subject import Subject


def value_vectors(subject: Subject, layer: int) -> Tensor:
    """The columns of `down_proj`, one a neuron: (d_mlp, d_model), fp32.

    Source: Geva et al., "Transformer Feed-Forward Layers Are Key-Value Memories" (2021).
    """
    subject.anatomy.check_layer(layer)
    subject.check_unchanged()
    return subject.anatomy.down_proj(layer).weight.detach().float().T


def head_output_weights(subject: Subject, layer: int) -> Tensor:
    """W_O by head: (n_heads, d_head, d_model), fp32. A head writes `z @ W_O[head]`."""
    anatomy = subject.anatomy
    anatomy.check_layer(layer)
    subject.check_unchanged()
    weight = anatomy.o_proj(layer).weight.detach().float().T  # (n_heads * d_head, d_model)
    return weight.unflatten(0, (anatomy.n_heads, anatomy.d_head))


def head_outputs(subject: Subject, layer: int, z: Tensor) -> Tensor:
    """What each head writes: z (..., n_heads, d_head), as captured, -> (..., n_heads, d_model).

    Summed over the heads, plus the bias of `o_proj` if there is one, this is the attention output.
    """
    return torch.einsum("...hd,hdm->...hm", z.float(), head_output_weights(subject, layer).to(z.device))


def nearest_values(subject: Subject, layer: int, direction: Tensor, k: int) -> list[int]:
    """The k neurons of a layer whose value vectors have the highest cosine with `direction` (d_model,)."""
    if not 0 < k <= subject.anatomy.d_mlp:
        raise MechinterpError(f"nearest_values: k = {k}, but a layer has {subject.anatomy.d_mlp} value vectors")
    vectors = value_vectors(subject, layer)
    cosines = cosine_similarity(vectors, direction.to(vectors)[None], dim=-1)
    return cosines.topk(k).indices.tolist()


def matched_neurons(neurons: Sequence[Neuron], activity: Tensor, *, pool: int) -> list[list[Neuron]]:
    """For each neuron, the `pool` other neurons of its layer that are most like it.

    Args:
        activity: (layers, d_mlp), such as the mean absolute activation, or several such numbers of each neuron,
            (layers, d_mlp, m), whose differences are added up.
    """
    taken = set(neurons)
    matches = []
    for layer, neuron in neurons:
        distance = (activity[layer] - activity[layer, neuron]).abs()
        distance = distance.sum(-1) if distance.ndim > 1 else distance
        order = [(layer, int(i)) for i in distance.argsort()[: pool + len(taken)]]
        matches.append([one for one in order if one not in taken][:pool])
    return matches


def draw_matched(matches: Sequence[Sequence[Neuron]], *, draws: int, seed: int) -> list[list[Neuron]]:
    """Random sets with one match of each neuron, without repeats within a set where the pools allow it."""
    rng = np.random.default_rng(seed)
    if not matches or not all(matches):
        raise MechinterpError("draw_matched: a neuron has no other neuron in its layer to be compared with")
    return [_draw(matches, rng) for _ in range(draws)]


def _draw(matches: Sequence[Sequence[Neuron]], rng: np.random.Generator) -> list[Neuron]:
    drawn: dict[Neuron, None] = {}
    for pool in matches:
        free = [one for one in pool if one not in drawn] or list(pool)
        drawn[free[rng.integers(len(free))]] = None
    return list(drawn)
