"""What a run leaves behind, as data. `python -m reports.schema` writes reports/schema.json.

read_report    the report in an untrusted file
to_json        strictly valid JSON, without NaN
json_schema    the JSON schema of a report
first_problem  where data violate a model, in part of a line
ReportError    a report that cannot be read or written
Report         one run: what was examined, how, where, and every finding
SubjectFacts   which checkpoint that was, exactly enough to fetch it again
FileFacts      one file of it
Settings       how it was examined
Acceptance     why a finding stands in a baseline
Origin         which run it came from
Environment    on which machine and with which versions
Finding        see reports.finding
Ladder         see reports.ladder
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError

from reports.fields import Details, Strict, Text
from reports.finding import Finding, Tier
from reports.ladder import Ladder
from reports.text import plain

__all__ = [
    "SCHEMA_VERSION",
    "Acceptance",
    "Environment",
    "FileFacts",
    "Finding",
    "Ladder",
    "Origin",
    "Report",
    "ReportError",
    "Settings",
    "SubjectFacts",
    "first_problem",
    "json_schema",
    "read_report",
    "to_json",
]

SCHEMA_VERSION: Literal["2.1"] = "2.1"
READ = {"2.0", SCHEMA_VERSION}
"""Formats that are read. 2.1 adds to 2.0 what may be left out: parts by problem, bands, pictures, acceptances."""
OLDER = {
    "1.0": ", whose p-values and verdicts are of other rules (corrected over the whole suite, one kind of control)"
}
MAX_BYTES = 64 * 2**20


class ReportError(ValueError):
    """A report that cannot be read or written, in one line: what was given, what was expected, what to do."""


def read_report(path: Path | str) -> Report:
    """The report in a file. The file is not trusted: any problem with it ends in a ReportError of one line."""
    shown = plain(str(path))

    def refuse(problem: str) -> NoReturn:
        raise ReportError(
            f"cannot read the report {shown!r}: {plain(problem)}; expected a report.json with schema_version "
            f"{SCHEMA_VERSION}: give the one of a finished run, or run the claims again to write one"
        )

    try:
        file = Path(path)
        if not file.is_file():
            refuse("it is not a file" if file.exists() else "there is no such file")
        if file.stat().st_size > MAX_BYTES:
            refuse(f"it is larger than {MAX_BYTES // 2**20} MiB")
        data = json.loads(file.read_bytes().decode("utf-8"), parse_constant=_no_constants)
    except ReportError:
        raise
    except OSError as error:
        refuse(error.strerror or type(error).__name__)
    except (ValueError, RecursionError) as error:
        refuse(f"it is not JSON ({error})")
    if not isinstance(data, dict):
        refuse(f"it holds a {type(data).__name__}, not an object")
    found = data.get("schema_version")
    if not isinstance(found, str) or found not in READ:
        refuse(f"its schema_version is {str(found)[:40]!r}{OLDER.get(found, '') if isinstance(found, str) else ''}")
    try:
        return Report.model_validate(data | {"schema_version": SCHEMA_VERSION})
    except ValidationError as error:
        refuse(first_problem(error))
    except RecursionError:
        refuse("it is nested too deeply")


def to_json(model: BaseModel, indent: int | None = None) -> str:
    """The model as strictly valid JSON in ASCII, so that no token in it can act on a terminal or an editor."""
    return json.dumps(model.model_dump(mode="json"), allow_nan=False, indent=indent)


def json_schema() -> str:
    """The JSON schema of a report, as committed in reports/schema.json."""
    return json.dumps(Report.model_json_schema(mode="serialization"), indent=2, sort_keys=True) + "\n"


def first_problem(error: ValidationError) -> str:
    """Where a model was first violated, and how many times in all, as part of a line."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(step)[:40] for step in first["loc"]) or "it"
    more = f" (and {error.error_count() - 1} more problems)" if error.error_count() > 1 else ""
    return f"{where}: {first['msg'][:200]}{more}"


def _no_constants(token: str) -> NoReturn:
    raise ValueError(f"{token} is not a JSON value")


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


class FileFacts(Strict):
    """One file of a checkpoint."""

    name: Text
    """Its name."""
    size: int | None = None
    """Bytes."""
    sha256: Text | None = None
    """SHA-256 of its content."""


class SubjectFacts(Strict):
    """Which checkpoint it was. Unknown facts are null."""

    name: Text
    """How the report calls it."""
    source: Text | None = None
    """What was given: an alias, a hub id, a folder or a .gguf file."""
    kind: Text | None = None
    """hub, folder or gguf."""
    hub: Text | None = None
    """owner/name on the hub."""
    revision: Text | None = None
    """Commit of the hub repository."""
    sha256: Text | None = None
    """SHA-256 of the weights."""
    files: list[FileFacts] = Field(default_factory=list)
    """The files that it was loaded from."""
    family: Text | None = None
    """Architecture, such as qwen2."""
    n_layers: int | None = None
    """Number of layers."""
    n_heads: int | None = None
    """Query heads a layer."""
    n_kv_heads: int | None = None
    """Key-value heads a layer."""
    d_model: int | None = None
    """Width of the residual stream."""
    d_mlp: int | None = None
    """Neurons (value vectors) a layer."""
    n_parameters: int | None = None
    """Number of parameters."""
    dtype: Text | None = None
    """Number format that it ran in."""
    device: Text | None = None
    """Device that it ran on."""
    attention: Text | None = None
    """Attention kernel, such as sdpa or eager."""
    dataset_hash: Text | None = None
    """SHA-256 of the problems and transcripts that it was examined on."""
    other: Details = Field(default_factory=dict)
    """Further facts."""


class Settings(Strict):
    """How the subject was examined, as asked for."""

    n_problems: int | None = None
    """Problems in the task."""
    batch_size: int | None = None
    """Rows a forward pass."""
    draws: int | None = None
    """Draws of each matched control."""
    device: Text | None = None
    """Device asked for."""
    dtype: Text | None = None
    """Number format asked for."""
    attention: Text | None = None
    """Attention kernel asked for."""
    other: Details = Field(default_factory=dict)
    """Further settings."""


class Environment(Strict):
    """Where it ran. Unknown facts are null."""

    python: Text
    """Version of Python."""
    platform: Text
    """Operating system and architecture."""
    cpu_count: int | None = None
    """Cores that the machine has."""
    versions: dict[Text, Text | None] = Field(default_factory=dict)
    """Version by package; null if it is not installed."""
    suite_revision: Text | None = None
    """Git commit of the suite; null outside a clone."""
    suite_dirty: bool | None = None
    """Whether files differed from that commit."""


class Origin(Strict):
    """Which run a finding of a baseline came from."""

    created: Annotated[AwareDatetime, AfterValidator(_utc)]
    """When that run began, UTC."""
    sha256: Text | None = None
    """SHA-256 of the weights that it examined."""
    dataset_hash: Text | None = None
    """SHA-256 of the problems and transcripts that it examined them on."""
    seeds: list[int] = Field(default_factory=list)
    """Its seeds."""
    suite_revision: Text | None = None
    """Git commit of its suite."""


class Acceptance(Strict):
    """Why a finding stands in a baseline."""

    reason: Text = ""
    """Why this verdict and this effect are right for this subject."""
    at: Annotated[AwareDatetime, AfterValidator(_utc)]
    """When it was accepted, UTC."""
    origin: Origin
    """The run that it came from."""
    first: Finding | None = None
    """The finding that was accepted first, in short, for slow drift; null where it is this one."""
    first_origin: Origin | None = None
    """The run that the first one came from."""


class Report(Strict):
    """One run of the suite on one subject."""

    schema_version: Literal["2.1"] = SCHEMA_VERSION
    """Version of this format."""
    created: Annotated[AwareDatetime, AfterValidator(_utc)]
    """When the run began, UTC."""
    command: Text
    """The command that was run."""
    seeds: list[int] = Field(default_factory=list)
    """Seeds of problems, halves and draws, each a run of its own."""
    tiers: list[Tier] = Field(default_factory=list)
    """The tiers that were run."""
    settings: Settings = Settings()
    """How the subject was examined."""
    subject: SubjectFacts
    """The checkpoint under test."""
    reference: SubjectFacts | None = None
    """The checkpoint it was compared with."""
    environment: Environment
    """Where it ran."""
    ladder: Ladder | None = None
    """How far the subject verifies at all; null where that could not be measured."""
    chosen: FileFacts | None = None
    """What was chosen on the first seed (heads, probes, value vectors), in a file beside this one."""
    findings: list[Finding] = Field(default_factory=list)
    """In the order they were made."""
    accepted: dict[Text, Acceptance] = Field(default_factory=dict)
    """Baselines only: by label, why a finding stands in it; empty for the report of a run."""


if __name__ == "__main__":
    Path(__file__).with_suffix(".json").write_text(json_schema(), encoding="utf-8")
