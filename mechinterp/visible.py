"""Text from outside, made harmless to look at.

visible   text with control, bidirectional and other invisible characters spelled out
"""

from __future__ import annotations

import unicodedata

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode categories: they act on a terminal, or are not seen


def visible(text: str) -> str:
    """The text with such characters spelled out, `\\x1b` or `\\u202e`; on one line, since line ends are among them."""
    return "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in HIDDEN else char for char in text
    )
