"""Value vectors near the probe that name words of the lexicon, as evidence: they themselves, or what lies opposite.

named_near_column   of those nearest to the published probe's column, as published
named_near_probe    of those nearest to the probe, beyond what their nearness explains

With `antipodes` the vectors are turned round, and what they are to name is the other lexicon.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

import mechinterp as mi
from claims.measured.bars import CLUSTER, CLUSTER_TOP
from claims.measured.published import nearest_to_column
from mechinterp import Control, Draws, Evidence, Neuron

if TYPE_CHECKING:
    from torch import Tensor

    from claims.measured.laboratory import Laboratory

OTHER = {"success": "failure", "failure": "success"}
SIGN = {"success": 1, "failure": -1}
POOL = 40
"""Neurons that each is compared with."""


def names_as_published(lab: Laboratory, neurons: Sequence[Neuron], says: str, turn: int = 1) -> tuple[Tensor, Tensor]:
    """(n, top), the first tokens of some vectors, or of -1 times them, and (n,) whether enough are of the lexicon."""
    logits = mi.unembed_directions(lab.subject, turn * lab.values.vectors(neurons))[:, : len(lab.naming.texts)]
    tokens = logits.topk(CLUSTER_TOP, dim=-1).indices.cpu()
    return tokens, (tokens[..., None] == tokens.new_tensor(lab.naming.words(says))).any(-1).sum(1) >= CLUSTER


def named_near_column(lab: Laboratory, says: str, *, antipodes: bool = False) -> Evidence:
    neurons, names, turn = nearest_to_column(lab, says), OTHER[says] if antipodes else says, -1 if antipodes else 1
    tokens, hits = names_as_published(lab, neurons, names, turn)
    named = hits.double().numpy()
    return Evidence(
        named.mean(),
        mi.share_interval(named, seed=lab.seed),
        min(len(named), len(lab.observed.test)),
        details={
            name(neuron, antipodes): lab.naming.show_tokens(row)
            for neuron, row, hit in zip(neurons, tokens.tolist(), named, strict=True)
            if hit
        },
    )


def named_near_probe(lab: Laboratory, says: str, *, antipodes: bool = False) -> tuple[Evidence, Draws]:
    """The share of the nearest that name such words above that of synthetic vectors of the same cosine, as a null."""
    lab.require_probe()
    values, naming = lab.values, lab.naming
    sign, names, turn = SIGN[says], OTHER[says] if antipodes else says, -1 if antipodes else 1
    nearest = values.nearest(sign)

    def named(vectors: Tensor) -> np.ndarray:
        return (naming.counts(turn * vectors, names, CLUSTER_TOP) >= CLUSTER).astype(float)

    def synthetic(draws: range) -> np.ndarray:
        made = values.synthetic(nearest, sign, draws)  # (draws, n, d_model)
        return named(made.flatten(0, 1)).reshape(len(draws), -1).mean(1)

    hits = named(values.vectors(nearest))
    expected = float(synthetic(range(20)).mean())
    pool = sorted({one for match in values.matched(nearest, pool=POOL) for one in match})
    matched = float(named(values.vectors(pool)).mean())
    share, (low, high) = hits.mean(), mi.share_interval(hits, seed=lab.seed)
    shown = [neuron for neuron, hit in zip(nearest, hits, strict=True) if hit][:8]
    evidence = Evidence(
        effect=share - expected,
        interval=(low - expected, high - expected),
        n=min(len(hits), len(lab.observed.test)),
        controls=(Control("neurons as active, writing as much", share - matched, (low - matched, high - matched)),),
        selected=tuple(map(name, nearest)),
        details={
            "share": share,
            "share of synthetic vectors": expected,
            "share of matched neurons": matched,
            "value vectors": {
                name(one, antipodes): naming.show(turn * values.vectors([one])[0], CLUSTER_TOP) for one in shown
            },
        },
    )
    return evidence, Draws(lambda draws: synthetic(draws) - expected)


def name(neuron: Neuron, antipodes: bool = False) -> str:
    """As the source writes it."""
    return "MLP[{}, {}]".format(*neuron) + " * -1" * antipodes
