"""Untrusted text on a page: one line, harmless, not endless, its white space seen. Escaping is jinja's, once.

inert   any value as it is printed by a template
prose   a text of any length, with what cannot be seen spelled out and spaces at its ends marked
spaced  a token or a path of it, with its spaces marked
digest  the first digits of a SHA-256 or a commit
"""

from __future__ import annotations

import unicodedata
from typing import Any

from markupsafe import Markup, escape

from mechinterp.visible import visible
from reports.text import short

LONGEST = 2000
LONGEST_TOKEN = 80


def inert(value: Any) -> Any:
    """What a template prints: text without characters that act, cut to a length. Markup of our own stays."""
    if isinstance(value, Markup) or value is None:
        return "" if value is None else value
    return short(value, LONGEST) if isinstance(value, str) else value


def prose(text: Any) -> Markup:
    """Text such as an example of a generation: not endless, nothing in it acts, all else as it is."""
    said = str(text)[:LONGEST]
    if len(said) <= LONGEST_TOKEN and said != said.strip():
        return spaced(said)
    return escape(visible(said))


def spaced(token: Any) -> Markup:
    """A token as it is, its spaces as marks that a reader sees; it does not turn the text around it."""
    text = str(token)
    cut = "..." if len(text) > LONGEST_TOKEN else ""
    shown = "".join(_other_space(char) for char in visible(text[:LONGEST_TOKEN]))
    marked = escape(shown).replace(" ", Markup('<span class="ws">\u00b7</span>'))
    return Markup("<bdi>{}{}</bdi>").format(marked, cut) if shown else Markup('<span class="ws">empty</span>')


def _other_space(char: str) -> str:
    """No-break and ideographic spaces look like spaces, and are other tokens."""
    return f"\\u{ord(char):04x}" if char != " " and unicodedata.category(char) == "Zs" else char


def digest(value: str | None, digits: int = 12) -> str:
    return "unknown" if not value else value[:digits]
