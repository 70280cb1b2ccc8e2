"""What an ablation does to text that has nothing to do with the task: what spoils it is damage, not mechanism.

damage   nats a token that plain passages lose
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from fixtures.task.plain_text import PASSAGES
from mechinterp import Head, Subject

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory


def damage(lab: Laboratory, heads: Sequence[Head], by: str) -> np.ndarray:
    """(passages,): loss with the heads off at all positions (`by` "zero" or "mean") minus the loss without."""
    new: Mapping[int, Tensor] | None = None if by == "zero" else lab.heads.runs.means

    def make() -> dict[str, Tensor]:
        before = torch.tensor([_loss(lab.subject, text) for text in PASSAGES])
        with mi.ablate_heads(lab.subject, heads, values=new):
            return {"damage": torch.tensor([_loss(lab.subject, text) for text in PASSAGES]) - before}

    return lab.kept(("damage", list(heads), by, lab.seed, PASSAGES), make)["damage"].double().numpy()


@torch.no_grad()
def _loss(subject: Subject, text: str) -> float:
    """Mean negative log-likelihood of a token, nats."""
    ids = torch.tensor([subject.tokenizer(text)["input_ids"]], device=subject.device)
    logits = subject.model(ids, use_cache=False).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:].to(logits.device)))
