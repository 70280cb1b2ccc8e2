"""Words of success and of failure under the logit lens, as evidence: the two findings are measured alike.

shown_most         what the middle layer that shows the words most shows, after attempts of their own class
shown_before_said  what a middle layer shows beyond the last one, and after one class more than after the other
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import mechinterp as mi
from claims.measured.bars import ROLE
from claims.measured.pairs import parts
from mechinterp import Control, Draws, Evidence
from mechinterp.nulls import MOST

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory


def shown_most(lab: Laboratory, says: str) -> Evidence:
    """At ` (`, as published: one class of attempts, and the layer with the largest value."""
    lens, observed = lab.lens, lab.observed
    rows = observed.rows(observed.test, "correct" if says == "success" else "incorrect")
    shown = lens.probability("open_paren", rows, lens.middle, says)  # (problems, layers)
    best = int(shown.mean(0).argmax())
    return Evidence(
        shown[:, best].mean(),
        mi.mean_interval(shown[:, best], seed=lab.seed),
        len(shown),
        by_problem=parts(observed.problem[rows], shown[:, best]),
        series={"layer": [float(at) for at in lens.middle], f"words of {says}": shown.mean(0).tolist()},
        details={"layer": lens.middle[best], "top_tokens": lens.top("open_paren", lens.middle[best], rows)},
    )


def shown_before_said(lab: Laboratory, site: str, pairs: str, says: str) -> tuple[Evidence, Draws]:
    """The excess in the middle layer that shows most on the fit half, and the same of random lexicons."""
    lab.ladder.require_by_role()
    lens, seed = lab.lens, lab.seed
    layer = lens.chosen_layer(site, says, pairs)
    right, wrong = lens.sides(pairs)
    excess = lens.excess(site, layer, says, pairs)
    foil = lens.excess(site, layer, says, "foil") - ROLE * lens.excess(site, layer, says, "target_edited")
    layers = [*lens.middle, lens.last]
    curves = {f"words of {says}, right": right, f"words of {says}, wrong": wrong}
    evidence = Evidence(
        effect=excess.mean(),
        interval=mi.mean_interval(excess, seed=seed),
        n=len(excess),
        controls=(
            Control(
                f"repetition: foils, of whose gap more than {ROLE} must be left",
                float(foil.mean()),
                mi.mean_interval(foil, seed=seed),
            ),
        ),
        selected=(f"layer {layer}",),
        by_problem=parts(np.unique(lab.observed.problem[right]), excess),
        series={
            "layer": [float(at) for at in layers],
            **{name: lens.probability(site, rows, layers, says).mean(0).tolist() for name, rows in curves.items()},
        },
        details={
            "layer": layer,
            "top_tokens": lens.top(site, layer, right if says == "success" else wrong),
            "lexicon": len(lab.naming.words(says)),
        },
    )
    lexicons = lab.naming.stand_ins(says, draws=MOST, seed=seed)
    return evidence, Draws.of(lens.stand_ins(site, layer, says, pairs, lexicons))
