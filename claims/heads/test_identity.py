"""Are these heads more than duplicate-token or induction heads?

Asked in the follow-ups of the discussion: a head that looks from any token to where it stood before attends to the
target as well. Here the same heads are watched where nothing is left but the repetition: the same tokens repeated at
the same places in random tokens and in plain text, and the input numbers of the line itself.
"""

from __future__ import annotations

import numpy as np

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from mechinterp import Draws, Evidence, Threshold
from mechinterp.nulls import MOST

CLAIM = Claim(
    "heads.identity",
    statement="Those heads are not merely previous-token, induction or duplicate-token heads.",
    source=f"{DISCUSSION}, asked in its follow-up #24; the source has no protocol for it",
    published="-",
)


@CLAIM.audited(
    measure="attention from the result of right attempts to the target minus attention at repeats of other kinds, "
    "whichever gets most: among random tokens, in plain text, of input numbers in the same line; mean over the heads",
    threshold=Threshold(0.1, reason="within a tenth of what any repeat gets a head is generic; above it is specific"),
    null="as many heads of the same layers below 0.1, matched by what they write",
)
def test_these_heads_do_more_than_find_repeats(lab: measured.Laboratory, judge: Judge) -> None:
    """These heads attend to the target more than to any repeated token."""
    lab.ladder.require_by_role()
    off, seed = lab.heads, lab.seed
    off.require()
    rows, elsewhere = lab.repeat_rows, lab.repeats
    generic = {f"repeats among {name}": mass for name, mass in elsewhere.to_mentions.items()}
    generic |= {"input numbers of the line": lab.observed.to_own[rows]}
    more = {name: lab.observed.to_target[rows] - mass for name, mass in generic.items()}  # (problems, layers, heads)

    def least(heads: list[mi.Head] | tuple[mi.Head, ...]) -> np.ndarray:
        return np.stack([measured.over_heads(one, heads) for one in more.values()])  # (kinds, problems)

    by_kind = least(off.selected)
    sets = mi.matched_head_sets(off.selected, off.written, draws=MOST, seed=seed, exclude=off.attending)
    null = [least(one).mean(1).min() for one in sets.sets]
    induction, previous = elsewhere.after_mentions, elsewhere.to_previous
    judge(
        Evidence(
            effect=by_kind.mean(1).min(),
            interval=mi.statistic_interval(lambda chosen: by_kind[:, chosen].mean(1).min(), len(rows), seed=seed),
            n=len(rows),
            selected=measured.head_names(off.selected),
            details={
                "to the target": measured.by_head(lab.observed.to_target[rows].mean(0), off.selected),
                **{name: measured.by_head(mass.mean(0), off.selected) for name, mass in generic.items()},
                "after the repeats (induction)": measured.by_head(induction["random tokens"].mean(0), off.selected),
                "to the token before": measured.by_head(previous["random tokens"].mean(0), off.selected),
            },
        ),
        null=Draws(lambda numbers: null[numbers.start : numbers.stop], len(null), sets.distinct),
    )
