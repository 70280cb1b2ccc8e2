"""The source's own probe and heads, with its quirks.

PublishedProbe   two columns a layer, softmax, AdamW, early stop on the evaluation set that it is reported on
fit_published    fit it
named_by_column  the tokens that its columns name, without the final norm's gain
nearest_to_column  the value vectors nearest to a column, nearest_in_each_layer so many of each layer
called_right_without  what right attempts are called with heads off at all positions
a_prev           the heads that attend to the target: the mean over the last batch of four only

Source: arXiv 2504.14379 and its released code (src/probe.py of verify_circuit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

import mechinterp as mi
from claims.measured.bars import ATTENDS, NEAREST, ZEROED
from claims.measured.observations import Observations
from mechinterp import Head, Neuron, PreconditionUnmet, value_vectors

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory

LEARNING_RATE, BETAS, DECAY = 1e-4, (0.9, 0.99), 0.01
BATCH, EVERY, PATIENCE, MOST_STEPS = 16, 20, 10, 4000
LAST_BATCH = 4
MOST_HEADS = 50


@dataclass(frozen=True, eq=False)
class PublishedProbe:
    """Attributes:
    columns: (layers, d_model, 2), of `not` and of `this`.
    accuracy: (evaluated attempts, layers), whether each was read as the model's own next word.
    problem: (evaluated attempts,).
    """

    columns: Tensor
    accuracy: np.ndarray
    problem: np.ndarray

    def column(self, says: str) -> Tensor:
        """(layers, d_model), of "success" or "failure"."""
        return self.columns[..., 1 if says == "success" else 0]


def fit_published(observed: Observations, site: str, says_this: np.ndarray, *, seed: int) -> PublishedProbe:
    """Fit on right and incorrect attempts of the fit half; stop early on those of the test half.

    Args:
        says_this: (n,) whether `this` is likelier than `not` after each attempt: the labels.

    Raises:
        PreconditionUnmet: the model says one word after all of them.
    """
    train, held_out = (observed.rows(half, "correct", "incorrect") for half in (observed.fit, observed.test))
    if len(set(says_this[train].tolist())) < 2 or len(set(says_this[held_out].tolist())) < 2:
        word = "this" if says_this[train].any() else "not"
        raise PreconditionUnmet(f"it says `{word}` after every attempt: there are no two labels to fit a probe to")
    generator = torch.Generator().manual_seed(seed)
    x, y = observed.residual[site][train], torch.from_numpy(says_this[train]).long()
    x_eval, y_eval = observed.residual[site][held_out], torch.from_numpy(says_this[held_out]).long()
    layers, width = x.shape[1:]
    probe = (torch.randn(layers, width, 2, generator=generator) / width**0.5).requires_grad_()
    optimizer = torch.optim.AdamW([probe], lr=LEARNING_RATE, betas=BETAS, weight_decay=DECAY)
    best, kept, patience = float("inf"), probe.detach().clone(), 0
    for step in range(1, MOST_STEPS + 1):
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        loss = _loss(probe, x[chosen], y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % EVERY:
            continue
        with torch.no_grad():
            now = float(_loss(probe, x_eval, y_eval))
        best, kept, patience = (now, probe.detach().clone(), 0) if now < best else (best, kept, patience + 1)
        if patience >= PATIENCE:
            break
    with torch.no_grad():
        read = torch.einsum("nld,ldc->nlc", x_eval, kept).argmax(-1)
    return PublishedProbe(kept, (read == y_eval[:, None]).double().numpy(), observed.problem[held_out])


def _loss(probe: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean over layers and attempts of -log p(label)."""
    scores = torch.einsum("nld,ldc->lnc", x, probe)  # (layers, n, 2)
    return torch.nn.functional.cross_entropy(scores.flatten(0, 1), y.repeat(len(scores)))


def named_by_column(lab: Laboratory, says: str) -> np.ndarray:
    """(layers, k): the first tokens of the probe's column, unembedded as it is."""
    columns = lab.published_probe("open_paren").column(says)
    weight = lab.subject.anatomy.unembed.weight[: len(lab.naming.texts)].detach().float()
    return (columns.to(weight.device) @ weight.T).topk(lab.naming.k, dim=-1).indices.cpu().numpy()


def nearest_to_column(lab: Laboratory, says: str) -> list[Neuron]:
    """The value vectors of the second half of the layers that are nearest to the probe's column, by cosine."""
    return [neuron for _, neuron in sorted(_nearest(lab, says, NEAREST), reverse=True)[:NEAREST]]


def nearest_in_each_layer(lab: Laboratory, says: str) -> list[Neuron]:
    """The published share of each layer of the second half: 50 of 11008."""
    return [neuron for _, neuron in _nearest(lab, says, max(1, round(ZEROED * lab.subject.anatomy.d_mlp)))]


def _nearest(lab: Laboratory, says: str, count: int) -> list[tuple[float, Neuron]]:
    """Cosine and name of so many of each layer of the second half."""
    columns, near = lab.published_probe("open_paren").column(says), []
    for layer in lab.values.second_half:
        cosines = normalize(value_vectors(lab.subject, layer).cpu(), dim=1) @ normalize(columns[layer], dim=0)
        top = cosines.topk(min(count, len(cosines)))
        near += [(float(c), (layer, int(i))) for c, i in zip(top.values, top.indices, strict=True)]
    return near


def a_prev(observed: Observations) -> tuple[list[Head], Tensor, np.ndarray]:
    """The heads with more than `ATTENDS` of their attention on the target's mentions in the prompt, at most 50.

    Returns:
        the heads, the most attending first; their masses (4, layers, n_heads) in the last batch; its problems.
    """
    rows = observed.rows(observed.test, "correct")[-LAST_BATCH:]
    mass = observed.to_prompt[rows]
    mean = mass.mean(0)
    order = mean.flatten().argsort(descending=True)[:MOST_HEADS].tolist()
    heads = [divmod(i, mean.shape[1]) for i in order if mean.flatten()[i] > ATTENDS]
    return heads, mass, observed.problem[rows]


def called_right_without(lab: Laboratory, heads: Sequence[Head], rows: np.ndarray) -> np.ndarray:
    """Whether `this` stays likelier than `not` after these attempts with heads zeroed at all positions."""
    said = lab.published_remarks
    prompts = [lab.observed.sited[i].input_ids for i in rows]

    def make() -> dict[str, Tensor]:
        found = torch.empty(len(prompts), dtype=torch.float64)
        with mi.ablate_heads(lab.subject, heads):
            for part, batch in mi.batches(lab.subject, prompts, progress="heads off everywhere"):
                logits = mi.last_logits(lab.subject, batch)
                found[part] = (logits[:, said.accept[0]] - logits[:, said.reject[0]]).double().cpu()
        return {"v": found}

    return lab.kept(("heads off everywhere", prompts, list(heads)), make)["v"].numpy() > 0
