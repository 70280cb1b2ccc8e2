"""Does the probe's direction name verification words?

Part I of the discussion reads the columns of the probe through the unembedding: success words on one side, failure
words on the other. The layer is chosen here on one half of the problems and the direction fitted anew on the other;
forms of one word count once.
"""

from __future__ import annotations

import numpy as np
import pytest

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from mechinterp import Control, Draws, Evidence, Threshold

CLAIM = Claim(
    "probe.unembeds",
    statement="The probe's direction, through the unembedding, names verification words.",
    source=f"{DISCUSSION}, Part I",
    published="tables of top tokens for several layers",
)
AT_LEAST = 0.1
RESAMPLES = 400
"""Refits of the probe for the interval."""
SAYS = pytest.mark.parametrize("says", ["success", "failure"])


@CLAIM.as_published(
    measure="share of the column's top tokens in the lexicon, in the layer where it is largest",
    threshold=Threshold(AT_LEAST, reason="one token in ten of a table of top tokens", alpha=None, min_n=10),
    quirks=(
        "the column is unembedded without the final norm's gain",
        "the layer is the best one, picked on what is reported",
        "forms of one word count as so many words; n counts tokens, or problems where they are fewer",
    ),
)
@SAYS
def test_the_column_names_verification_words(lab: measured.Laboratory, says: str, judge: Judge) -> None:
    """The probe's column, through the unembedding, names verification words."""
    top = measured.named_by_column(lab, says)  # (layers, k)
    named = np.isin(top, lab.naming.words(says))
    layer = int(named.mean(1).argmax())
    judge(
        Evidence(
            named[layer].mean(),
            mi.share_interval(named[layer].astype(float), seed=lab.seed),
            min(named.shape[1], len(lab.observed.test)),
            series={"share of top tokens": named.mean(1).tolist()},
            details={"layer": layer, "top_tokens": lab.naming.show_tokens(top[layer][:20])},
        )
    )


@CLAIM.audited(
    measure="share of the direction's first words (50; 1 % of a small vocabulary) in the lexicon, above base rate; "
    "a word counts once in all its forms",
    threshold=Threshold(AT_LEAST, reason="five words of fifty: what a reader of a table would call a theme"),
    null="directions of probes whose labels are permuted within each problem",
)
@SAYS
def test_the_probe_names_verification_words(lab: measured.Laboratory, says: str, judge: Judge) -> None:
    """The probe's direction, through the unembedding, names verification words."""
    lab.require_probe()
    probing, naming = lab.probing["open_paren"], lab.naming
    sign = 1 if says == "success" else -1
    chosen = naming.share(sign * probing.fitted.directions, says)  # (layers,), fit half
    layer = int(chosen.argmax())
    observed, n = lab.observed, len(lab.observed.test)

    def shares(resamples: np.ndarray) -> np.ndarray:
        return naming.share(sign * probing.again(layer, resamples), says)

    def permuted(numbers: range) -> np.ndarray:
        return naming.share(sign * probing.permuted_directions(layer, numbers), says)

    effect = float(shares(np.arange(n)[None])[0])
    low, high = mi.statistic_interval(shares, n, seed=lab.seed, resamples=RESAMPLES, at_once=True)
    token = 1 / naming.k  # an interval is never narrower than one token
    low, high = min(low, effect - token / 2), max(high, effect + token / 2)
    streams = probing.residual[observed.rows(observed.test, single=True), layer]
    drawn = naming.share(measured.random_directions(streams, 300, seed=lab.seed), says)
    bar = float(np.quantile(drawn, 0.95))
    judge(
        Evidence(
            effect=effect,
            interval=(low, high),
            n=n,
            controls=(
                Control(
                    "directions drawn with the covariance of the residual stream (their 95th percentile)",
                    effect - bar,
                    (low - bar, high - bar),
                ),
            ),
            selected=(f"layer {layer}",),
            series={"share above base rate (fit half)": chosen.tolist()},
            details={"layer": layer, "top_tokens": naming.show(sign * probing.fitted.directions[layer].float())},
        ),
        null=Draws(permuted),
    )
