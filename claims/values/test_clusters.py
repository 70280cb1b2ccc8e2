"""Do value vectors near the probe name verification words?

Part II of the discussion takes the MLP value vectors (columns of `down_proj`) nearest to the probe's direction and
finds that they unembed to words of success and failure, English and Chinese. A vector that has the probe's direction
in it names what the probe names: synthetic vectors of the same cosine tell how much of that is left.
"""

from __future__ import annotations

import numpy as np
import pytest

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from claims.measured.bars import NEAREST
from mechinterp import Control, Draws, Evidence, Threshold

CLAIM = Claim(
    "values.clusters",
    statement="Value vectors near the probe's direction unembed to verification words.",
    source=f"{DISCUSSION}, Part II",
    published="two tables of value vectors of the 3B model, English and Chinese",
)
CLUSTER, TOP = 3, 10
AT_LEAST = 0.1
POOL = 40
SAYS = pytest.mark.parametrize("says", ["success", "failure"])


@CLAIM.as_published(
    measure=f"share of the {NEAREST} value vectors nearest to the published probe's column with {CLUSTER} or more of "
    f"their {TOP} top tokens in the lexicon",
    threshold=Threshold(AT_LEAST, reason="five vectors of fifty fill a table as the source's", alpha=None),
    quirks=(
        "no comparison: a vector near the probe names what the probe names",
        "forms of one word count as so many words; n counts vectors, or problems where they are fewer",
    ),
)
@SAYS
def test_value_vectors_name_verification(lab: measured.Laboratory, says: str, judge: Judge) -> None:
    """Value vectors near the probe's column unembed to verification words."""
    neurons = measured.nearest_to_column(lab, says)
    logits = mi.unembed_directions(lab.subject, lab.values.vectors(neurons))[:, : len(lab.naming.texts)]
    tokens = logits.topk(TOP, dim=-1).indices.cpu().numpy()
    named = (np.isin(tokens, lab.naming.words(says)).sum(1) >= CLUSTER).astype(float)
    judge(
        Evidence(
            named.mean(),
            mi.share_interval(named, seed=lab.seed),
            min(len(named), len(lab.observed.test)),
            details={
                f"MLP[{layer}, {i}]": lab.naming.show_tokens(row)
                for (layer, i), row, hit in zip(neurons, tokens, named, strict=True)
                if hit
            },
        )
    )


@CLAIM.audited(
    measure=f"share of the {NEAREST} nearest value vectors of the second half of the layers with {CLUSTER} or more of "
    f"their first {TOP} words in the lexicon, above synthetic vectors of the same cosine; n counts value vectors, or "
    "problems where they are fewer",
    threshold=Threshold(AT_LEAST, reason="five vectors of fifty more than their direction alone explains"),
    null="synthetic vectors: the same cosine to the probe, and otherwise like another value vector of the layer",
)
@SAYS
def test_value_vectors_name_more_than_the_probe(lab: measured.Laboratory, says: str, judge: Judge) -> None:
    """Value vectors near the probe name verification words, more than their nearness explains."""
    lab.require_probe()
    values, naming = lab.values, lab.naming
    sign = 1 if says == "success" else -1
    nearest = values.nearest(sign)
    named = (naming.counts(values.vectors(nearest), says, TOP) >= CLUSTER).astype(float)
    expected = float(np.mean(synthetic(lab, nearest, sign, says, range(20))))
    pool = sorted({one for match in values.matched(nearest, pool=POOL) for one in match})
    matched = float((naming.counts(values.vectors(pool), says, TOP) >= CLUSTER).mean())
    share, (low, high) = named.mean(), mi.share_interval(named, seed=lab.seed)
    judge(
        Evidence(
            effect=share - expected,
            interval=(low - expected, high - expected),
            n=min(len(named), len(lab.observed.test)),
            controls=(Control("neurons as active, writing as much", share - matched, (low - matched, high - matched)),),
            selected=tuple(f"MLP[{layer}, {i}]" for layer, i in nearest),
            details={
                "share": share,
                "share of synthetic vectors": expected,
                "share of matched neurons": matched,
                "value vectors": examples(lab, nearest, named),
            },
        ),
        null=Draws(lambda draws: synthetic(lab, nearest, sign, says, draws) - expected),
    )


def synthetic(lab: measured.Laboratory, neurons: list[mi.Neuron], sign: int, says: str, draws: range) -> np.ndarray:
    """(draws,): share of synthetic vectors that name as much."""
    made = lab.values.synthetic(neurons, sign, draws)
    counts = lab.naming.counts(made.flatten(0, 1), says, TOP).reshape(len(draws), -1)
    return (counts >= CLUSTER).mean(1)


def examples(
    lab: measured.Laboratory, neurons: list[mi.Neuron], named: np.ndarray, most: int = 8
) -> dict[str, list[str]]:
    """Value vectors that name words of the lexicon, with their top tokens, for the reader."""
    chosen = [neuron for neuron, hit in zip(neurons, named, strict=True) if hit][:8]
    return {f"MLP[{at}, {i}]": lab.naming.show(lab.values.vectors([(at, i)])[0], TOP) for at, i in chosen}
