"""Baselines: what is accepted, with a reason, and what is left alone."""

from datetime import UTC, datetime

import pytest
from written_reports import finding, report

from reports.baseline import accept, baseline_of
from reports.comparison import compare
from reports.schema import Ladder, ReportError, to_json

LATER = datetime(2025, 6, 1, tzinfo=UTC)


def dumped(made):
    return {each.label: to_json(each) for each in made.findings}


def test_first():
    """A first baseline has every finding, each expected as it was found."""
    made = accept(report(finding("a.b"), finding("c.d", "refuted")), None, reason="as published", at=LATER).baseline
    assert [(each.label, each.verdict, each.expected) for each in made.findings] == [
        ("a.b", "holds", "holds"), ("c.d", "refuted", "refuted"),
    ]  # fmt: skip
    assert made.findings[1].expected_reason == "as published"
    assert made.accepted["c.d"].at == LATER
    assert made.accepted["c.d"].origin.sha256 == "a" * 64
    assert compare(made, report(finding("a.b"), finding("c.d", "refuted"))).passes


def test_reason():
    """What does not hold, or has changed, needs a reason; a verdict that was expected brings its own."""
    with pytest.raises(ReportError, match=r"c\.d would be accepted without a reason"):
        accept(report(finding("c.d", "refuted")), None)
    told = finding("c.d", "refuted", expected="refuted", expected_reason="it has two heads")
    made = accept(report(told), None).baseline
    assert made.findings[0].expected_reason == made.accepted["c.d"].reason == "it has two heads"
    with pytest.raises(ReportError, match="without a reason"):
        accept(report(finding("c.d")), made, reason="  ")
    assert accept(report(finding()), None).written


def test_untouched():
    """What did not change stays as it is to the last digit, though the run found other digits."""
    old = accept(report(finding("a.b", effect=0.9), finding("c.d")), None).baseline
    run = report(finding("a.b", effect=0.87), finding("c.d", "refuted"), weights="b", created=LATER)
    done = accept(run, old, reason="a new reward", at=LATER)
    assert (done.written, done.kept) == (("c.d",), ("a.b",))
    assert dumped(done.baseline)["a.b"] == dumped(old)["a.b"]
    assert done.baseline.accepted["a.b"] == old.accepted["a.b"]
    assert done.baseline.accepted["c.d"].origin.sha256 == "b" * 64
    assert done.baseline.subject == old.subject
    assert compare(done.baseline, run).passes


def test_nothing_changed():
    """A run that keeps everything changes nothing, and needs no reason."""
    old = accept(report(finding()), None).baseline
    done = accept(report(finding(effect=0.88), weights="b"), old)
    assert done.baseline is old
    assert not done.changed


def test_errors_are_refused():
    """An error is no result: it is never accepted, unless other claims are named."""
    run = report(finding("a.b", "refuted"), finding("c.d", "error"))
    with pytest.raises(ReportError, match=r"c\.d ended in an error"):
        accept(run, None, reason="so be it")
    assert accept(run, None, reason="so be it", only=["a.b"]).written == ("a.b",)


def test_vanished():
    """What a run does not have any more is dropped, with a reason; what it names nothing of is left."""
    old = accept(report(finding("a.b"), finding("c.d")), None).baseline
    done = accept(report(finding("a.b")), old, reason="the claim was withdrawn")
    assert done.dropped == ("c.d",)
    assert list(dumped(done.baseline)) == ["a.b"] == list(done.baseline.accepted)
    assert not accept(report(finding("a.b")), old, only=["a.b"]).changed


def test_not_run():
    """A run that was torn takes no result away."""
    old = accept(report(finding("a.b"), finding("c.d")), None).baseline
    done = accept(report(finding("a.b", "refuted"), finding("c.d", "not_run")), old, reason="x")
    assert (done.written, done.not_run) == (("a.b",), ("c.d",))
    assert dumped(done.baseline)["c.d"] == dumped(old)["c.d"]


def test_unknown():
    """A name that is of no finding is refused."""
    with pytest.raises(ReportError, match=r"no finding is called x\.y"):
        accept(report(finding()), None, only=["x.y"])


def test_no_findings():
    """A report without findings makes no baseline."""
    with pytest.raises(ReportError, match="nothing to accept"):
        accept(report(), None, reason="x")


def test_ladder():
    """The rung is accepted with the findings."""
    ladder = {rung: Ladder(rung=rung, sentence="so") for rung in ("verifies", "repetition")}
    old = accept(report(finding(), ladder=ladder["verifies"]), None).baseline
    run = report(finding(), ladder=ladder["repetition"])
    assert compare(accept(run, old, reason="trained away").baseline, run).passes


def test_first_accepted_is_remembered():
    """Through accepted steps the first one stays, for drift; where a claim was lost in between, it begins anew."""
    steps = [0.95, 0.7, 0.6]
    made = accept(report(finding(effect=0.95)), None).baseline
    for effect in steps[1:]:
        interval = {"interval": (effect - 0.02, effect + 0.02)}
        made = accept(report(finding(effect=effect, **interval), weights="b"), made, reason="x").baseline
    entry = made.accepted["probe.decodable"]
    assert entry.first.effect == 0.95
    assert entry.first_origin.sha256 == "a" * 64
    made = accept(report(finding(verdict="refuted")), made, reason="x").baseline
    assert made.accepted["probe.decodable"].first is None


def test_place():
    """A baseline lies beside the others, by its subject's name, which is made a harmless file name."""
    assert baseline_of("r1").parts[-3:] == ("reports", "baselines", "r1.json")
    assert baseline_of("../../x").parts[-2:] == ("baselines", "x.json")
