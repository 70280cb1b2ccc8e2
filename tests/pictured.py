"""A finding with every kind of picture, made up, for tests of the page.

pictured  it
"""

from __future__ import annotations

import math

from written_reports import finding

from mechinterp import pictures
from reports.finding import Finding
from reports.pictures import stored

POSITIONS = [" 51", " =", " 4", "9", " +", " 2", " (", "this", "\n"]
TOKENS = [" this", " not", " yes", " OK", " success", " wrong", "<script>", " \u5b8c\u7f8e", " \u202eabc", "\x1b[31m"]
LAYERS = 12


def pictured(**facts) -> Finding:
    """A logit lens, a map of heads, a text with attention, a table, and a curve with its band."""
    lens = pictures.Grid(
        "logit lens of a right attempt",
        rows=[str(layer) for layer in reversed(range(LAYERS))],
        columns=POSITIONS,
        values=[[_probability(layer, at) for at in range(len(POSITIONS))] for layer in reversed(range(LAYERS))],
        row_axis="layer",
        column_axis="position",
        unit="probability of the likeliest token",
        texts=[[TOKENS[(layer + at) % 10] for at in range(len(POSITIONS))] for layer in reversed(range(LAYERS))],
        more=[
            [[(token, _probability(layer, at) / (1 + rank)) for rank, token in enumerate(TOKENS)]
             for at in range(len(POSITIONS))]
            for layer in reversed(range(LAYERS))
        ],
    )  # fmt: skip
    heads = pictures.Grid(
        "necessity, head by head",
        rows=[str(layer) for layer in range(LAYERS)],
        columns=[str(head) for head in range(12)],
        values=[[math.sin(layer * head) / 2 for head in range(12)] for layer in range(LAYERS)],
        row_axis="layer",
        column_axis="head",
        unit="share of the gap that is lost",
        middle=0.0,
    )
    text = pictures.Passage(
        "L6H7 from the last digit",
        POSITIONS * 3,
        [0.6 if at == 0 else 0.02 for at in range(27)],
        unit="attention",
        seen_from=24,
    )
    examples = pictures.Listing(
        "outcomes", ["text", "says", "share"], [["51 = 49 + 2 (", " this", 0.97], ["<b>", "", None]]
    )
    curves = {"heads": [1.0, 2.0, 4.0], "chosen heads": [0.2, 0.4, 0.7], "random heads": [0.0, 0.05, 0.1]}
    told = {"series": curves, "series_axis": "heads", "bands": {"random heads": [(-0.1, 0.1), (0.0, 0.1), (0.05, 0.2)]}}
    return finding("heads.pictured", **(told | {"pictures": stored([lens, heads, text, examples])} | facts))


def _probability(layer: int, at: int) -> float:
    return round((layer + 1) / LAYERS * (at + 1) / len(POSITIONS), 3)
