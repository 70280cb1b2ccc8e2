"""A run of claims is one process: they share one loaded checkpoint and what was measured on it.

stay_in_one_process   turn off plugins that would spread the claims over several
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_CLAIMS = (ROOT / "tests", ROOT / "benchmarks")
INSTEAD = "a run of claims is one process, for they share a loaded model; give each model a command of its own to run "
INSTEAD += "several at once"


def stay_in_one_process(config: pytest.Config) -> str | None:
    """Turn pytest-xdist (-n, --dist, --tx) and pytest-forked off where claims may run; what to tell the user."""
    option = config.option
    spread = [
        name
        for name, on in (
            ("-n", getattr(option, "dist", "no") != "no" and bool(getattr(option, "tx", None))),
            ("--forked", getattr(option, "forked", False)),
        )
        if on
    ]
    if not spread or option.collectonly or not _may_hold_claims(config):
        return None
    option.dist, option.tx, option.numprocesses, option.forked = "no", [], 0, False
    return f"{' and '.join(spread)} is not used: {INSTEAD}"


def _may_hold_claims(config: pytest.Config) -> bool:
    """Unless everything asked for lies in folders that hold none."""
    here = config.invocation_params.dir
    asked = [(here / str(argument).partition("::")[0]).resolve() for argument in config.args]
    return not all(any(path.is_relative_to(folder) for folder in WITHOUT_CLAIMS) for path in asked)
