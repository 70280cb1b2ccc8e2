"""Do the value vectors near the probe carry the verdict, and not only its words?

The paper zeroes them at the last position: without the valid ones 16 % of right answers are no longer verified, without
the invalid ones too 45 %. What a value vector writes reaches the remark's logits by itself as well: with everything
downstream held at the clean run, only that direct part is left, and a mechanism is what goes beyond it.
"""

from __future__ import annotations

import numpy as np
import pytest

import mechinterp as mi
from claims import measured
from claims.claim import PAPER, Claim
from claims.harness.types import Judge
from claims.measured.bars import FEWEST, PAIRS, VECTORS
from mechinterp import Control, Draws, Evidence, PreconditionUnmet, Threshold
from mechinterp.nulls import MOST

CLAIM = Claim(
    "values.ablation_verdict",
    statement="Zeroing the value vectors nearest to the probe disables verification partly.",
    source=PAPER,
    published="right answers no longer verified, partly, still (%), n = 300: valid 16.3, 1.0, 82.7; with the invalid "
    "ones 44.7, 2.3, 53.0",
)
AT_LEAST = 0.25


@CLAIM.as_published(
    measure="share of the right attempts called right (`this` over `not`) that are no longer, with the value vectors "
    "nearest to the published probe's columns zeroed at the last position",
    threshold=Threshold(0.1, reason="partly: one answer in ten; published 0.16 and 0.45", alpha=None),
    quirks=(
        "right attempts only: a model that then says `not` to everything passes",
        "no other neurons are zeroed for comparison",
        "judged by the next word, where the source lets the model go on for 100 tokens and reads them leniently",
    ),
)
@pytest.mark.parametrize("vectors", VECTORS)
def test_some_right_answers_are_not_recognised(lab: measured.Laboratory, vectors: str, judge: Judge) -> None:
    """With the value vectors off, some right answers are not called right."""
    rows = lab.observed.rows(lab.observed.test, "correct")
    rows = rows[lab.says_this[rows]]
    if len(rows) < FEWEST:
        raise PreconditionUnmet(f"{len(rows)} right attempts are called right; {FEWEST} are needed")
    says = ["success", "failure"][: 1 + (vectors != "valid")]
    neurons = list(dict.fromkeys(one for kind in says for one in measured.nearest_in_each_layer(lab, kind)))
    prompts, metric = [lab.observed.sited[i].input_ids for i in rows], lab.published_remarks.metric()
    off = mi.sweep(lab.subject, prompts, [mi.AblateNeurons(neurons)], metric, scope=mi.last, store=lab.store)
    lost = (off[:, 0] <= 0).double().numpy()
    judge(
        Evidence(
            lost.mean(),
            mi.share_interval(lost, seed=lab.seed),
            len(lost),
            by_problem=measured.parts(lab.observed.problem[rows], lost),
            details={"value vectors": len(neurons)},
        )
    )


@CLAIM.audited(
    measure="necessity: the part of the log-odds gap between right and wrong attempts that right attempts lose when "
    "the value vectors nearest to the probe are zeroed at ` (`",
    threshold=Threshold(AT_LEAST, reason="partly: a quarter of what tells right from wrong"),
    null="as many neurons of the same layers, as active as these and writing as much",
)
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("vectors", VECTORS)
def test_the_verdict_goes_through_them(lab: measured.Laboratory, vectors: str, pairs: str, judge: Judge) -> None:
    """Without these value vectors right attempts lose a part of what tells them apart, not only what these say."""
    lab.ladder.require_by_role()
    lab.require_probe()
    neurons, heads, seed = measured.zeroed(lab, vectors), lab.heads.selected, lab.seed
    off = mi.AblateNeurons(neurons)
    edits = [None, off, mi.direct(lab.subject, off), *([mi.AblateHeads(heads)] if heads else [])]
    right, wrong = (measured.v_without(lab, pairs, side, edits, "value vectors off") for side in ("right", "wrong"))
    gap, lost, lost_too = right[0] - wrong[0], right[0] - right[1], wrong[0] - wrong[1]  # (problems,) each
    effect, interval = measured.share(lost, gap, seed=seed)
    direct, direct_bounds = measured.share(right[0] - right[2], gap, seed=seed)
    beyond, bounds = measured.share(right[2] - right[1], gap, seed=seed)
    sets = measured.matched_sets(lab, neurons, MOST)

    def null(numbers: range) -> np.ndarray:
        matched = [mi.AblateNeurons(sets[i]) for i in numbers]
        return (right[0] - measured.v_without(lab, pairs, "right", matched, "matched neurons")).mean(1) / gap.mean()

    judge(
        Evidence(
            effect=effect,
            interval=interval,
            n=len(gap),
            controls=(
                Control("what they write into the logits themselves, all downstream held", beyond, bounds),
                measured.shift_rival(lost, lost_too, gap, at_least=AT_LEAST, seed=seed),
            ),
            selected=tuple("MLP[{}, {}]".format(*one) for one in neurons),
            details={
                "V before": measured.class_levels(right[0], wrong[0]),
                "V after": measured.class_levels(right[1], wrong[1]),
                "AUC after": measured.pair_auc(right[1], wrong[1]),
                "of the gap, directly": [direct, *direct_bounds],
                "of the gap, beyond that": [beyond, *bounds],
                "of the gap, attending heads zeroed at ` (`": float((right[0] - right[3]).mean() / gap.mean())
                if heads
                else None,
                "value vectors": len(neurons),
            },
        ),
        null=Draws(null),
    )
