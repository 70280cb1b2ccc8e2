"""Untrusted values as plain text. Tokens, checkpoint names and details may hold anything; what leaves here is harmless.

well_formed  text without lone surrogates, which UTF-8 cannot carry
finite       a float, or None for what is not a finite number
jsonable     nested values as JSON values
plain        text on one line, its control, bidi and invisible characters spelled out
short        the same, cut to a length
quoted       a token in quotes, its spaces kept
file_name    a safe name for a file
number       a number in a few digits
estimate     a number with its interval, in the same number of digits
"""

from __future__ import annotations

import math
import re
from typing import Any

from mechinterp.visible import visible

ABSENT = "-"
MAX_DEPTH = 16
_SURROGATE = re.compile("[\ud800-\udfff]")


def well_formed(value: Any) -> Any:
    """Text whose lone surrogates are spelled out; anything else as it is."""
    if isinstance(value, str):
        return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
    return value


def finite(value: Any) -> Any:
    """The float, or None if it is not finite. What is no number at all stays, for the schema to refuse."""
    if value is None or isinstance(value, str | bool | dict | list | tuple):
        return value
    try:
        number = float(value)
    except OverflowError:
        return None
    except (TypeError, ValueError):
        return value
    return number if math.isfinite(number) else None


def jsonable(value: Any, depth: int = 0) -> Any:
    """The value as JSON values: arrays as lists, non-finite floats as None, what JSON has no word for as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, str) or depth > MAX_DEPTH:
        return well_formed(str(value))
    if isinstance(value, dict):
        return {well_formed(str(key)): jsonable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item, depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return [jsonable(item, depth + 1) for item in sorted(value, key=str)]
    if callable(getattr(value, "tolist", None)):  # arrays and their scalars
        return jsonable(value.tolist(), depth + 1)
    return well_formed(str(value))


def plain(text: str) -> str:
    """The text on one line, without anything that acts on a terminal or an editor."""
    return visible(" ".join(text.split()))


def short(text: str, longest: int) -> str:
    """The text on one line, harmless, and cut to at most so many characters: a name may be megabytes long."""
    line = plain(text[: 10 * longest])
    return line if len(line) <= longest and len(text) <= 10 * longest else f"{line[: longest - 3]}..."


def quoted(token: str) -> str:
    """The token in quotes: leading spaces matter to a tokenizer."""
    return f'"{visible(token)}"'


def file_name(text: str, longest: int = 60) -> str:
    """Letters, digits, `.`, `_` and `-` only; the end is kept of what is too long, for it tells more of a path."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    return re.sub(r"\.\.+", ".", name)[-longest:].strip("-.") or "unnamed"


def number(value: float | None) -> str:
    """Three digits or so; a dash for None."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def estimate(value: float | None, interval: tuple[float, float] | None, brief: bool = False) -> str:
    """The value with its interval, `0.98 [0.96, 0.99]`, to a tenth of the interval's width.

    Args:
        brief: no more digits than show two of the value's own, and two after the point.
    """
    if value is None or interval is None:
        return number(value)
    low, high = interval
    width, largest = abs(high - low), max(map(abs, (value, low, high)))
    if 1e-7 <= width < 1e6 and largest < 1e6:
        digits = min(max(math.floor(1.7 - math.log10(width)), 0), 8)
        if brief:
            digits = min(digits, max(2, 1 - math.floor(math.log10(abs(value) or 1.0))))
        return f"{value:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}]"
    return f"{number(value)} [{number(low)}, {number(high)}]"
