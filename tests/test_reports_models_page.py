"""Several reports on one page."""

import pytest
from test_reports_page import HOSTILE, Tags
from written_reports import finding, report, saved

from reports.command_line import main
from reports.models_page import ordered, render


def named(name, *findings):
    made = report(*findings)
    return made.model_copy(update={"subject": made.subject.model_copy(update={"name": name})})


def test_matrix():
    """Each case is a row, each model a column; what a report does not have is said."""
    text = Tags(render([named("base", finding()), named("r1", finding(verdict="refuted"), finding("a.b"))])).text
    assert text.index("base aaa") < text.index("r1 aaa") < text.index("✓ holds")
    assert "not there" in text
    assert "refuted" in text


def test_steps():
    """Checkpoints are in the order of their steps, other models in the order given."""
    names = ["step_1000", "step_20", "step_300"]
    assert [each.subject.name for each in ordered([*map(named, names)])] == ["step_20", "step_300", "step_1000"]
    assert [each.subject.name for each in ordered([named("r1"), named("base")])] == ["r1", "base"]
    assert [each.subject.name for each in ordered([named("b-2"), named("a-1")])] == ["b-2", "a-1"]


def test_course():
    """From three checkpoints on the course of an effect is drawn; two have none, and other models have none."""
    made = [named(f"step_{step}", finding(effect=0.1 * step)) for step in range(1, 4)]
    assert "<polyline" in render(made)
    assert "<polyline" not in render(made[:2])
    assert "<polyline" not in render([*made[:2], named("another", finding())])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile(text):
    """Names of any kind are shown and do nothing."""
    pages = [Tags(render([named(name, finding(case=name, statement=name))] * 2)) for name in (text, "harmless")]
    assert pages[0].kinds == pages[1].kinds


def test_command(tmp_path, capsys):
    """`render` of several reports writes the one page."""
    paths = [saved(named(name, finding()), tmp_path / f"{name}.json") for name in ("base", "r1")]
    assert main(["render", *map(str, paths), "--into", str(tmp_path)]) == 0
    assert "2 models side by side" in (tmp_path / "models.html").read_text()
    assert "models.html" in capsys.readouterr().out
