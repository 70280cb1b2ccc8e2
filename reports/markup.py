"""Untrusted text as Markdown that shows it and does nothing else.

escape   text on one line, every character taken literally
code     an identifier as a code span; anything else escaped
table    rows as a Markdown table
bullets  nested values as a list
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice

from pydantic import JsonValue

from reports.text import number, plain, quoted, short

MAX_ITEMS, MAX_TEXT = 60, 2000
_SPECIAL = re.compile(
    r"""
    (?P<entity> & | \| | <(?![ =0-9]))                             # no HTML, no cell; `p <= 0.05` may stay
    | [\\`*\[\]\#~$] | (?<![A-Za-z0-9])_ | _(?![A-Za-z0-9])        # an underscore inside a word means nothing
    | ^ (?: [-+=](?![0-9.]) | > | (?P<order> [0-9]+)[.)](?=\ |$))  # what would begin a list, a rule or a quotation
    """,
    re.VERBOSE,
)
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,:@/+ =-]*", re.ASCII)


def escape(text: str) -> str:
    """The text on one line, without any meaning in Markdown or HTML, in a table or out of one.

    Cut after two thousand characters: a page must stay one that can be read, whatever a name holds.
    """
    return _SPECIAL.sub(_literal, short(text, MAX_TEXT))


def code(text: str) -> str:
    """`heads.attend_target` as a code span if it is nothing but an identifier, else escaped."""
    harmless = len(text) <= MAX_TEXT and _IDENTIFIER.fullmatch(text) and text == plain(text)
    return f"`{text}`" if harmless else escape(text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table. The cells are Markdown already."""
    body = [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
    return [*body, ""]


def bullets(values: dict[str, JsonValue], depth: int = 0) -> list[str]:
    """Lines of a list: one item a key, nested below it; text is quoted, for in tokens the spaces matter."""
    lines = []
    for key, value in islice(values.items(), MAX_ITEMS):
        item = f"{'  ' * depth}- {code(key) or '(no name)'}:"
        if isinstance(value, dict) and value and depth < 3:
            lines += [item, *bullets(value, depth + 1)]
        elif isinstance(value, list) and depth < 3 and value and all(isinstance(row, list | dict) for row in value):
            lines += [item, *(f"{'  ' * (depth + 1)}- {_inline(row)}" for row in value[:MAX_ITEMS])]
            if len(value) > MAX_ITEMS:
                lines.append(f"{'  ' * (depth + 1)}- {_more(len(value))}")
        else:
            lines.append(f"{item} {_inline(value)}")
    if len(values) > MAX_ITEMS:
        lines.append(f"{'  ' * depth}- {_more(len(values))}")
    return lines


def _inline(value: JsonValue) -> str:
    if isinstance(value, dict):
        return _joined([f"{escape(key)} {_inline(item)}" for key, item in islice(value.items(), MAX_ITEMS)], len(value))
    if isinstance(value, list):
        return _joined([_inline(item) for item in value[:MAX_ITEMS]], len(value))
    if isinstance(value, str):
        return escape(quoted(value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}..."))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return escape(number(value) if isinstance(value, float) else str(value))


def _joined(shown: list[str], count: int) -> str:
    return ", ".join([*shown, *([_more(count)] if count > MAX_ITEMS else [])]) or "none"


def _more(count: int) -> str:
    return f"... and {count - MAX_ITEMS} more in report.json"


def _literal(found: re.Match[str]) -> str:
    if found["entity"]:
        return {"&": "&amp;", "<": "&lt;", "|": "&#124;"}[found[0]]
    order = found["order"] or ""
    return f"{order}\\{found[0][len(order) :]}"
