"""Findings and reports as data: strictly valid JSON, read back as written, refused in one line."""

import ast
import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mechinterp import pictures as drawn
from mechinterp.evidence import VERDICTS, Control, Evidence, Threshold
from reports import schema
from reports.finding import Finding, finding_from, finding_without
from reports.pictures import Grid, Listing, Passage
from reports.schema import Environment, Report, ReportError, SubjectFacts, read_report, to_json

laws = settings(deadline=None, derandomize=True, max_examples=150)
FACTS = {"claim": "heads.attend_target", "tier": "audited", "subject": "r1"}
MEASURED = {"effect": 0.9, "interval": (0.8, 1.0), "n": 64, "p_value": 0.005}

text = st.text(st.characters(), max_size=20)  # lone surrogates too: a tokenizer can decode to them
floats = st.floats() | st.none()
kinds = st.sampled_from(["rival", "validity"])
bounds = st.tuples(st.floats(), st.floats()) | st.none()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text | st.just(Path("a/b")) | st.just(np.float32(0.5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
pictures = (
    st.builds(
        Grid, title=text, rows=st.just(["0"]), columns=st.just(["a", "b"]),
        values=st.lists(st.lists(floats, min_size=2, max_size=2), min_size=1, max_size=1),
    )
    | st.builds(Passage, title=text, tokens=st.just(["a", " b"]), weights=st.lists(floats, min_size=2, max_size=2))
    | st.builds(Listing, title=text, columns=st.just(["a"]), rows=st.lists(st.lists(values, min_size=1, max_size=1)))
)  # fmt: skip
findings = st.builds(
    Finding,
    claim=text,
    tier=st.sampled_from(["as_published", "audited"]),
    case=text,
    subject=text,
    verdict=st.sampled_from([word for word in VERDICTS if word != "holds"]),
    effect=floats,
    interval=bounds,
    n=st.integers() | st.none(),
    p_value=floats,
    reasons=st.lists(text, max_size=2),
    controls=st.lists(st.fixed_dictionaries({"name": text, "kind": kinds, "margin": floats, "interval": bounds})),
    setting=text,
    quirks=st.lists(text, max_size=2),
    threshold_reason=text,
    null_of=text,
    family=st.integers(1, 20),
    distinct=st.integers(0) | st.none(),
    selected=st.lists(text, max_size=2),
    seeds=st.lists(
        st.fixed_dictionaries({"seed": st.integers(), "verdict": st.just("error"), "reasons": st.lists(text)})
    ),
    spread=floats,
    jaccard=floats,
    null=st.lists(st.floats(), max_size=3),
    series=st.dictionaries(text, st.lists(st.floats(), max_size=3), max_size=2),
    by_problem=st.dictionaries(text, st.floats(), max_size=3),
    bands=st.dictionaries(text, st.lists(bounds, max_size=3), max_size=2),
    pictures=st.lists(pictures, max_size=2),
    details=st.dictionaries(text, values, max_size=3),
    seconds=floats,
)


def strictly(line):
    """JSON without NaN or Infinity."""

    def refuse(token):
        raise AssertionError(f"{token} in JSON")

    return json.loads(line, parse_constant=refuse)


def report(**facts):
    where = Environment(python="3.11", platform="test")
    return Report(created=datetime.now(UTC), command="pytest", subject={"name": "r1"}, environment=where, **facts)


@laws
@given(findings)
def test_round_trip(finding):
    """A finding is one line of strict ASCII JSON, and reads back equal."""
    line = to_json(finding)
    assert line.isascii()
    assert "\n" not in line
    assert Finding.model_validate(strictly(line)) == finding


@laws
@given(st.lists(findings, max_size=3))
def test_report_round_trip(made):
    """A report is strict JSON and reads back equal."""
    written = report(findings=made)
    assert Report.model_validate(strictly(to_json(written, indent=2))) == written


@pytest.mark.parametrize("missing", MEASURED)
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_holds_is_measured(missing, value):
    """Nothing holds in the audited tier without a finite effect, interval, n and p-value."""
    broken = (value, 1.0) if missing == "interval" and value is not None else value
    with pytest.raises(ValidationError, match=missing):
        Finding(**FACTS, **(MEASURED | {missing: broken}), verdict="holds")


def test_published_protocols_have_no_null():
    """The source's own protocol may hold without a p-value, but not without an effect."""
    published = FACTS | {"tier": "as_published"}
    assert Finding(**published, **(MEASURED | {"p_value": None}), verdict="holds").p_value is None
    with pytest.raises(ValidationError, match="effect"):
        Finding(**published, **(MEASURED | {"effect": None, "p_value": None}), verdict="holds")


@pytest.mark.parametrize("broken", [{"interval": (1.0, 0.8)}, {"n": 0}, {"p_value": 1.2}], ids=str)
def test_holds_is_consistent(broken):
    """Nothing holds with a reversed interval, no problems or a p-value out of range."""
    with pytest.raises(ValidationError, match="holds needs"):
        Finding(**FACTS, **(MEASURED | broken), verdict="holds")


def test_unknown_field():
    """A field that the schema does not know is refused."""
    with pytest.raises(ValidationError, match="statment"):
        Finding(**FACTS, verdict="error", statment="a slip of the pen")


def test_finding_from():
    """A measurement becomes a finding with its verdict, its null in short, and all that was demanded."""
    controls = Control("attempt index", 0.2, (0.1, 0.3)), Control("other text", 0.4, (0.3, 0.5), "validity")
    evidence = Evidence(
        0.9, (0.8, 1.0), 64, 0.005, null=(0.0, 0.1, 0.2), distinct=30, controls=controls, selected=("L3H1",),
        details={"layer": 3},
    )  # fmt: skip
    finding = finding_from(
        evidence, Threshold(0.5, "half of it"), family=3, **FACTS, measure="AUC", quirks=["one class"]
    )
    assert (finding.verdict, finding.as_expected, finding.reasons) == ("holds", True, [])
    assert finding.threshold == "effect >= 0.5, p <= 0.05, n >= 16"
    assert (finding.threshold_reason, finding.at_least, finding.alpha) == ("half of it", 0.5, 0.05)
    assert (finding.family, finding.p_value, finding.draws, finding.distinct) == (3, 0.005, 3, 30)
    assert (finding.selected, finding.quirks) == (["L3H1"], ["one class"])
    assert finding.null_summary.max == 0.2
    assert finding.null_summary.mean == pytest.approx(0.1)
    assert finding.null_summary.p95 == pytest.approx(0.19)
    assert [(each.kind, each.interval) for each in finding.controls] == [
        ("rival", (0.1, 0.3)), ("validity", (0.3, 0.5)),
    ]  # fmt: skip
    assert finding.details == {"layer": 3}


def test_pictures():
    """What a claim recorded to look at is in its finding: a grid with what its cells tell, a text, a table."""
    lens = drawn.Grid("lens", ["1"], [" ("], [[0.5]], texts=[[" this"]], more=[[[(" this", 0.5), (" not", math.nan)]]])
    text, table = drawn.Passage("L0H1", ["5", "1"], [0.0, 1.0], seen_from=1), drawn.Listing("top", ["token"], [["ok"]])
    evidence = Evidence(0.9, (0.8, 1.0), 64, 0.005, pictures=(lens, text, table), bands={"curve": [(0.0, math.inf)]})
    finding = finding_from(evidence, Threshold(0.5), **FACTS)
    assert [picture.kind for picture in finding.pictures] == ["grid", "passage", "listing"]
    assert [(one.token, one.value) for one in finding.pictures[0].more[0][0]] == [(" this", 0.5), (" not", None)]
    assert finding.bands == {"curve": [None]}
    assert Finding.model_validate(strictly(to_json(finding))) == finding


@pytest.mark.parametrize(
    "ragged",
    [
        drawn.Grid("", ["a"], ["b"], [[1.0, 2.0]]),
        drawn.Grid("", ["a"], ["b"], [[1.0]], texts=[["x"], ["y"]]),
        drawn.Passage("", ["a"], []),
        drawn.Listing("", ["a"], [["x", "y"]]),
        drawn.Grid("", ["a"] * 200, ["b"] * 200, [[1.0] * 200] * 200),
    ],
    ids=lambda picture: type(picture).__name__,
)
def test_ragged_pictures(ragged):
    """A picture whose parts do not fit together, or that no page holds, is refused when it is recorded."""
    with pytest.raises(ValidationError, match=r"are not|weights for|has not|more than"):
        finding_from(Evidence(0.9, (0.8, 1.0), 64, 0.005, pictures=(ragged,)), Threshold(0.5), **FACTS)


def test_family():
    """p is kept as it is; the cases of the claim share alpha, and the verdict knows."""
    evidence = Evidence(0.9, (0.8, 1.0), 64, 0.02, null=(0.0,) * 49)
    alone, shared = (finding_from(evidence, Threshold(0.5), family=size, **FACTS) for size in (1, 3))
    assert (alone.verdict, alone.p_value, alone.family) == ("holds", 0.02, 1)
    assert (shared.verdict, shared.p_value, shared.family) == ("inconclusive", 0.02, 3)
    assert shared.reasons == ["p = 0.02 is above 0.017 = 0.05 / 3 cases"]


def test_audited_without_a_null():
    """A protocol without a null may hold as published; in the audited tier it is an error."""
    evidence, bare = Evidence(0.9, (0.8, 1.0), 64), Threshold(0.5, alpha=None)
    assert finding_from(evidence, bare, **(FACTS | {"tier": "as_published"})).verdict == "holds"
    audited = finding_from(evidence, bare, **FACTS)
    assert (audited.verdict, audited.reasons) == ("error", ["an audited claim was judged without a null"])


def test_long_null():
    """More than a thousand draws are kept in short only."""
    finding = finding_from(Evidence(0.9, (0.8, 1.0), 64, 0.005, null=(0.1,) * 1001), Threshold(0.5), **FACTS)
    assert (finding.draws, finding.null) == (1001, [])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_effect_not_finite(bad):
    """An effect that is not finite is an error, and null in the report."""
    finding = finding_from(Evidence(bad, (0.8, 1.0), 64, 0.005), Threshold(0.5), **FACTS)
    assert (finding.verdict, finding.effect) == ("error", None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["at_least", "alpha", "min_n", "n"])
def test_demand_not_finite(place, bad):
    """A threshold or an n that is not finite is an error: no comparison with NaN may pass."""
    n = bad if place == "n" else 64
    threshold = Threshold(**({"at_least": 0.5} | ({} if place == "n" else {place: bad})))
    assert finding_from(Evidence(0.9, (0.8, 1.0), n, 0.005), threshold, **FACTS).verdict == "error"


def test_finding_without():
    """What could not be measured has a verdict, a reason and no effect."""
    finding = finding_without("not_applicable", "AUC is 0.52", Threshold(0.5), **FACTS)
    assert (finding.verdict, finding.reasons, finding.effect) == ("not_applicable", ["AUC is 0.52"], None)
    assert (finding.at_least, finding.alpha) == (0.5, 0.05)


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        ({}, "heads.attend_target"),
        ({"case": "last_digit"}, "heads.attend_target[last_digit]"),
        ({"tier": "as_published"}, "heads.attend_target@as_published"),
        ({"case": "last_digit", "tier": "as_published"}, "heads.attend_target[last_digit]@as_published"),
    ],
)
def test_label(facts, label):
    """The label tells cases and tiers of a claim apart."""
    assert Finding(**(FACTS | facts), verdict="error").label == label


def test_details_of_any_kind():
    """Arrays become lists, what JSON has no word for becomes text, and nesting ends somewhere."""
    loop: list = []
    loop.append(loop)
    details = {"array": np.arange(3), 1: {2, 1}, "type": int, "loop": loop, "nan": np.array([np.nan])}
    kept = Finding(**FACTS, verdict="error", details=details).details
    assert kept["array"] == [0, 1, 2]
    assert kept["1"] == [1, 2]
    assert kept["type"] == "<class 'int'>"
    assert kept["nan"] == [None]


def test_read_report(tmp_path):
    """A report reads back equal, its time in UTC."""
    written = report(
        seeds=[3, 4],
        tiers=["audited"],
        reference=SubjectFacts(name="base", files=[{"name": "a", "size": 3}], other={"step": 300}),
    )
    (tmp_path / "report.json").write_text(to_json(written))
    assert read_report(tmp_path / "report.json") == written
    assert read_report(tmp_path / "report.json").created.tzinfo == UTC


def test_format_before_this_one(tmp_path):
    """A report of format 2.0, which lacks only what may be left out, is read."""
    path, written = tmp_path / "report.json", report(findings=[Finding(**FACTS, verdict="error")])
    data = json.loads(to_json(written)) | {"schema_version": "2.0"}
    del data["accepted"], data["findings"][0]["by_problem"], data["findings"][0]["pictures"]
    path.write_text(json.dumps(data))
    assert read_report(path) == written


def test_older_report(tmp_path):
    """A report of the first format is refused by its number: its p-values and verdicts mean something else."""
    path = tmp_path / "report.json"
    path.write_text(json.dumps(json.loads(to_json(report())) | {"schema_version": "1.0"}))
    with pytest.raises(ReportError, match=r"schema_version is '1\.0', whose p-values .* run the claims again"):
        read_report(path)


def test_ladder(tmp_path):
    """The ladder has one of four rungs, a sentence and its figures."""
    ladder = {"rung": "repetition", "sentence": "It tells numbers seen before.", "figures": {"AUC": np.float32(0.5)}}
    (tmp_path / "report.json").write_text(to_json(report(ladder=ladder)))
    assert read_report(tmp_path / "report.json").ladder.figures == {"AUC": 0.5}
    with pytest.raises(ValidationError, match="rung"):
        report(ladder=ladder | {"rung": "top"})


BROKEN = {
    "empty": b"",
    "binary": b"\xff\xfe\x00",
    "torn": b'{"schema_version": "2.1", "find',
    "NaN": b'{"schema_version": "2.1", "seeds": NaN}',
    "list": b"[]",
    "no version": b"{}",
    "other version": b'{"schema_version": "9.0"}',
    "version is a list": b'{"schema_version": ["2.1"]}',
    "wrong shape": b'{"schema_version": "2.1", "findings": 3}',
    "unknown field \x1b[31m\nline": b'{"schema_version": "2.1", "\\u001b[31m\\nx": 3}',
    "nested": b"[" * 100_000,
    "nested details": b'{"schema_version": "2.1", "settings": {"other": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}}",
    "long number": b'{"schema_version": "2.1", "seeds": [' + b"1" * 5000 + b"]}",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=[name.split()[0] + str(i) for i, name in enumerate(BROKEN)])
def test_not_a_report(tmp_path, content):
    """What is no report is refused in one line that names the file and says what to do."""
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(ReportError) as refusal:
        read_report(path)
    line = str(refusal.value)
    assert "report.json" in line
    assert "expected a report.json with schema_version 2.1" in line
    assert line.isprintable()
    assert len(line) < 800


@pytest.mark.parametrize("name", ["missing.json", ".", "missing/report.json", "nul\0l", "x" * 5000])
def test_no_file(tmp_path, name):
    """A missing file, a folder and an impossible name are refused in one line."""
    with pytest.raises(ReportError) as refusal:
        read_report(f"{tmp_path}/{name}")
    assert str(refusal.value).isprintable()


def test_huge(tmp_path, monkeypatch):
    """A file larger than any report is refused before it is read."""
    monkeypatch.setattr(schema, "MAX_BYTES", 10)
    (tmp_path / "report.json").write_text(to_json(report()))
    with pytest.raises(ReportError, match="larger than"):
        read_report(tmp_path / "report.json")


def test_json_schema_is_current():
    """The committed schema is the one of the code: `python -m reports.schema` writes it."""
    committed = Path(schema.__file__).with_suffix(".json").read_text(encoding="utf-8")
    assert committed == schema.json_schema()


def test_every_field_is_documented():
    """Every field of every model has a description in the schema."""
    models = json.loads(schema.json_schema())
    for name, model in [("Report", models), *models["$defs"].items()]:
        for field, facts in model.get("properties", {}).items():
            assert "description" in facts, f"{name}.{field}"


def test_light():
    """Reports need neither torch nor pytest, and pictures are paid for only when drawn."""
    code = (
        "import importlib, pkgutil, sys, reports\n"
        "for module in pkgutil.iter_modules(reports.__path__): importlib.import_module(f'reports.{module.name}')\n"
        "print(*sorted({'torch', 'transformers', 'pytest', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(schema.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_circle():
    """The modules of reports can be read one after the other: none needs, even for its types, one that needs it."""
    folder = Path(schema.__file__).parent
    needs = {
        path.stem: {
            name.partition(".")[2]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            if name.startswith("reports.")
        }
        for path in folder.glob("*.py")
    }
    assert needs["terminal"]
    TopologicalSorter(needs).prepare()  # raises CycleError
