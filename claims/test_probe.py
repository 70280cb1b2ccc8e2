"""Linear probes: is the verdict written in the residual stream, and in which words?

Part I of the discussion fits a linear probe for each layer on the ` (` before `this works` / `not 51`, and reads the
probe's direction through the unembedding. The published probes saw the model's own rollouts, where an attempt's
index and length go with its verdict; here neither does, and half of the wrong attempts are minimal pairs: the same
text with another target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest

import mechinterp as mi
from claims.claim import DISCUSSION, PAPER, claim
from claims.laboratory import DRAWS, fit_balanced
from mechinterp import Control, Evidence, PreconditionUnmet, Threshold

if TYPE_CHECKING:
    from torch import Tensor

    from claims.laboratory import Laboratory
    from fixtures.observations import Half
    from fixtures.task.transcripts import Transcript


@claim(
    "probe.decodable",
    statement="The verdict is linearly decodable from the residual stream, in almost every layer.",
    measure="balanced accuracy on held-out problems: of the best layer, or the mean over layers from 1/12 of the depth",
    published="near perfect in every layer from the 4th of 36",
    source=f"{DISCUSSION}, Part I; {PAPER}",
    control="labels shuffled within each problem; attempt index, length and last digit; untrained weights; "
    "minimal pairs",
    threshold=Threshold(at_least=0.9),
)
@pytest.mark.parametrize("layers", ["best_layer", "almost_every_layer"])
@pytest.mark.parametrize("site", ["open_paren", "last_digit"])
def test_the_verdict_is_linearly_decodable(
    lab: Laboratory, site: str, layers: str, judge: Callable[[Evidence], None]
) -> None:
    """The verdict is linearly decodable from the residual stream."""
    depth = lab.subject.anatomy.n_layers
    which = [lab.best_layer[site]] if layers == "best_layer" else list(range(-(-depth // 12), depth))
    held_out, right = lab.observed.residual[site][lab.judge.of()], lab.right(lab.judge)
    reads = by_problem(lab.probes[site].correct(held_out, right))  # (problems, 3, layers)
    untrained = balanced(untrained_reads(lab, site))
    shuffled = np.stack(
        [balanced(by_problem(one)).mean(0) for one in lab.shuffled_probes[site].correct(held_out, right)]
    )
    accuracy = balanced(reads)[:, which].mean(1)  # (problems,)
    null = shuffled[:, which].mean(1)
    judge(
        Evidence(
            effect=accuracy.mean(),
            interval=mi.share_interval(accuracy, seed=lab.seed),
            n=len(accuracy),
            p_value=mi.exceedance_p(accuracy.mean(), null),
            null=tuple(null),
            controls=(
                margin("attempt index, length and last digit", accuracy - balanced(surface_reads(lab)), lab.seed),
                margin("untrained weights", accuracy[: len(untrained)] - untrained[:, which].mean(1), lab.seed),
                margin(
                    "0.75 on minimal pairs (same text, other target)", pairs(reads)[:, which].mean(1) - 0.75, lab.seed
                ),
            ),
            series={
                "accuracy": balanced(reads).mean(0).tolist(),
                "minimal pairs": pairs(reads).mean(0).tolist(),
                "untrained weights": untrained.mean(0).tolist(),
                "shuffled labels": shuffled.mean(0).tolist(),
            },
            details={"layers": which, "best_layer": lab.best_layer[site]},
        )
    )


@claim(
    "probe.unembeds",
    statement="The probe's direction, through the unembedding, names verification words.",
    measure="share of the direction's top tokens (50; 1 % of a small vocabulary) in the lexicon, above base rate",
    published="tables of top tokens for several layers",
    source=f"{DISCUSSION}, Part I",
    control="probes of labels shuffled within each problem; random directions",
    threshold=Threshold(at_least=0.1),
)
@pytest.mark.parametrize("says", ["success", "failure"])
def test_the_probe_names_verification_words(lab: Laboratory, says: str, judge: Callable[[Evidence], None]) -> None:
    """The probe's direction, through the unembedding, names verification words."""
    import torch

    sign, tokens = (1, lab.lexicon.success) if says == "success" else (-1, lab.lexicon.failure)
    probe, right = lab.probes["open_paren"], lab.right(lab.judge)
    selected = naming(lab, sign * probe.directions, tokens)  # (layers,)
    layer = int(selected.argmax())
    held_out = lab.observed.residual["open_paren"][lab.judge.of()]
    reads = balanced(by_problem(probe.correct(held_out, right)))[:, layer].mean()
    if not reads >= 0.75:
        raise PreconditionUnmet(
            f"the probe of layer {layer} reads the verdict with accuracy {reads:.2f}; 0.75 is needed"
        )

    def refitted(labels: Tensor, problems: np.ndarray) -> Tensor:
        """Directions (..., d_model) of probes fitted anew to these problems of the judging half."""
        rows = (3 * problems[:, None] + np.arange(3)).ravel()
        return sign * fit_balanced(held_out[rows][:, [layer]], labels[..., rows]).directions[..., 0, :]

    def resampled(draws: np.ndarray) -> np.ndarray:
        return naming(lab, torch.stack([refitted(right, problems) for problems in draws]), tokens)

    n = len(right) // 3
    everyone = np.arange(n)
    effect = float(resampled(everyone[None])[0])
    low, high = mi.statistic_interval(resampled, n, seed=lab.seed, resamples=DRAWS, at_once=True)
    null = naming(lab, refitted(lab.shuffled(lab.judge, DRAWS), everyone), tokens)
    bar = np.quantile(naming(lab, random_directions(lab, DRAWS), tokens), 0.95)
    top = mi.nearest_tokens(lab.subject, sign * probe.directions[[layer]], 20)[0]
    judge(
        Evidence(
            effect=effect,
            interval=(low, high),
            n=n,
            p_value=mi.exceedance_p(effect, null),
            null=tuple(null),
            controls=(Control("95th percentile of random directions", effect - bar, (low - bar, high - bar)),),
            series={"share above base rate (selection half)": selected.tolist()},
            details={"layer": layer, "top_tokens": [text for _, text, _ in top], "lexicon": len(tokens)},
        )
    )


def by_problem(reads: Tensor) -> np.ndarray:
    """(3 * problems, ...) -> (problems, 3, ...): correct, target-edited, incorrect."""
    return np.asarray(reads).reshape(-1, 3, *reads.shape[1:])


def balanced(reads: np.ndarray) -> np.ndarray:
    """(problems, 3, ...) -> balanced accuracy by problem."""
    return reads[:, 0] / 2 + (reads[:, 1] + reads[:, 2]) / 4


def pairs(reads: np.ndarray) -> np.ndarray:
    """(problems, 3, ...) -> accuracy on the minimal pair of each problem."""
    return (reads[:, 0] + reads[:, 1]) / 2


def margin(name: str, differences: np.ndarray, seed: int) -> Control:
    """A rival that the effect exceeds by these differences, one a problem."""
    return Control(name, float(differences.mean()), mi.mean_interval(differences, seed=seed))


def surface_reads(lab: Laboratory) -> np.ndarray:
    """What attempt index, length and equality of the last digits give away, (problems, 3)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def features(half: Half) -> np.ndarray:
        chosen = [lab.observed.sited[i] for i in half.of()]
        return np.array(
            [
                (s.transcript.failed, len(s.transcript.text), len(s.input_ids), _same_last_digit(s.transcript))
                for s in chosen
            ],
            dtype=float,
        )

    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    model.fit(features(lab.select), lab.right(lab.select).numpy())
    return by_problem(model.predict(features(lab.judge)) == lab.right(lab.judge).numpy()).astype(float)


def untrained_reads(lab: Laboratory, site: str) -> np.ndarray:
    """Probes of a model with random weights on the first problems of the judging half, (problems, 3, layers)."""
    fit, held_out = (part[site] for part in lab.untrained)
    probe = fit_balanced(fit, lab.right(lab.select)[: len(fit)])
    return by_problem(probe.correct(held_out, lab.right(lab.judge)[: len(held_out)]))


def naming(lab: Laboratory, directions: Tensor, tokens: Sequence[int]) -> np.ndarray:
    """Share of the top tokens of each direction (..., d_model) that are in `tokens`, above their base rate."""
    texts, flat = len(lab.vocabulary), directions.reshape(-1, directions.shape[-1])
    k = max(10, min(50, texts // 100))
    shares = [
        np.isin(mi.unembed_directions(lab.subject, part)[:, :texts].topk(k, dim=-1).indices.cpu(), tokens).mean(1)
        for part in flat.split(64)
    ]
    return np.concatenate(shares).reshape(directions.shape[:-1]) - len(tokens) / texts


def random_directions(lab: Laboratory, draws: int) -> Tensor:
    import torch

    generator = torch.Generator().manual_seed(lab.seed)
    return torch.randn(draws, lab.subject.anatomy.d_model, generator=generator)


def _same_last_digit(transcript: Transcript) -> bool:
    return transcript.text[transcript.result[1] - 1] == str(transcript.target)[-1]
