"""The one exception that mechinterp raises.

MechinterpError  input that cannot be examined
quote            how its message shows what was given
"""

from __future__ import annotations


class MechinterpError(ValueError):
    """Input that cannot be examined. The message is one line: what was given, what was expected, what to do."""


def quote(given: object, most: int = 80) -> str:
    """What was given, on one line and not too long."""
    text = " ".join(repr(given).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
