"""The table in a terminal: nothing that matters is cut, nothing untrusted acts."""

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mechinterp.evidence import VERDICTS
from reports.finding import Finding
from reports.outcome import outcome
from reports.terminal import render

LONG = "200 random head sets of the same layers and output norm"
MEASURED = {"effect": 0.98765, "interval": (0.98761, 0.98769), "n": 1200, "p_value": 0.005}


def finding(claim="weights.near_identical", verdict="holds", **facts):
    facts = {"tier": "audited", "subject": "r1", "threshold": "effect >= 0.9, p <= 0.05, n >= 16"} | MEASURED | facts
    return Finding(claim=claim, verdict=verdict, **facts)


def printed(findings, width, colour=False):
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colour, color_system="truecolor" if colour else None
    )
    render(findings, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("expected", ["holds", "not_applicable"])
@pytest.mark.parametrize("verdict", VERDICTS)
def test_nothing_is_cut(verdict, expected, width):
    """Effect, interval, n, verdict and an expected verdict are whole at every width, in every verdict."""
    page = printed([finding(verdict=verdict, null_of=LONG, expected=expected, case="last_digit")] * 2, width)
    marks = [] if verdict == expected else ["(!)", f"expected {expected}"]
    for word in ["weights.near_identical", "0.98765", "[0.98761, 0.98769]", "1200", verdict, "last_digit", *marks]:
        assert page.count(word) >= 2, word
    for word in [*LONG.split(), "0.05,", "16"]:
        assert word in page
    assert max(map(len, page.splitlines()[:-1])) <= width
    assert "…" not in page


@pytest.mark.parametrize("width", [80, 120])
def test_reasons(width):
    """Why a verdict is not as expected is said below the table, and the outcome ends the page."""
    page = printed([finding(), finding("a.b", "refuted", reasons=["too small"])], width)
    assert "a.b refuted (!): too small" in page
    assert page.splitlines()[-1].strip() == "1 of 2 verdicts is not as expected: a.b refuted (expected holds)"


def test_outcome_is_one_line():
    """However many verdicts are not as expected, the outcome is one line: programs read it."""
    findings = [finding(f"heads.number_{i}", "refuted") for i in range(8)]
    assert printed(findings, 80).splitlines()[-1] == outcome(findings)[1]


def test_tiers():
    """The two tiers of a claim stand one below the other, told apart by words."""
    page = printed([finding(), finding(tier="as_published")], 120)
    firsts = [line.split()[0] for line in page.splitlines() if line.startswith(("weights", "as published"))]
    assert firsts == ["weights.near_identical", "as", "weights.near_identical"]


def test_colour():
    """Colour is added in a terminal only."""
    assert "\x1b[" in printed([finding()], 80, colour=True)
    assert "\x1b[" not in printed([finding()], 80)


def test_nothing_run():
    """Without findings there is no table, but the outcome."""
    assert printed([], 80) == "no claim was run\n"


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    st.lists(
        st.builds(
            finding,
            claim=st.text(),
            case=st.text() | st.just("[red]x[/red]") | st.just("\x1b[31mx\n"),
            threshold=st.text(),
            null_of=st.text() | st.just("[/]") | st.just("\u202e"),
            reasons=st.lists(st.text()),
            verdict=st.sampled_from(VERDICTS),
        ),
        max_size=3,
    ),
    st.sampled_from([40, 80, 120]),
)
def test_untrusted(findings, width):
    """No text is taken for markup, a control sequence or a change of direction."""
    page = printed(findings, width)
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028]", page) is None


def test_markup_is_shown():
    """rich's markup in untrusted text is shown as it is."""
    assert "[red]x[/red]" in printed([finding(case="[red]x[/red]")], 120)
