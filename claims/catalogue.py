"""The claims of the suite, as they stand in their files: nothing is measured, and torch is not loaded.

catalogue  what each says of itself, as JSON values
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from claims.claim import Protocol
from claims.harness.cases import variants

FOLDER = Path(__file__).parent


def catalogue() -> list[dict[str, Any]]:
    """Of each claim what it says of itself; of each of its tiers what is measured and demanded."""
    entries: dict[str, dict[str, Any]] = {}
    for file in sorted(FOLDER.glob("*/test_*.py")):
        for test in vars(import_module(f"claims.{file.parent.name}.{file.stem}")).values():
            marks = getattr(test, "pytestmark", [])
            for mark in marks:
                if mark.name == "claim":
                    _add(entries, mark.args[0], variants(marks), f"{file.parent.name}/{file.name}")
    return list(entries.values())


def _add(entries: dict[str, dict[str, Any]], protocol: Protocol, cases: list[str], file: str) -> None:
    claim = protocol.claim
    told = {"id": claim.id, "statement": claim.statement, "source": claim.source, "published": claim.published}
    entry = entries.setdefault(claim.id, {**told, "file": f"claims/{file}", "tiers": []})
    entry["tiers"].append(
        {
            "tier": protocol.tier,
            "cases": cases,
            "measure": protocol.measure,
            "threshold": str(protocol.threshold),
            "threshold_reason": protocol.threshold.reason,
            "null": protocol.null,
            "quirks": list(protocol.quirks),
        }
    )
