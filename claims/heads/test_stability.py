"""Would other problems have chosen the same heads?

Ours: a set of heads that is chosen anew with each sample of problems is a description of the sample.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from mechinterp import Draws, Evidence, Threshold
from mechinterp.nulls import MOST

CLAIM = Claim(
    "heads.stability",
    statement="The set of heads is reproducible: other problems choose the same ones.",
    source=f"{DISCUSSION}, Part III (ours: the source chooses once)",
    published="-",
)
REDRAWN = 100
AS_GOOD = 0.9
"""Share of what the chosen heads carry from which as many others do as well."""


@CLAIM.audited(
    measure="Jaccard index of the heads chosen on one half of the problems and on the other, mean over re-drawn halves",
    threshold=Threshold(0.5, reason="of two sets of one size two heads in three are then the same"),
    null="two random sets of as many heads in the same layers",
)
def test_other_problems_choose_the_same_heads(lab: measured.Laboratory, judge: Judge) -> None:
    """Halves of the problems agree on the heads that attend to the target."""
    lab.ladder.require_by_role()
    off, observed = lab.heads, lab.observed
    off.require()
    mass = observed.to_target[np.flatnonzero(observed.kind == "correct")]  # (problems, layers, heads)
    found = []
    for draw in range(REDRAWN):
        order = np.random.default_rng([lab.seed, draw, 29]).permutation(len(mass))
        halves = [off.choose(mass[chosen].mean(0)) for chosen in np.array_split(order, 2)]
        found.append(measured.jaccard(*halves))
    rival, carried = lab.few_heads.instead("target_edited"), lab.few_heads.carried("target_edited", off.selected)
    others = lab.few_heads.carried("target_edited", rival)
    judge(
        Evidence(
            effect=float(np.mean(found)),
            interval=(float(np.percentile(found, 2.5)), float(np.percentile(found, 97.5))),
            n=len(mass),
            selected=measured.head_names(off.selected),
            details={
                "interval": "of the index, over re-drawn halves",
                "share of the gap that right attempts lose without these heads": carried,
                "without as many others of the same layers, those needed most": others,
                "others": measured.head_names(rival),
                "identifiable": "no: others of the same layers carry as much"
                if others >= AS_GOOD * carried
                else "yes: no others of the same layers carry as much",
            },
        ),
        null=Draws(lambda numbers: [by_chance(off.selected, lab, draw) for draw in numbers], MOST),
    )


def by_chance(heads: list[mi.Head], lab: measured.Laboratory, draw: int) -> float:
    """The index of two random sets, each with as many heads in each layer as these."""
    rng, n_heads = np.random.default_rng([lab.seed, draw, 31]), lab.subject.anatomy.n_heads
    counts = Counter(layer for layer, _ in heads)
    sets = [
        [(layer, int(head)) for layer, count in counts.items() for head in rng.choice(n_heads, count, replace=False)]
        for _ in range(2)
    ]
    return measured.jaccard(*sets)
