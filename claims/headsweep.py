"""Turning heads off: the selected ones, and hundreds of matched random sets.

sweep_heads   run the ablations on the judging half, once a subject and kind of replacement
HeadSweep     verdicts and value-vector activations under each
single_heads  what every head does alone, for the reader
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import mechinterp as mi
from claims.laboratory import SWEEP_DRAWS, Laboratory
from fixtures.task.plain_text import PASSAGES

if TYPE_CHECKING:
    from torch import Tensor

AT_LEAST = 0.5
"""The share of discrimination, and of activation, that an ablation must take away to count as the published one."""
SINGLE_PROBLEMS = 8
"""Problems that every head is ablated alone on: what that shows is for the reader, no verdict rests on it."""


@dataclass(frozen=True, eq=False)
class HeadSweep:
    """Rows are pairs, problem by problem: a right attempt, then the same text with another target.

    Attributes:
        log_odds_observed: of the verdict in the full pass (other kernel, other batch): the measured noise.
        log_odds_clean, log_odds, log_odds_random: without edit, under the ablation, under each random set.
        activation_*: mean activation of the success value vectors at ` (`, likewise.
        log_odds_everywhere: under zero ablation at all positions, the published scope (no random sets: too dear).
        damage: nats a token that each plain passage loses when the heads are off at all positions.
    """

    n: int
    right: np.ndarray
    log_odds_observed: np.ndarray
    log_odds_clean: np.ndarray
    log_odds: np.ndarray
    log_odds_random: np.ndarray
    activation_observed: np.ndarray
    activation_clean: np.ndarray
    activation: np.ndarray
    activation_random: np.ndarray
    log_odds_everywhere: np.ndarray
    damage: np.ndarray

    def discrimination(self, log_odds: np.ndarray, chosen: np.ndarray) -> float:
        rows = (2 * chosen[:, None] + np.arange(2)).ravel()
        return 2 * mi.auc(self.right[rows], log_odds[rows]) - 1

    def lost(self, log_odds: np.ndarray, chosen: np.ndarray) -> float:
        """Share of the discrimination that is lost; above 1 where right and wrong change places."""
        before = self.discrimination(self.log_odds_clean, chosen)
        return 1 - self.discrimination(log_odds, chosen) / max(before, 1e-9)

    def gap(self, values: np.ndarray, chosen: np.ndarray) -> float:
        return float((values[2 * chosen] - values[2 * chosen + 1]).mean())

    def silenced(self, activation: np.ndarray, chosen: np.ndarray) -> float:
        """Share of the activation's gap between right and wrong attempts that is lost."""
        return 1 - self.gap(activation, chosen) / self.gap(self.activation_clean, chosen)

    def lost_interval(self, seed: int) -> mi.Interval:
        return mi.statistic_interval(lambda chosen: self.lost(self.log_odds, chosen), self.n, seed=seed)

    def silenced_interval(self, seed: int) -> mi.Interval:
        return mi.statistic_interval(lambda chosen: self.silenced(self.activation, chosen), self.n, seed=seed)

    def by_class(self, values: np.ndarray) -> dict[str, float]:
        return {"right": float(values[self.right].mean()), "wrong": float(values[~self.right].mean())}

    def summary(self) -> dict[str, Any]:
        everyone = np.arange(self.n)
        random = [self.gap(draw, everyone) for draw in self.log_odds_random]
        return {
            "log_odds_before": self.by_class(self.log_odds_clean),
            "log_odds_after": self.by_class(self.log_odds),
            "auc_before": (1 + self.discrimination(self.log_odds_clean, everyone)) / 2,
            "auc_after": (1 + self.discrimination(self.log_odds, everyone)) / 2,
            "log_odds_gap": {
                "before": self.gap(self.log_odds_clean, everyone),
                "after": self.gap(self.log_odds, everyone),
                "random, mean": float(np.mean(random)),
                "random, smallest": float(np.min(random)),
            },
            "zero at all positions": {
                "auc": (1 + self.discrimination(self.log_odds_everywhere, everyone)) / 2,
                "log_odds": self.by_class(self.log_odds_everywhere),
            },
            "damage_nats_a_token": float(self.damage.mean()),
        }


def sweep_heads(lab: Laboratory, replaced_by: str) -> HeadSweep:
    """Ablate from the first digit of the result to the ` (`.

    Args:
        replaced_by: "zero", or "minimal_pair": the heads' outputs on the same text with the other target.
    """
    return lab.remember(_sweeps, lambda: _sweeps(lab))[replaced_by]


def single_heads(lab: Laboratory, most: int = 5) -> dict[str, Any]:
    """The verdict's log-odds gap (right minus wrong attempts) that each head carries alone, under zero ablation.

    Every head is measured. How well a first-order estimate ranks them stands beside it; nothing rests on that.
    """
    anatomy = lab.subject.anatomy
    prompts, places = (rows[: 2 * SINGLE_PROBLEMS] for rows in _result_places(lab))
    heads = [(layer, head) for layer in range(anatomy.n_layers) for head in range(anatomy.n_heads)]
    scope = mi.at(places)
    swept = mi.sweep(
        lab.subject,
        prompts,
        [None, *(mi.AblateHeads([head]) for head in heads)],
        lab.verdict_metric,
        scope=scope,
        store=lab.store,
        progress="every head",
    ).numpy()

    def gap(log_odds: np.ndarray) -> np.ndarray:
        return (log_odds[::2] - log_odds[1::2]).mean(0)

    def make() -> dict[str, Tensor]:
        return {"heads": mi.attribution(lab.subject, prompts, lab.verdict_metric, scope=scope).heads}

    lost = gap(swept[:, :1]) - gap(swept[:, 1:])
    estimate = -gap(lab.kept("attribution", make, places)["heads"].flatten(1).numpy())
    order = np.argsort(-lost, kind="stable")[:most]
    return {
        "log_odds_gap_lost": {f"L{layer}H{head}": float(lost[i]) for i in order for layer, head in [heads[i]]},
        "rank correlation of the first-order estimate": mi.rank_correlation(estimate, lost),
    }


def _result_places(lab: Laboratory) -> tuple[list[Sequence[int]], list[list[int]]]:
    """The prompts that interventions are run on, and the positions from the result's first digit to the ` (`."""
    sited = [lab.observed.sited[i] for i in lab.sweep_rows("correct", "target_edited")]
    width = max(len(one.input_ids) - one.result[0] for one in sited)
    result = [[*range(one.result[0], len(one.input_ids))] for one in sited]
    return [one.input_ids for one in sited], [one + [-1] * (width - len(one)) for one in result]


def _sweeps(lab: Laboratory) -> dict[str, HeadSweep]:
    """By kind of replacement; both in one sweep, which runs the prompts once."""
    observed, rows = lab.observed, lab.sweep_rows("correct", "target_edited")
    prompts, places = _result_places(lab)
    kinds = {"zero": None, "minimal_pair": _of_the_partner(lab, prompts, places)}
    sets = [lab.heads, *mi.matched_head_sets(lab.heads, observed.head_norms, draws=SWEEP_DRAWS, seed=lab.seed)]
    swept = mi.sweep(
        lab.subject,
        prompts,
        [None, *(mi.AblateHeads(heads, values) for values in kinds.values() for heads in sets)],
        _verdict_and_activation(lab),
        scope=mi.at(places),
        store=lab.store,
        progress="sets of heads",
    )
    log_odds, activation = swept.permute(2, 1, 0).numpy()  # (interventions, rows) each
    layers, neurons = (list(part) for part in zip(*lab.success_values, strict=True))
    everywhere, damage = _everywhere(lab, prompts), _damage(lab)
    return {
        kind: HeadSweep(
            n=len(rows) // 2,
            right=observed.right[rows],
            log_odds_observed=observed.log_odds[rows],
            log_odds_clean=log_odds[0],
            log_odds=log_odds[first],
            log_odds_random=log_odds[first + 1 : first + len(sets)],
            activation_observed=observed.neurons[rows][:, layers, neurons].mean(1).numpy(),
            activation_clean=activation[0],
            activation=activation[first],
            activation_random=activation[first + 1 : first + len(sets)],
            log_odds_everywhere=everywhere,
            damage=damage,
        )
        for kind, first in zip(kinds, range(1, len(log_odds), len(sets)), strict=True)
    }


def _of_the_partner(lab: Laboratory, prompts: Sequence[Sequence[int]], places: Sequence[Sequence[int]]) -> dict:
    """What the heads read out at these places of the same text with the other target, by layer."""
    subject = lab.subject

    def make() -> dict[str, Tensor]:
        with mi.capture(subject, places, heads=range(subject.anatomy.n_layers)) as seen:
            mi.last_logits(subject, mi.pad(subject, prompts))
        return {str(layer): z.unflatten(0, (-1, 2)).flip(1).flatten(0, 1).cpu() for layer, z in seen.heads.items()}

    return {int(layer): values for layer, values in lab.kept("heads of the partner", make, places).items()}


def _verdict_and_activation(lab: Laboratory) -> mi.Metric:
    """(rows, 2): log-odds of the verdict, mean activation of the success value vectors at ` (`."""
    import torch

    by_layer: dict[int, list[int]] = {}
    for layer, neuron in lab.success_values:
        by_layer.setdefault(layer, []).append(neuron)
    verdict = lab.verdict_metric

    def of(read: mi.Readout) -> Tensor:
        fired = torch.cat([read.neurons[layer][:, chosen] for layer, chosen in by_layer.items()], dim=1)
        return torch.stack([verdict.of(read), fired.float().mean(1).double()], dim=1)

    return mi.Metric(of, neurons=tuple(by_layer), name=f"{verdict.name}, mean of {by_layer}")


def _everywhere(lab: Laboratory, prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """Log-odds with the heads off at all positions: one edit, with nothing to share, so plain passes."""
    import torch

    from fixtures.observations import verdict_log_odds

    def make() -> dict[str, Tensor]:
        found = torch.empty(len(prompts), dtype=torch.float64)
        with mi.ablate_heads(lab.subject, lab.heads):
            for rows, batch in mi.batches(lab.subject, prompts, progress="heads, all positions"):
                logits = mi.last_logits(lab.subject, batch)
                found[rows] = torch.from_numpy(verdict_log_odds(logits, lab.observed.verdicts))
        return {"log_odds": found}

    return lab.kept("heads off everywhere", make, lab.heads)["log_odds"].numpy()


def _damage(lab: Laboratory) -> np.ndarray:
    """Loss on each plain passage with the heads off at all positions, minus the loss without, nats a token."""
    import torch

    subject = lab.subject

    @torch.no_grad()
    def loss(text: str) -> float:
        ids = torch.tensor([subject.tokenizer(text)["input_ids"]], device=subject.device)
        logits = subject.model(ids, use_cache=False).logits[0, :-1].float()
        return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:].to(logits.device)))

    def make() -> dict[str, Tensor]:
        before = torch.tensor([loss(text) for text in PASSAGES])
        with mi.ablate_heads(subject, lab.heads):
            return {"damage": torch.tensor([loss(text) for text in PASSAGES]) - before}

    return lab.kept("damage", make, lab.heads, PASSAGES)["damage"].double().numpy()
