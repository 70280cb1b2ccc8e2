"""What a claim's test is given.

Judge   the function that takes its evidence
"""

from __future__ import annotations

from typing import Protocol

from mechinterp import Draws, Evidence


class Judge(Protocol):
    """Takes a case's evidence, once, and draws the null that its verdict needs."""

    def __call__(self, evidence: Evidence, null: Draws | None = None) -> None: ...
