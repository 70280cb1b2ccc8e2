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
from mechinterp.given import each, pairs, real_numbers, seeded, whole_number
from mechinterp.replacements import Neuron
from mechinterp.subject import Subject, check_subject


def value_vectors(subject: Subject, layer: int) -> Tensor:
    """The columns of `down_proj`, one a neuron: (d_mlp, d_model), fp32.

    Source: Geva et al., "Transformer Feed-Forward Layers Are Key-Value Memories" (2021).
    """
    check_subject(subject)
    subject.anatomy.check_layer(layer)
    subject.check_unchanged()
    return subject.anatomy.down_proj(layer).weight.detach().float().T


def head_output_weights(subject: Subject, layer: int) -> Tensor:
    """W_O by head: (n_heads, d_head, d_model), fp32. A head writes `z @ W_O[head]`."""
    check_subject(subject)
    anatomy = subject.anatomy
    anatomy.check_layer(layer)
    subject.check_unchanged()
    weight = anatomy.o_proj(layer).weight.detach().float().T  # (n_heads * d_head, d_model)
    return weight.unflatten(0, (anatomy.n_heads, anatomy.d_head))


def head_outputs(subject: Subject, layer: int, z: Tensor) -> Tensor:
    """What each head writes: z (..., n_heads, d_head), as captured, -> (..., n_heads, d_model).

    Summed over the heads, plus the bias of `o_proj` if there is one, this is the attention output.
    """
    weights, read = head_output_weights(subject, layer), real_numbers(z, "head_outputs: z", finite=False)
    if read.shape[-2:] != weights.shape[:2]:
        raise MechinterpError(
            f"head_outputs: expected z (..., {weights.shape[0]} heads, {weights.shape[1]}), got {tuple(read.shape)}"
        )
    return torch.einsum("...hd,hdm->...hm", read.float(), weights.to(read.device))


def nearest_values(subject: Subject, layer: int, direction: Tensor, k: int) -> list[int]:
    """The k neurons of a layer whose value vectors have the highest cosine with `direction` (d_model,)."""
    vectors, k = value_vectors(subject, layer), whole_number(k, "nearest_values: k")
    if not 0 < k <= len(vectors):
        raise MechinterpError(f"nearest_values: k = {k}, but a layer has {len(vectors)} value vectors")
    towards = real_numbers(direction, "nearest_values: direction").detach().to(vectors)
    if towards.shape != vectors.shape[1:]:
        raise MechinterpError(
            f"nearest_values: expected a direction of {vectors.shape[1]} numbers, got {tuple(towards.shape)}"
        )
    cosines = cosine_similarity(vectors, towards[None], dim=-1)
    return cosines.topk(k).indices.tolist()


def matched_neurons(neurons: Sequence[Neuron], activity: Tensor, *, pool: int) -> list[list[Neuron]]:
    """For each neuron, the `pool` other neurons of its layer that are most like it.

    Args:
        activity: (layers, d_mlp), such as the mean absolute activation, or several such numbers of each neuron,
            (layers, d_mlp, m), whose differences are added up.

    Raises:
        MechinterpError: no neurons, one without an activity, or activities that are not finite.
    """
    what = "matched_neurons"
    neurons, pool = pairs(neurons, f"{what}: neurons"), whole_number(pool, f"{what}: pool", least=1)
    activity = real_numbers(activity, f"{what}: activity").detach()
    if not neurons or activity.ndim not in (2, 3):
        raise MechinterpError(
            f"{what}: expected neurons and activity (layers, d_mlp[, m]), got {len(neurons)} and "
            f"{tuple(activity.shape)}"
        )
    for layer, neuron in neurons:
        if not (0 <= layer < activity.shape[0] and 0 <= neuron < activity.shape[1]):
            raise MechinterpError(f"{what}: neuron {neuron} of layer {layer}, but activity is {tuple(activity.shape)}")
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
    rng, draws = seeded(seed, "draw_matched"), whole_number(draws, "draw_matched: draws", least=1)
    every = each(matches, "draw_matched: matches", "a list of neurons for each neuron")
    pools = [pairs(pool, "draw_matched: matches") for pool in every]
    if not pools or not all(pools):
        raise MechinterpError("draw_matched: a neuron has no other neuron in its layer to be compared with")
    return [_draw(pools, rng) for _ in range(draws)]


def _draw(matches: Sequence[Sequence[Neuron]], rng: np.random.Generator) -> list[Neuron]:
    drawn: dict[Neuron, None] = {}
    for pool in matches:
        free = [one for one in pool if one not in drawn] or list(pool)
        drawn[free[rng.integers(len(free))]] = None
    return list(drawn)
