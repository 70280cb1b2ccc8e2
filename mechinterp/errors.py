"""The one exception that mechinterp raises."""

from __future__ import annotations


class MechinterpError(ValueError):
    """Input that cannot be examined. The message is one line: what was given, what was expected, what to do."""
