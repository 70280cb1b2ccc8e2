"""What a claim may show beside its numbers, as data. No torch here.

Grid      numbers by row and column, such as layer by head, with a text in each cell where there is one
Passage   a text, token by token, with a weight on each, such as attention
Listing   rows of a table, such as the tokens that a value vector promotes, or outcomes of generations

A report draws them; what is drawn is for the eye, and no verdict depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Ranked = Sequence[tuple[str, float]]
"""Tokens with their probabilities, likeliest first."""


@dataclass(frozen=True)
class Grid:
    """Numbers by row and column. A logit lens has positions as columns, layers as rows, and a token in each cell.

    Attributes:
        title: what it shows, such as `logit lens of a right attempt`.
        rows: names of the rows, from above.
        columns: names of the columns; tokens may be named twice.
        values: (rows, columns), None or NaN where there is nothing to show.
        row_axis, column_axis: what rows and columns are.
        unit: what the numbers are, such as `probability of the token`.
        texts: (rows, columns), what is written in each cell; empty for numbers alone.
        more: (rows, columns), what a cell tells when looked at: tokens with their probabilities.
        middle: the value that is neither high nor low, for numbers of two signs; None where 0 is the least.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    row_axis: str = ""
    column_axis: str = ""
    unit: str = ""
    texts: Sequence[Sequence[str]] = ()
    more: Sequence[Sequence[Ranked]] = ()
    middle: float | None = None


@dataclass(frozen=True)
class Passage:
    """A text with a weight on each token.

    Attributes:
        title: what it shows, such as `L6H7 from the last digit`.
        tokens: the text, in pieces.
        weights: one a token, 0 or more.
        unit: what the weights are, such as `attention`.
        seen_from: the place of the token that looks, if there is one.
    """

    title: str
    tokens: Sequence[str]
    weights: Sequence[float]
    unit: str = ""
    seen_from: int | None = None


@dataclass(frozen=True)
class Listing:
    """Rows of a table.

    Attributes:
        title: what it shows.
        columns: their names.
        rows: as many cells each: texts, numbers, or None.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


Picture = Grid | Passage | Listing
