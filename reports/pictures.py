"""Pictures that a claim recorded, as fields of its finding. The words are those of mechinterp.pictures.

Picture  one of the three: Grid, Passage, Listing
stored   what a claim gave, as such a field
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, TypeAdapter, model_validator

from mechinterp import pictures
from reports.fields import Number, Strict, Text
from reports.text import jsonable

MOST_CELLS = 20_000
"""Of a grid, tokens of a passage, or cells of a table; a page has to hold them."""
Cell = Annotated[JsonValue, BeforeValidator(jsonable)]


class RankedToken(Strict):
    """A token and how likely it is."""

    token: Text
    """The token, its spaces kept."""
    value: Number
    """Its probability."""


class Grid(Strict):
    """Numbers by row and column, such as layer by head, or a logit lens."""

    kind: Literal["grid"] = "grid"
    """What tells it from other pictures."""
    title: Text
    """What it shows."""
    rows: list[Text]
    """Names of the rows, from above."""
    columns: list[Text]
    """Names of the columns."""
    values: list[list[Number]]
    """Numbers, row by row; null where there is nothing to show."""
    row_axis: Text = ""
    """What the rows are."""
    column_axis: Text = ""
    """What the columns are."""
    unit: Text = ""
    """What the numbers are."""
    texts: list[list[Text]] = Field(default_factory=list)
    """What is written in each cell; empty for numbers alone."""
    more: list[list[list[RankedToken]]] = Field(default_factory=list)
    """What a cell tells when looked at: tokens with their probabilities, likeliest first."""
    middle: Number = None
    """The value that is neither high nor low, for numbers of two signs."""

    @model_validator(mode="after")
    def _is_rectangular(self) -> Grid:
        for name in ("values", "texts", "more"):
            rows: list[list[Any]] = getattr(self, name)
            if (rows or name == "values") and [len(row) for row in rows] != [len(self.columns)] * len(self.rows):
                raise ValueError(f"{name} are not {len(self.rows)} rows of {len(self.columns)}")
        _refuse_many(len(self.rows) * len(self.columns))
        return self


class Passage(Strict):
    """A text with a weight on each token, such as attention."""

    kind: Literal["passage"] = "passage"
    """What tells it from other pictures."""
    title: Text
    """What it shows."""
    tokens: list[Text]
    """The text, in pieces."""
    weights: list[Number]
    """One a token."""
    unit: Text = ""
    """What the weights are."""
    seen_from: int | None = None
    """The place of the token that looks."""

    @model_validator(mode="after")
    def _has_a_weight_each(self) -> Passage:
        if len(self.tokens) != len(self.weights):
            raise ValueError(f"{len(self.weights)} weights for {len(self.tokens)} tokens")
        _refuse_many(len(self.tokens))
        return self


class Listing(Strict):
    """Rows of a table."""

    kind: Literal["listing"] = "listing"
    """What tells it from other pictures."""
    title: Text
    """What it shows."""
    columns: list[Text]
    """Names of the columns."""
    rows: list[list[Cell]]
    """As many cells each."""

    @model_validator(mode="after")
    def _is_rectangular(self) -> Listing:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row has not {len(self.columns)} cells")
        _refuse_many(len(self.rows) * len(self.columns))
        return self


Picture = Annotated[Grid | Passage | Listing, Field(discriminator="kind")]


PICTURES: TypeAdapter[list[Picture]] = TypeAdapter(list[Picture])


def stored(given: Sequence[pictures.Picture]) -> list[Picture]:
    """What a claim gave, as fields of its finding.

    Raises:
        ValidationError: its parts do not fit together, or no page holds it.
    """
    kinds = {pictures.Grid: "grid", pictures.Passage: "passage", pictures.Listing: "listing"}
    made = []
    for picture in given:
        data = jsonable(asdict(picture))
        if data.get("more"):
            data["more"] = [
                [[{"token": token, "value": value} for token, value in cell] for cell in row] for row in data["more"]
            ]
        made.append({"kind": kinds[type(picture)], **data})
    return PICTURES.validate_python(made)


def _refuse_many(cells: int) -> None:
    if cells > MOST_CELLS:
        raise ValueError(f"{cells} cells are more than the {MOST_CELLS} that a page holds")
