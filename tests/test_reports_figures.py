"""Pictures: what can be drawn is drawn, what cannot is said, and the report is never lost."""

import math
import re
import sys
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.figures import COLOURS, MAX_CURVES, Picture, draw
from reports.finding import Finding


def finding(claim="probe.decodable", **facts):
    return Finding(claim=claim, **({"tier": "audited", "subject": "r1", "verdict": "error"} | facts))


def words(path):
    """The words in a picture."""
    root = ET.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 - our own file
    return " ".join(node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text"))


def test_curves(tmp_path):
    """Curves share one picture, named by claim and case, with a legend and labels as text."""
    made = finding(case="last_digit", series={"at ` (`": [0.5, 0.9], "完美 $x$ <b>": [0.5, None]}, series_unit="AUC")
    (picture,) = draw([made], tmp_path / "figures")
    assert picture == Picture("figures/probe.decodable-last_digit.svg")
    shown = words(tmp_path / picture.path)
    for word in ["at ` (`", "完美 $x$ <b>", "layer", "AUC"]:
        assert word in shown


@pytest.mark.parametrize(("unit", "drawn"), [("AUC", True), ("", False), ("cosine", False)])
def test_threshold(tmp_path, unit, drawn):
    """The threshold is drawn across curves that show the measure itself, and across no others."""
    made = finding(series={"a": [0.1, 0.9]}, series_unit=unit, measure="AUC", at_least=0.7)
    (picture,) = draw([made], tmp_path / "figures")
    assert ("threshold 0.7" in words(tmp_path / picture.path)) == drawn


def test_null(tmp_path):
    """The effect is drawn beside its null."""
    made = finding(null=[0.1 * i for i in range(20)], effect=2.5, at_least=1.0, null_of="random heads")
    (picture,) = draw([made], tmp_path / "figures")
    for word in ["random heads, 20 draws", "effect 2.5", "threshold 1"]:
        assert word in words(tmp_path / picture.path)


@pytest.mark.parametrize(("distinct", "says"), [(6, "one KV group, 6 draws of the 6 that exist"), (None, "6 draws")])
def test_few_draws(tmp_path, distinct, says):
    """A null says how many draws were made, and of how many where few exist."""
    made = finding(null=[0.1] * 6, draws=6, distinct=distinct, effect=0.3, null_of="one KV group")
    (picture,) = draw([made], tmp_path / "figures")
    assert says in words(tmp_path / picture.path)
    assert ("exist" in words(tmp_path / picture.path)) == (distinct is not None)


def test_positions(tmp_path):
    """A curve named like the axis holds the positions and is not drawn."""
    made = finding(series={"coefficient": [-8, 0, 8], "flips": [0.1, 0.2, 0.6]}, series_axis="coefficient")
    (picture,) = draw([made], tmp_path / "figures")
    assert words(tmp_path / picture.path).count("coefficient") == 1
    assert "−8" in words(tmp_path / picture.path)


def test_many_curves(tmp_path):
    """Of many curves the first are drawn, and the picture says so."""
    (picture,) = draw([finding(series={f"head {i}": [0.0, 1.0 + i] for i in range(40)})], tmp_path / "figures")
    assert f"{MAX_CURVES} of 40 curves" in words(tmp_path / picture.path)


ODD = {
    "no values": {"a": []},
    "no finite value": {"a": [math.nan, math.inf]},
    "other length": {"layer": [0, 1, 2], "a": [1.0]},
    "positions only": {"layer": [0, 1, 2]},
    "positions not finite": {"layer": [0, math.nan], "a": [1.0, 2.0]},
}


@pytest.mark.parametrize("series", ODD.values(), ids=ODD)
def test_odd_curves(tmp_path, series):
    """Curves that cannot be drawn are said to be so, and the next finding still gets its picture."""
    odd, good = draw([finding(series=series), finding("a.b", series={"x": [0.1, 0.2]})], tmp_path / "figures")
    assert odd.path is None
    assert odd.problem
    assert good.path == "figures/a.b.svg"
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["a.b.svg"]


def test_nothing_to_draw(tmp_path):
    """A finding without curves or null has no picture, and no folder is made for it."""
    assert draw([finding(null=[0.1, 0.2])], tmp_path / "figures") == [Picture()]
    assert not (tmp_path / "figures").exists()


def test_names(tmp_path):
    """No two findings share a file, and no name leaves the folder."""
    curves = {"series": {"x": [0.1, 0.2]}}
    claims = ["a.b", "A.B", "a.b", "../../a", "..", "完美"]
    made = [*(finding(claim, **curves) for claim in claims), finding("a.b", tier="as_published", **curves)]
    paths = [picture.path for picture in draw(made, tmp_path / "figures")]
    names = ["a.b", "A.B-2", "a.b-3", "a", "unnamed", "unnamed-2", "a.b-as_published"]
    assert paths == [f"figures/{name}.svg" for name in names]
    assert len(list(tmp_path.rglob("*.svg"))) == len(claims) + 1


def test_repeatable(tmp_path):
    """The same finding gives the same file."""
    made = finding(series={"a": [0.1, 0.9]}, null=[0.1] * 6)
    files = [tmp_path / folder / draw([made], tmp_path / folder / "figures")[0].path for folder in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_same_curves(tmp_path):
    """Curves that are the same are drawn once, by both names: one would hide the other."""
    series = {"truth": [0.5, 0.9], "own labels": [0.5, 0.9], "foils": [0.5, 0.6]}
    (picture,) = draw([finding(series=series)], tmp_path / "figures")
    assert "truth = own labels" in words(tmp_path / picture.path)


def test_told_apart_without_colours(tmp_path):
    """Curves differ in their markers and dashes too, not in colours alone."""
    made = finding(series={f"head {i}": [0.0, 1.0 + i] for i in range(MAX_CURVES)})
    (picture,) = draw([made], tmp_path / "figures")
    text = (tmp_path / picture.path).read_text(encoding="utf-8")
    drawn = re.findall(r'stroke-dasharray: ([^;]*);[^"]*stroke: (#[0-9a-f]{6})', text)
    assert len({dashes.split(",")[0] for dashes, _ in drawn}) >= 3
    assert {colour for _, colour in drawn} == set(COLOURS[3:])


@pytest.mark.parametrize("field", ["null_of", "series_axis", "series_unit", "measure", "case"])
def test_huge_names(tmp_path, field):
    """Names of a megabyte make neither a huge picture nor a huge file name."""
    huge = "\x1b[31m|" * 150_000
    made = finding(**{field: huge}, series={huge: [0.1, 0.9], "b": [0.2, 0.3]}, null=[0.1] * 6, effect=0.5)
    (picture,) = draw([made], tmp_path / "figures")
    assert (tmp_path / picture.path).stat().st_size < 100_000
    assert len(picture.path) < 130


def test_no_matplotlib(tmp_path, monkeypatch):
    """Without matplotlib there is a reason instead of a picture."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (picture,) = draw([finding(series={"a": [0.1, 0.9]})], tmp_path / "figures")
    assert picture.path is None
    assert "matplotlib" in picture.problem


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    st.dictionaries(st.text(max_size=50), st.lists(st.floats(), max_size=4), min_size=1, max_size=3),
    st.text(max_size=5),
    st.lists(st.floats(), max_size=8),
    st.text(),
    st.text(),
)
def test_anything(tmp_path_factory, series, axis, null, claim, name):
    """Whatever the curves, there is a readable picture or a reason."""
    folder = tmp_path_factory.mktemp("run")
    made = finding(claim, series=series, series_axis=axis, null=null, series_unit="$", null_of=name, measure=name)
    (picture,) = draw([made], folder / "figures")
    assert (picture.path is None) != (picture.problem is None)
    if picture.path:
        words(folder / picture.path)
