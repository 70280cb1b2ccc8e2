"""Attempts run through a subject, captured only at the sites.

run_attempts      all that observations hold
residual_streams  only the residual stream, for a control
residual_at       the same at other places
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from claims.measured.bars import SITES
from fixtures.task.sites import Sited
from mechinterp import Batch, MechinterpError, Subject, attention_to, capture, last_logits, resumed

AT_ONCE = 16


@torch.no_grad()
def run_attempts(
    subject: Subject, sited: Sequence[Sited], on_fit: np.ndarray, attended: np.ndarray, candidates: list[int]
) -> dict[str, Tensor]:
    """The measured attributes of Observations."""
    n, anatomy = len(sited), subject.anatomy
    shape = (anatomy.n_layers, anatomy.n_heads)
    found = {f"residual {name}": torch.empty(n, anatomy.n_layers, anatomy.d_model) for name in SITES}
    found |= {mass: torch.full((n, *shape), torch.nan) for mass in ("to_target", "to_prompt", "to_rival", "to_own")}
    found["log_p"] = torch.empty(n, len(candidates), dtype=torch.float64)
    fired = {kind: torch.zeros(anatomy.n_layers, anatomy.d_mlp) for kind in ("absolute", "correct", "target_edited")}
    kinds = np.array([one.transcript.kind for one in sited])
    layers = range(anatomy.n_layers)
    for rows, places, batch in _at_sites(subject, sited, attended, progress="attempts"):
        neurons = layers if on_fit[rows].any() else ()
        look = layers if attended[rows].any() else ()
        with capture(subject, places, residual=layers, neurons=neurons, attention=look) as seen:
            logits = last_logits(subject, batch)
        found["log_p"][rows] = logits.double().log_softmax(-1)[:, candidates].cpu()
        for layer in layers:
            for j, name in enumerate(SITES):
                found[f"residual {name}"][rows, layer] = seen.residual[layer][:, j].cpu()
            if look:
                chosen = np.flatnonzero(attended[rows])
                _add_attention(found, rows[chosen], layer, seen.attention[layer][chosen], sited)
        for layer in neurons:
            here = seen.neurons[layer][:, SITES.index("open_paren")].cpu()
            for kind in ("correct", "target_edited"):
                mine = here[torch.from_numpy(on_fit[rows] & (kinds[rows] == kind))]
                fired[kind][layer] += mine.sum(0)
                if kind == "correct":
                    fired["absolute"][layer] += mine.abs().sum(0)
    if not found["log_p"].isfinite().all():
        raise MechinterpError(f"{subject.name}: the logits are not finite; try --dtype float32")
    many = {kind: max(1, int((on_fit & (kinds == kind)).sum())) for kind in ("correct", "target_edited")}
    found["activity"] = torch.stack([fired["absolute"], fired["correct"]]) / many["correct"]
    found["activity_wrong"] = fired["target_edited"] / many["target_edited"]
    return found


@torch.no_grad()
def residual_streams(subject: Subject, sited: Sequence[Sited], *, progress: str) -> dict[str, Tensor]:
    """Only the residual stream, by site (n, L, d_model): enough for a control."""
    places = [_places(one, attended=False) for one in sited]
    found = residual_at(subject, [one.input_ids for one in sited], places, progress=progress)
    return dict(zip(SITES, found, strict=True))


@torch.no_grad()
def residual_at(
    subject: Subject, prompts: Sequence[Sequence[int]], places: Sequence[Sequence[int]], *, progress: str
) -> Tensor:
    """The residual stream at k places of each prompt, (k, n, L, d_model)."""
    layers = range(subject.anatomy.n_layers)
    found = torch.empty(len(places[0]), len(prompts), len(layers), subject.anatomy.d_model)
    first = [min(row) for row in places]
    for rows, batch in resumed(subject, prompts, first, size=AT_ONCE, progress=progress):
        with capture(subject, [list(places[row]) for row in rows], residual=layers) as seen:
            last_logits(subject, batch)
        for layer in layers:
            found[:, rows, layer] = seen.residual[layer].transpose(0, 1).cpu()
    return found


def _at_sites(
    subject: Subject, sited: Sequence[Sited], attended: np.ndarray, *, progress: str
) -> Iterator[tuple[np.ndarray, list[list[int]], Batch]]:
    """Rows, their places and a batch of their ends; what a problem's attempts share before is run once."""
    places = [_places(one, looked_at) for one, looked_at in zip(sited, attended, strict=True)]
    prompts, first = [one.input_ids for one in sited], [min(row) for row in places]
    for rows, batch in resumed(subject, prompts, first, size=AT_ONCE, progress=progress):
        yield np.array(rows), _ragged([places[row] for row in rows]), batch


def _places(one: Sited, attended: bool) -> list[int]:
    """The sites, then the last digit of each input number of the last attempt."""
    numbers = [positions[-1] for _, positions in one.last_attempt_numbers] if attended else []
    return [one.last_digit, one.open_paren, *numbers]


def _add_attention(
    found: dict[str, Tensor], rows: np.ndarray, layer: int, attention: Tensor, sited: Sequence[Sited]
) -> None:
    """Attention (B, k, H, S) of these rows into the four masses."""
    chosen = [sited[i] for i in rows]
    from_result = attention[:, :1]  # the result's last digit
    targets = {
        "to_target": [_all(one.target_mentions) for one in chosen],
        "to_prompt": [[mention[-1] for mention in _in_prompt(one)] for one in chosen],
        "to_rival": [_all(one.rival_mentions) for one in chosen],
    }
    for name, where in targets.items():
        found[name][rows, layer] = attention_to(from_result, where)[:, 0].cpu()
    own = torch.zeros(len(chosen), attention.shape[2])
    for b, one in enumerate(chosen):
        for j, (number, _) in enumerate(one.last_attempt_numbers):
            mentions = _alike(one.number_mentions[number], one.target_mentions)
            mass = attention_to(attention[b : b + 1, len(SITES) + j : len(SITES) + j + 1], [_all(mentions)])
            own[b] += mass[0, 0].cpu() / len(one.last_attempt_numbers)
    found["to_own"][rows, layer] = own


def _in_prompt(one: Sited) -> Sequence[Sequence[int]]:
    """The target's mentions before the first attempt: each failed one but of a role-swapped pair mentions it again."""
    again = 0 if one.transcript.kind == "role_swapped" else one.transcript.failed
    return one.target_mentions[: max(1, len(one.target_mentions) - again)]


def _alike(own: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Of a number's own mentions, for each of the target's the nearest one that is not taken yet."""
    left, chosen = list(own), []
    for target in targets:
        if left:
            chosen.append(left.pop(int(np.argmin([abs(mention[0] - target[0]) for mention in left]))))
    return chosen


def _ragged(places: Sequence[Sequence[int]]) -> list[list[int]]:
    """Rows of one length: -1 stands for none."""
    width = max(map(len, places))
    return [[*row, *[-1] * (width - len(row))] for row in places]


def _all(mentions: Sequence[Sequence[int]]) -> list[int]:
    return [position for mention in mentions for position in mention]
