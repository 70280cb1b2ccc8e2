"""Value vectors: where the words of success come from.

Part II of the discussion takes the MLP value vectors (columns of `down_proj`) nearest to the probe's direction, finds
that they unembed to verification words, English and Chinese, and zeroes them: the words leave the middle layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest

import mechinterp as mi
from claims.claim import DISCUSSION, claim
from claims.laboratory import DRAWS, SWEEP_DRAWS, TELLS
from mechinterp import Control, Evidence, PreconditionUnmet, Threshold

if TYPE_CHECKING:
    from torch import Tensor

    from claims.laboratory import Laboratory

NEAREST = 50
CLUSTER = 3
SHARE = 50 / 11008
"""Of a layer's value vectors, how many are zeroed; published: 50 of 11008."""
AT_LEAST = 0.25
"""The relative drop of the success words; published: 0.48."""
SHOWS = 0.05
"""Probability of success words from which there is something to lower."""


@claim(
    "values.clusters",
    statement="Value vectors near the probe's direction unembed to verification words.",
    measure=f"share of the {NEAREST} nearest value vectors of the second half of the layers with {CLUSTER} or more of "
    "their 10 top tokens in the lexicon, above matched neurons; n counts value vectors",
    published="two tables of value vectors of the 3B model, English and Chinese",
    source=f"{DISCUSSION}, Part II",
    control="neurons of the same layers as active as these; random neurons",
    threshold=Threshold(at_least=0.1),
)
@pytest.mark.parametrize("says", ["success", "failure"])
def test_value_vectors_near_the_probe_name_verification(
    lab: Laboratory, says: str, judge: Callable[[Evidence], None]
) -> None:
    """Value vectors near the probe's direction unembed to verification words."""
    sign, tokens = (1, lab.lexicon.success) if says == "success" else (-1, lab.lexicon.failure)
    require_probe(lab)
    nearest = lab.nearest_values(sign, NEAREST)
    clustered = words_in_top(lab, nearest, tokens) >= CLUSTER
    matches = mi.matched_neurons(nearest, lab.activity, pool=40)
    pool = sorted({neuron for match in matches for neuron in match})
    in_pool = dict(zip(pool, words_in_top(lab, pool, tokens) >= CLUSTER, strict=True))
    draws = mi.draw_matched(matches, draws=DRAWS, seed=lab.seed)
    null = np.array([np.mean([in_pool[neuron] for neuron in draw]) for draw in draws])
    random = words_in_top(lab, random_neurons(lab, 500), tokens) >= CLUSTER
    low, high = mi.share_interval(clustered, seed=lab.seed)
    expected = null.mean()
    judge(
        Evidence(
            effect=clustered.mean() - expected,
            interval=(low - expected, high - expected),
            n=len(nearest),
            p_value=mi.exceedance_p(clustered.mean(), null),
            null=tuple(null - expected),
            controls=(
                Control(
                    "random neurons", clustered.mean() - random.mean(), (low - random.mean(), high - random.mean())
                ),
            ),
            details={
                "share": clustered.mean(),
                "matched_share": expected,
                "value_vectors": examples(lab, nearest, tokens),
            },
        )
    )


@claim(
    "values.ablation_lens",
    statement="Zeroing the value vectors nearest to the probe lowers the success words of the middle layers.",
    measure="relative drop of the success words' probability under the logit lens, right attempts, at ` (` in the "
    "layer of the second half that shows them most",
    published="50 a layer in the second half (0.2 % of all): P(SUCCESS) in layer 26 from 0.73 to 0.38, a drop of 0.48",
    source=f"{DISCUSSION}, Part II",
    control="as many neurons of the same layers, as active as these; the verdict itself must survive",
    threshold=Threshold(at_least=AT_LEAST),
)
def test_zeroing_the_value_vectors_lowers_success_words(lab: Laboratory, judge: Callable[[Evidence], None]) -> None:
    """Zeroing the value vectors nearest to the probe lowers the success words of the middle layers."""
    require_probe(lab)
    lab.require_verdicts()
    depth = lab.subject.anatomy.n_layers
    second_half = range(depth // 2, max(depth // 2 + 1, depth * 7 // 8))
    shown = lab.lens["open_paren"][..., 0]
    layer = second_half[int(shown[lab.select.of("correct")][:, second_half].mean(0).argmax())]
    if not (p := float(shown[lab.judge.of("correct"), layer].mean())) >= SHOWS:
        raise PreconditionUnmet(f"layer {layer} shows success words with probability {p:.3f}; {SHOWS} is needed")
    rows = lab.sweep_rows("correct", "target_edited")
    prompts = [lab.observed.sited[i].input_ids for i in rows]
    count = max(1, round(SHARE * lab.subject.anatomy.d_mlp))
    toward, away = (
        [neuron for at in range(depth // 2, depth) for neuron in lab.nearest_values(sign, count, layers=[at])]
        for sign in (1, -1)
    )

    matches = mi.matched_neurons(toward, lab.activity, pool=10 * count)
    sets = mi.draw_matched(matches, draws=SWEEP_DRAWS, seed=lab.seed)
    swept = mi.sweep(
        lab.subject,
        prompts,
        [None, *(mi.AblateNeurons(neurons) for neurons in (toward, [*toward, *away], *sets))],
        _lens_and_verdict(lab, layer),
        scope=mi.last,
        store=lab.store,
        progress="value vectors",
    )
    clean, ablated, both, *random_sets = swept.transpose(0, 1).numpy()  # (rows, 2) each
    right = lab.observed.right[rows]
    before, after = clean[right, 0], ablated[right, 0]
    n = len(before)

    def drop(shown: np.ndarray, chosen: np.ndarray) -> float:
        return float(1 - shown[chosen].mean() / before[chosen].mean())

    def discriminates(chosen: np.ndarray) -> float:
        pairs = (2 * chosen[:, None] + np.arange(2)).ravel()
        return mi.auc(right[pairs], ablated[pairs, 1]) - TELLS

    everyone = np.arange(n)
    effect = drop(after, everyone)
    interval = mi.statistic_interval(lambda chosen: drop(after, chosen), n, seed=lab.seed)
    random = np.array(random_sets)[:, right, 0]
    null = [drop(one, everyone) for one in random]
    judge(
        Evidence(
            effect=effect,
            interval=interval,
            n=n,
            p_value=mi.exceedance_p(effect, null),
            null=tuple(null),
            noise=abs(drop(shown[rows[right], layer].numpy(), everyone)),
            controls=(
                Control(
                    f"damage: the verdict's AUC must stay above {TELLS}",
                    discriminates(everyone),
                    mi.statistic_interval(discriminates, n, seed=lab.seed),
                ),
            ),
            details={
                "layer": layer,
                "before": before.mean(),
                "after": after.mean(),
                "after, antipodes too": both[right, 0].mean(),
                "random": random.mean(),
                "value_vectors": len(toward),
                "log_odds_of_right_attempts": {"before": clean[right, 1].mean(), "after": ablated[right, 1].mean()},
            },
        )
    )


def _lens_and_verdict(lab: Laboratory, layer: int) -> mi.Metric:
    """(rows, 2): probability of success words in this layer, log-odds of the verdict."""
    import torch

    verdict = lab.verdict_metric

    def of(read: mi.Readout) -> Tensor:
        words = mi.lens_probability(lab.subject, read.residual[layer], [lab.lexicon.success])[:, 0]
        return torch.stack([words.double(), verdict.of(read).cpu()], dim=1)

    name = f"lens of {lab.lexicon.success} in layer {layer}, {verdict.name}"
    return mi.Metric(of, residual=(layer,), name=name)


def require_probe(lab: Laboratory) -> None:
    """Raise PreconditionUnmet unless the probes that point at the value vectors read the verdict."""
    layer, rows = lab.best_layer["open_paren"], lab.judge.of()
    reads = lab.probes["open_paren"].correct(lab.observed.residual["open_paren"][rows], lab.right(lab.judge))[:, layer]
    right = lab.right(lab.judge)
    accuracy = float(reads[right].mean() + reads[~right].mean()) / 2
    if not accuracy >= TELLS:
        raise PreconditionUnmet(f"the best probe reads the verdict with accuracy {accuracy:.2f}; {TELLS} is needed")


def words_in_top(lab: Laboratory, neurons: Sequence[mi.Neuron], tokens: Sequence[int], k: int = 10) -> np.ndarray:
    """How many of the k top tokens of each value vector are in `tokens`."""
    vectors = lab.value_vectors(neurons)
    top = [mi.unembed_directions(lab.subject, part).topk(k, dim=-1).indices.cpu() for part in vectors.split(64)]
    return np.concatenate([np.isin(part, tokens).sum(1) for part in top])


def random_neurons(lab: Laboratory, count: int) -> list[mi.Neuron]:
    """Of the second half of the layers."""
    anatomy, rng = lab.subject.anatomy, np.random.default_rng(lab.seed)
    layers = rng.integers(anatomy.n_layers // 2, anatomy.n_layers, count)
    return list(zip(layers.tolist(), rng.integers(anatomy.d_mlp, size=count).tolist(), strict=True))


def examples(
    lab: Laboratory, neurons: Sequence[mi.Neuron], tokens: Sequence[int], most: int = 8
) -> dict[str, list[str]]:
    """The value vectors with the most words of the lexicon, and their top tokens, for the reader."""
    order = np.argsort(-words_in_top(lab, neurons, tokens), kind="stable")[:most]
    chosen = [neurons[i] for i in order]
    top = mi.nearest_tokens(lab.subject, lab.value_vectors(chosen))
    return {f"MLP[{at}, {i}]": [text for _, text, _ in one] for (at, i), one in zip(chosen, top, strict=True)}
