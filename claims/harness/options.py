"""What was asked for on the command line, checked before anything is loaded. What is wrong is one line, exit status 4.

add_options   --model and the others
Options       what was asked for
read_options  the Options of a command line
refusing      turns the errors of a block into such a line
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest

from claims.claim import Tier
from fixtures.checkpoints import Checkpoint, precheck, resolve
from mechinterp.errors import MechinterpError
from mechinterp.visible import visible
from reports.collector import REPORT_DIR
from reports.comparison import by_label
from reports.schema import Report, ReportError, read_report
from reports.text import plain

FEWEST_PROBLEMS, MOST_PROBLEMS = 4, 10_000
LAST_SEED = 2**32 - 1
"""The largest that every generator of random numbers takes."""
MOST_SEEDS = 100
DTYPES = ("auto", "float32", "bfloat16", "float16")
TIERS: dict[str, tuple[Tier, ...]] = {
    "both": ("as_published", "audited"),
    "as_published": ("as_published",),
    "audited": ("audited",),
}
LONGEST_NAME = 80
CHOSEN = "chosen.safetensors"
"""Beside a report: the heads, probes and value vectors that the run chose."""


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        models: checkpoints to examine, by name, in the order given.
        reference: the one they are compared with.
        device, dtype: as given; whether the device is there is known once torch is loaded.
        seeds: the suite is run on each.
        n_problems: half of them to choose on, half to judge on.
        tiers: those that are run.
        report_dir: where `runs/` is written.
        keep: whether measurements are kept for later runs.
        frozen: the file of what another run chose, applied beside what is chosen anew.
        resume: the folder of a run to go on with.
        baseline: the report that every run is compared with; its verdicts are then the expected ones.
    """

    models: Mapping[str, Checkpoint]
    reference: Checkpoint | None
    device: str
    dtype: str
    seeds: tuple[int, ...]
    n_problems: int
    tiers: tuple[Tier, ...]
    report_dir: Path
    keep: bool
    baseline: Report | None
    frozen: Path | None
    resume: Path | None


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("mechanistic claims")
    add = group.addoption
    add("--model", action="append", metavar="SPEC", help="checkpoint to examine: an alias (fixtures/models.toml), "
        "owner/name[@revision] on the hub, a folder, a .gguf, NAME=SPEC; repeatable (default: base)")  # fmt: skip
    add("--reference", metavar="SPEC", help="checkpoint to compare with, for claims about what training changed")
    add("--tier", type=_one_of("--tier", TIERS), default="both", metavar="TIER", help="as_published (the source's own "
        "protocol), audited (with controls) or both (default: both)")  # fmt: skip
    add("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    add("--dtype", type=_one_of("--dtype", DTYPES), default="auto", metavar="DTYPE", help="auto, float32, bfloat16 or "
        "float16 (default: auto)")  # fmt: skip
    add("--seed", type=_whole("--seed", 0, LAST_SEED), default=0, metavar="N", help="seed of problems, splits and "
        "controls (default: 0)")  # fmt: skip
    add("--seeds", type=_whole("--seeds", 1, MOST_SEEDS), default=1, metavar="N", help="run on N seeds, from --seed "
        "up: a verdict that four of five of them do not share is inconclusive (default: 1)")  # fmt: skip
    add("--n-problems", type=_whole("--n-problems", FEWEST_PROBLEMS, MOST_PROBLEMS), default=144, metavar="N",
        help="Countdown problems, half of them to choose on and half to judge on (default: 144)")  # fmt: skip
    add("--baseline", metavar="FILE", help="report to compare with, such as reports/baselines/r1.json: the exit status "
        "is then that of the comparison (0: every finding is kept)")  # fmt: skip
    add("--frozen-from", metavar="REPORT", help="report.json of another run, whose heads and probes are applied to "
        "this subject beside those that are chosen anew: what moved is told from what vanished")  # fmt: skip
    add("--resume", type=_folder, metavar="RUN", help="go on with a run that was killed: its folder; weights, "
        "problems, seeds, settings and code must be the same")  # fmt: skip
    add("--no-cache", action="store_true", help="measure everything anew; by default what was measured on the same "
        "weights, data and code is read from .pytest_cache (at most 2 GiB; --cache-clear empties it)")  # fmt: skip
    add("--report-dir", type=_folder, default=REPORT_DIR, metavar="FOLDER", help="where runs/ is written (default: "
        "reports/)")  # fmt: skip


def read_options(config: pytest.Config) -> Options:
    """Raises pytest.UsageError: a checkpoint is not there or cannot be examined, or seeds run out."""
    option = config.option
    if option.seed + option.seeds - 1 > LAST_SEED:
        raise pytest.UsageError(f"--seed {option.seed} --seeds {option.seeds}: seeds end at {LAST_SEED}")
    with refusing():
        models = [_named(resolve(spec)) for spec in option.model or ["base"]]
        reference = _named(resolve(option.reference)) if option.reference is not None else None
        for checkpoint in [*models, *([reference] if reference else [])]:
            precheck(checkpoint)
        baseline = read_report(option.baseline) if option.baseline is not None else None
        if baseline is not None:
            by_label(baseline)
        frozen = _chosen_by(Path(option.frozen_from)) if option.frozen_from is not None else None
    by_name = {checkpoint.name: checkpoint for checkpoint in models}
    if len(by_name) < len(models):
        raise pytest.UsageError("two models have the same name; give each one with --model NAME=SPEC")
    return Options(
        models=by_name,
        reference=reference,
        device=option.device,
        dtype=option.dtype,
        seeds=tuple(range(option.seed, option.seed + option.seeds)),
        n_problems=option.n_problems,
        tiers=TIERS[option.tier],
        report_dir=option.report_dir,
        keep=not option.no_cache,
        baseline=baseline,
        frozen=frozen,
        resume=option.resume,
    )


def _chosen_by(report: Path) -> Path:
    """The file of what a run chose, which lies beside its report and is the one that it names."""
    named = read_report(report).chosen
    path = report.with_name(CHOSEN)
    if named is None or not path.is_file():
        raise ReportError(
            f"--frozen-from {visible(str(report))}: {CHOSEN} is not there; expected it beside the report of a run that "
            "measured something: give the report in the run's own folder"
        )
    if sha256(path.read_bytes()).hexdigest() != named.sha256:
        raise ReportError(f"--frozen-from {visible(str(report))}: {CHOSEN} is not the file that the report names")
    return path


@contextmanager
def refusing(given: str = "") -> Iterator[None]:
    """Errors that explain themselves end the command; whatever path or name they quote is made harmless."""
    try:
        yield
    except (MechinterpError, ReportError) as error:
        raise pytest.UsageError(plain(f"{given}{error}")) from None


def _named(checkpoint: Checkpoint) -> Checkpoint:
    """With a name that is one harmless line, and not a long one: the end tells more of a path."""
    name = plain(checkpoint.name) or "unnamed"
    return replace(checkpoint, name=name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}")


def _whole(option: str, fewest: int, most: int) -> Callable[[str], int]:
    def number(given: str) -> int:
        if not given.strip().isdecimal() or len(given) > 20 or not fewest <= int(given) <= most:
            raise pytest.UsageError(f"{option} {plain(given)[:40]}: expected a whole number from {fewest} to {most}")
        return int(given)

    return number


def _one_of(option: str, known: Mapping[str, object] | tuple[str, ...]) -> Callable[[str], str]:
    def word(given: str) -> str:
        if given not in known:
            raise pytest.UsageError(f"{option} {plain(given)[:40]}: expected one of {', '.join(known)}")
        return given

    return word


def _folder(given: str) -> Path:
    if not given.strip():
        raise pytest.UsageError("--report-dir names nothing; expected a folder")
    try:
        return Path(given).expanduser()
    except RuntimeError as error:  # ~user
        raise pytest.UsageError(f"--report-dir {plain(given)}: {plain(str(error))}") from None
