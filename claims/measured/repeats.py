"""What heads do at repeated tokens that have nothing to do with the task: the same places, other texts.

Repeats     attention from the last token of a result to its earlier mentions, where all that is left is the repetition
repeats     run a subject on such texts
elsewhere   a text of the same length with the same tokens repeated at the same places, and nothing else of it

A head that looks from any token to where it stood before, or to what came after it (induction), does so here too; the
distances are those of the transcripts, so that nearness explains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.at_sites import AT_ONCE
from claims.measured.once import kept
from fixtures.task.plain_text import PASSAGES
from fixtures.task.sites import Sited
from mechinterp import Store, Subject

FILLED_WITH = ("random tokens", "plain text")
WHERE = ("to", "after", "before")


@dataclass(frozen=True, eq=False)
class Repeats:
    """By what surrounds the repeated tokens, (problems, layers, n_heads) each.

    Attributes:
        to_mentions: to all earlier mentions, as `Observations.to_target` has it.
        after_mentions: to the tokens after them, as an induction head attends.
        to_previous: to the token before.
    """

    to_mentions: dict[str, Tensor]
    after_mentions: dict[str, Tensor]
    to_previous: dict[str, Tensor]


def repeats(
    subject: Subject, sited: Sequence[Sited], texts: Sequence[str], *, seed: int, store: Store | None
) -> Repeats:
    """Run the texts of `elsewhere` for right attempts; `texts` are those of the tokens, by id."""
    special = set(subject.tokenizer.all_special_ids)
    ordinary = np.array([i for i, text in enumerate(texts) if text.strip() and i not in special])
    made = {
        filler: [elsewhere(subject, one, ordinary, filler, seed=[seed, i, 23]) for i, one in enumerate(sited)]
        for filler in FILLED_WITH
    }

    def make() -> dict[str, Tensor]:
        return {
            f"{name}, {filler}": mass
            for filler, ids in made.items()
            for name, mass in _attention(subject, sited, ids).items()
        }

    found = kept(store, ("repeats elsewhere", made, [one.target_mentions for one in sited]), make)
    to, after, before = ({filler: found[f"{name}, {filler}"] for filler in FILLED_WITH} for name in WHERE)
    return Repeats(to, after, before)


def elsewhere(subject: Subject, one: Sited, ordinary: np.ndarray, filler: str, *, seed: Sequence[int]) -> list[int]:
    """Token ids: the result's tokens exchanged for others at all mentions, and what surrounds them by a filler.

    Special tokens stay. The tokens that are repeated are `ordinary` ones and stand nowhere else.
    """
    rng = np.random.default_rng(list(seed))
    special = set(subject.tokenizer.all_special_ids)
    if filler == "plain text":
        text = " ".join(PASSAGES[i] for i in rng.permutation(len(PASSAGES)))
        ids = [i for i in subject.tokenizer(text, add_special_tokens=False)["input_ids"] if i not in special]
        around = np.resize(ids, len(one.input_ids))
    else:
        around = rng.choice(ordinary, len(one.input_ids))
    repeated = rng.choice(np.setdiff1d(ordinary, around), len(one.result), replace=False)
    made = [old if old in special else int(new) for old, new in zip(one.input_ids, around, strict=True)]
    for mention in (one.result, *one.target_mentions):
        for place, token in zip(mention, repeated, strict=True):
            made[place] = int(token)
    return made


@torch.no_grad()
def _attention(subject: Subject, sited: Sequence[Sited], texts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """(problems, layers, n_heads) from the result's last token to its mentions, to what follows them, and before it."""
    anatomy, layers = subject.anatomy, range(subject.anatomy.n_layers)
    found = {name: torch.empty(len(sited), anatomy.n_layers, anatomy.n_heads) for name in WHERE}
    first = [one.last_digit for one in sited]
    for rows, batch in mi.resumed(subject, texts, first, size=AT_ONCE, progress="repeats elsewhere"):
        chosen = [sited[row] for row in rows]
        where = {
            "to": [[place for mention in one.target_mentions for place in mention] for one in chosen],
            "after": [[mention[-1] + 1 for mention in one.target_mentions] for one in chosen],
            "before": [[one.last_digit - 1] for one in chosen],
        }
        with mi.capture(subject, [[one.last_digit] for one in chosen], attention=layers) as seen:
            mi.last_logits(subject, batch)
        for layer in layers:
            for name, places in where.items():
                found[name][rows, layer] = mi.attention_to(seen.attention[layer], places)[:, 0].cpu()
    return found
