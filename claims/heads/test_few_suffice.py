"""Are a few of these heads enough to disable it?

The paper ranks the attending heads by how much their OV circuits drive the valid value vectors and turns off the first
three: L17H11, L17H14, L17H10 ("as few as three"; the workshop version says six). Here they are ranked by what an
answer loses without each of them alone, on problems apart from those that the first three are judged on.
"""

from __future__ import annotations

import numpy as np
import pytest

import mechinterp as mi
from claims import measured
from claims.claim import PAPER, Claim
from claims.harness.types import Judge
from claims.measured.bars import FEW, FEWEST, PAIRS
from mechinterp import Control, Draws, Evidence, PreconditionUnmet, Threshold

CLAIM = Claim(
    "heads.few_suffice",
    statement="As few as three heads disable it: without them the model no longer recognises its own right answer.",
    source=PAPER,
    published="first 3 of the ranking, L17H11, L17H14, L17H10: 95.3 % disabled, 4.7 % partly, 0 % not (n = 300)",
)
MOST_OF_IT = 0.8


@CLAIM.as_published(
    measure="share of the right attempts called right (`this` over `not`) that are no longer, with the first three "
    "heads of the source's ranking zeroed at all positions",
    threshold=Threshold(0.5, reason="more than half of the answers are lost; published 0.953", alpha=None),
    quirks=(
        "right attempts only: a model that then says `not` to everything passes",
        "zeroed at all positions: damage passes as well",
        "ranked by the diagonal of W_V W_O, as if it were a vector of the residual stream, without the norm's gain",
        "judged by the next word, where the source lets the model go on",
    ),
)
def test_three_heads_of_the_published_ranking_disable_it(lab: measured.Laboratory, judge: Judge) -> None:
    """With three heads off, right answers are not called right."""
    heads, _, _ = lab.a_prev
    rows = lab.observed.rows(lab.observed.test, "correct")
    rows = rows[lab.says_this[rows]]
    if len(heads) < FEW or len(rows) < FEWEST:
        raise PreconditionUnmet(
            f"{len(heads)} heads attend to the target and {len(rows)} right attempts are called right; "
            f"{FEW} and {FEWEST} are needed"
        )
    few = measured.ranked_by_valid_vectors(lab, heads)[:FEW]
    lost = (~measured.called_right_without(lab, few, rows)).astype(float)
    names = measured.head_names(few)
    interval = mi.share_interval(lost, seed=lab.seed)
    judge(Evidence(lost.mean(), interval, len(lost), selected=names, details={"heads": names, "of": len(heads)}))


@CLAIM.audited(
    measure="necessity: the part of the log-odds gap between right and wrong attempts that right attempts lose when "
    "the outputs of three attending heads, those needed most alone on other problems, are replaced from the result on",
    threshold=Threshold(0.5, reason="the larger part of what tells right from wrong goes through three heads"),
    null="as many heads of the same layers that do not attend, matched by output norm and size of the change",
)
@pytest.mark.parametrize("by", ["zero", "resample"])
@pytest.mark.parametrize("pairs", PAIRS)
def test_three_heads_carry_most_of_it(lab: measured.Laboratory, pairs: str, by: str, judge: Judge) -> None:
    """Without three heads right attempts lose most of what tells them from wrong ones."""
    lab.ladder.require_by_role()
    few, off, seed = lab.few_heads, lab.heads, lab.seed
    few.require()
    order, clean = few.ranked(pairs, by), off.clean(pairs)
    gap = (clean.right - clean.wrong)[:, 0]  # (problems,)
    lost = few.lost(pairs, by, [order[:FEW]], "first three")[0]
    effect, interval = measured.share(lost, gap, seed=seed)

    def rival(what: str, sets: list[tuple[mi.Head, ...]]) -> Control:
        margin, bounds = measured.share(lost - few.lost(pairs, by, sets, what).mean(0), gap, seed=seed)
        return Control(f"other triples of heads {what}", margin, bounds)

    rivals = tuple(rival(what, sets) for what, sets in few.rivals(pairs, by).items())
    counts, ranked, random = few.curve(pairs, by)
    carried, chance = ranked.mean(1) / gap.mean(), random.mean(2) / gap.mean()  # (counts,), (orders, counts)
    enough = [count for count, part in zip(counts, carried, strict=True) if part >= MOST_OF_IT]
    sets, alone = few.null_sets(pairs, by), few.necessity(pairs, by)
    of_all = [divmod(i, alone.shape[1]) for i in alone.flatten().argsort(descending=True)[:10].tolist()]
    judge(
        Evidence(
            effect=effect,
            interval=interval,
            n=len(gap),
            controls=rivals,
            selected=measured.head_names(order[:FEW]),
            series={"heads off": [float(count) for count in counts], "ranked": carried.tolist()},
            series_axis="heads off",
            bands={"ranked": [tuple(np.percentile(part, [2.5, 97.5])) for part in chance.T]},
            pictures=(measured.head_grid("what V of right attempts loses without each head alone", alone, "nats"),),
            details={
                "lost without each alone, nats": measured.by_head(alone, order[:10]),
                "the same of all heads": measured.by_head(alone, of_all),
                f"fewest heads for {MOST_OF_IT:g} of the gap": enough[0] if enough else f"more than {counts[-1]}",
                "band": "as many random heads that do not attend, 95 %",
            },
        ),
        null=Draws(
            lambda numbers: [
                float(one.mean() / gap.mean())
                for one in few.lost(pairs, by, sets.sets[numbers.start : numbers.stop], "matched sets")
            ],
            len(sets.sets),
            sets.distinct,
        ),
    )
