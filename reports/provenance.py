"""Where a run took place: interpreter, machine, versions, and the commit of the suite.

environment   all of it
git_revision  commit of a clone, and whether files differ from it
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from reports.schema import Environment

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mechanistic-claims", "torch", "transformers", "numpy", "scipy", "scikit-learn", "pydantic", "pytest")


def environment(root: Path = ROOT) -> Environment:
    """Interpreter, machine, versions of the packages that the numbers depend on, and the suite's commit."""
    revision, dirty = git_revision(root)
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        cpu_count=os.cpu_count(),
        versions={package: _version(package) for package in PACKAGES},
        suite_revision=revision,
        suite_dirty=dirty,
    )


def git_revision(root: Path) -> tuple[str | None, bool | None]:
    """The commit checked out at `root` and whether files differ from it; (None, None) outside a clone."""
    top = _git(root, "rev-parse", "--show-toplevel")
    # A folder inside a clone of something else has no revision of its own.
    if top is None or Path(top).resolve() != root.resolve():
        return None, None
    revision, changes = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain")
    return (None, None) if revision is None or changes is None else (revision, bool(changes))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    """What git says, without the line end; None if there is no git, no clone or no answer."""
    git = shutil.which("git")
    if git is None:
        return None
    # In a hook git points these at the repository that calls it, which need not be this one.
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [git, "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            env=surroundings,
            check=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
