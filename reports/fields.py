"""What the fields of a report are made of. What comes in is not trusted; what stays is strictly valid JSON.

Strict   the base of every model in a report
Text     text without lone surrogates
Number   a finite float, or None
Bounds   an interval [low, high], or None
Details  nested JSON values
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue

from reports.text import finite, jsonable, well_formed


def _interval(value: Any) -> Any:
    """None for an interval with an end that is not a number."""
    if isinstance(value, list | tuple) and len(value) == 2 and None in map(finite, value):
        return None
    return value


Text = Annotated[str, BeforeValidator(well_formed)]
Number = Annotated[float | None, BeforeValidator(finite)]
Bounds = Annotated[tuple[float, float] | None, BeforeValidator(_interval)]
Details = Annotated[dict[str, JsonValue], BeforeValidator(jsonable)]


class Strict(BaseModel):
    """A model that knows its fields, all documented, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
