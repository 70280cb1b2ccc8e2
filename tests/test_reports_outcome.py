"""What the findings of a run come to: exit status, order, tiers."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp.evidence import VERDICTS
from reports.collector import outcome
from reports.finding import Finding
from reports.outcome import by_claim

laws = settings(deadline=None, derandomize=True)
MEASURED = {"effect": 0.9, "interval": (0.8, 1.0), "n": 64, "p_value": 0.005}


def finding(claim="probe.decodable", verdict="holds", **facts):
    return Finding(claim=claim, verdict=verdict, **({"tier": "audited", "subject": "r1"} | MEASURED | facts))


some = st.builds(
    finding,
    claim=st.sampled_from(["a.b", "c.d", "e.f"]) | st.text(),
    verdict=st.sampled_from(VERDICTS),
    expected=st.sampled_from(VERDICTS),
    case=st.sampled_from(["", "x", "y"]),
    tier=st.sampled_from(["as_published", "audited"]),
)


def test_nothing_run():
    """No findings at all are no success."""
    assert outcome([]) == (1, "no claim was run")


@laws
@given(st.lists(some, min_size=1))
def test_exit_status(findings):
    """The exit status is 0 exactly if every verdict is as expected, and the outcome is one line."""
    status, line = outcome(findings)
    assert (status == 0) == all(each.verdict == each.expected for each in findings)
    assert line.isprintable()


@pytest.mark.parametrize(("verdict", "expected"), [*itertools.product(VERDICTS, VERDICTS)])
def test_one_verdict(verdict, expected):
    """A verdict is a success only where that verdict was expected: a crash or a skip never is by itself."""
    assert outcome([finding(verdict=verdict, expected=expected)])[0] == (verdict != expected)


def test_line():
    """The line names every claim whose verdict is not as expected, with both verdicts."""
    good = [finding(f"a.{i}") for i in range(6)]
    bad = [finding("heads.attend_target", "refuted"), finding(verdict="error", case="last_digit")]
    assert outcome([*good, *bad]) == (
        1,
        "2 of 8 verdicts are not as expected: heads.attend_target refuted (expected holds), "
        "probe.decodable[last_digit] error (expected holds)",
    )
    assert outcome(good) == (0, "all 6 verdicts as expected")
    assert outcome(good[:1]) == (0, "the one verdict is as expected")


def test_long_line():
    """Of many claims the line names ten and counts the rest."""
    line = outcome([finding(f"a.{i}", "error") for i in range(30)])[1]
    assert line.startswith("30 of 30 verdicts are not as expected: a.0 error")
    assert line.endswith("and 20 more")


def test_huge_names():
    """A name of a megabyte does not make the line one."""
    line = outcome([finding("x\x1b\u202e" * 300_000, "error", case="y" * 1_000_000)])[1]
    assert len(line) < 300
    assert line.isprintable()


@laws
@given(st.lists(some))
def test_by_claim(findings):
    """Ordering loses nothing, keeps claims together, and puts the published tier before the audited one."""
    ordered = by_claim(findings)
    assert sorted(map(id, ordered)) == sorted(map(id, findings))
    claims = [each.claim for each in ordered]
    assert [claim for claim, _ in itertools.groupby(claims)] == list(dict.fromkeys(each.claim for each in findings))
    for first, second in itertools.pairwise(ordered):
        if first.claim == second.claim:
            assert (first.tier, second.tier) != ("audited", "as_published")
