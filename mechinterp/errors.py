"""The one exception that mechinterp raises.

MechinterpError  input that cannot be examined
quote            how its message shows what was given
"""

from __future__ import annotations

from mechinterp.visible import visible


class MechinterpError(ValueError):
    """Input that cannot be examined. The message is one line: what was given, what was expected, what to do.

    What it quotes of names, paths and tokens cannot act on a terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


def quote(given: object, most: int = 80) -> str:
    """What was given, on one line and not too long."""
    text = " ".join(repr(given).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
