"""From pytest-benchmark's JSON to benchmarks/results.md: python -m benchmarks.table build/bench.json"""

from __future__ import annotations

import json
import platform
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "transformer-lens", "nnsight", "pytest-benchmark")
RESULTS = Path(__file__).parent / "results.md"


def write(source: Path) -> str:
    """The tables of one run, as Markdown."""
    run = json.loads(source.read_text(encoding="utf-8"))
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in run["benchmarks"]:
        groups[one["group"]].append(one)
    cpu = run["machine_info"]["cpu"]
    lines = [
        "# Benchmarks",
        "",
        "`make bench` writes this file. Each table is the same work on the same weights in one process, fp32; medians.",
        "A loop over interventions was timed on a part of them where a part is named, and multiplied.",
        "",
        f"{cpu.get('brand_raw', platform.machine())}, {cpu.get('count', '?')} threads; "
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES) + ".",
    ]
    for group, members in groups.items():
        ours = next(_seconds(one) for one in members if _name(one) == "mechinterp")
        lines += ["", f"## {group}", "", "| | seconds | times ours | timed |", "|---|---:|---:|---|"]
        for one in sorted(members, key=_seconds):
            seconds, facts = _seconds(one), one["extra_info"]
            part = f"{facts['measured']} of {facts['of']}" if facts["measured"] < facts["of"] else "all"
            lines.append(f"| {_name(one)} | {seconds:.3g} | {seconds / ours:.3g} | {part} |")
    return "\n".join(lines) + "\n"


def _name(one: dict[str, Any]) -> str:
    return str(one["extra_info"]["what"])


def _seconds(one: dict[str, Any]) -> float:
    facts = one["extra_info"]
    return float(one["stats"]["median"]) * facts["of"] / facts["measured"]


if __name__ == "__main__":
    text = write(Path(sys.argv[1]))
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
