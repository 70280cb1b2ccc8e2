"""A run beside its baseline: one word a finding, a change with its interval, and a failure for what is not accepted."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_reports import finding, report

from mechinterp.evidence import VERDICTS
from reports.change import WORDS, change_of
from reports.comparison import compare
from reports.origin import origin_of
from reports.schema import Acceptance, Ladder, ReportError, to_json

laws = settings(deadline=None, derandomize=True, max_examples=60)
RNG = np.random.default_rng(0)
PARTS = RNG.normal(0.9, 0.3, 64)


def parts(values):
    return {str(place): float(value) for place, value in enumerate(values)}


def measured(values, **facts):
    """A finding whose effect is the mean of its problems' parts, with a wide interval of its own."""
    return finding(effect=float(np.mean(values)), by_problem=parts(values), **facts)


def word(old, new, **facts):
    return change_of(old, new, same_problems=False, **facts).word


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ("holds", "holds", "kept"),
        ("holds", "inconclusive", "degraded"),
        ("holds", "refuted", "lost"),
        ("holds", "not_applicable", "lost"),
        ("holds", "error", "not comparable"),
        ("holds", "not_run", "not comparable"),
        ("refuted", "holds", "emerged"),
        ("inconclusive", "holds", "emerged"),
        ("not_applicable", "holds", "emerged"),
        ("refuted", "refuted", "kept"),
        ("refuted", "inconclusive", "changed"),
        ("refuted", "not_applicable", "changed"),
        ("not_applicable", "not_applicable", "kept"),
        ("error", "holds", "not comparable"),
        ("error", "error", "not comparable"),
        ("not_run", "refuted", "not comparable"),
    ],
)
def test_words(before, now, said):
    """Each pair of verdicts has its word, and only what is kept passes."""
    change = change_of(finding(verdict=before), finding(verdict=now), same_problems=True)
    assert (change.word, change.passes) == (said, said == "kept")


@laws
@given(st.sampled_from(VERDICTS), st.sampled_from(VERDICTS))
def test_lost_needs_a_baseline_that_held(before, now):
    """Only what held can be lost or degraded, only what did not can emerge, and an error never passes."""
    change = change_of(finding(verdict=before), finding(verdict=now), same_problems=True)
    assert (before == "holds") or change.word not in ("lost", "degraded")
    assert change.word != "emerged" or (before != "holds" and now == "holds")
    assert not (change.passes and "error" in (before, now))
    assert change.word in WORDS


def test_never_run():
    """What the baseline says is not run may stay so, but it is not called kept."""
    change = change_of(finding(verdict="not_run"), finding(verdict="not_run"), same_problems=True)
    assert (change.word, change.passes) == ("not comparable", True)


def test_weaker_but_holding():
    """What holds is degraded where the drop is beyond chance and noise, whatever the fixed size of the drop."""
    assert word(finding(effect=0.9), finding(effect=0.85)) == "kept"
    assert word(finding(effect=0.9), finding(effect=0.6)) == "degraded"
    assert word(finding(effect=0.9), finding(effect=0.6, noise=0.5)) == "kept"
    assert word(finding(effect=0.6), finding(effect=0.9)) == "kept"
    narrow = {"interval": (0.84, 0.86)}
    assert word(finding(interval=(0.89, 0.91)), finding(effect=0.85, **narrow)) == "degraded"


def test_chance_is_shared():
    """The more findings hold, the more one of them may seem weaker by chance alone."""
    weaker = finding(effect=0.9), finding(effect=0.74)
    assert word(*weaker, holding=1) == "degraded"
    assert word(*weaker, holding=30) == "kept"


def test_paired():
    """On the same problems the change is that of each problem, which shows what two wide intervals hide."""
    noisy = PARTS - 0.02 + RNG.normal(0, 0.01, 64)
    old, new = report(measured(PARTS)), report(measured(noisy), weights="b")
    (change,) = compare(old, new).changes
    assert (change.paired, change.word) == (True, "degraded")
    assert change.change == pytest.approx(noisy.mean() - PARTS.mean())
    assert change.interval[0] < change.change < change.interval[1] < 0
    elsewhere = compare(old, report(measured(noisy), dataset="e" * 64)).changes[0]
    assert (elsewhere.paired, elsewhere.word) == (False, "kept")
    assert elsewhere.interval[1] - elsewhere.interval[0] > change.interval[1] - change.interval[0]


@pytest.mark.parametrize(
    "new",
    [
        report(measured(PARTS), seeds=[1]),
        report(measured(PARTS), dataset=None),
        report(measured(PARTS[:-1])),
        report(finding(effect=float(PARTS.mean()))),
    ],
    ids=["other seed", "data not known", "other problems", "no parts"],
)
def test_not_paired(new):
    """Problems are paired only where they are known to be the same."""
    assert not compare(report(measured(PARTS)), new).changes[0].paired


def test_same_run():
    """A run beside itself is kept, with no change at all."""
    same = report(
        measured(PARTS), finding(verdict="refuted", case="x"), finding(effect=None, verdict="not_applicable", case="y")
    )
    comparison = compare(same, same)
    assert comparison.passes
    assert comparison.same_weights
    assert comparison.provenance == []
    assert (comparison.changes[0].change, comparison.changes[0].interval) == (0.0, (0.0, 0.0))
    assert comparison.line == "3 kept; nothing to accept"


def test_vanished_and_new():
    """A finding that vanished fails the comparison, as one does that is new."""
    old, new = report(finding("a.b"), finding("c.d")), report(finding("a.b"), finding("e.f"))
    comparison = compare(old, new)
    assert [(each.label, each.word) for each in comparison.changes] == [
        ("a.b", "kept"), ("e.f", "not comparable"), ("c.d", "not comparable"),
    ]  # fmt: skip
    assert not comparison.passes
    assert "e.f not comparable, c.d not comparable" in comparison.line
    assert comparison.changes[1].why.startswith("new")
    assert comparison.changes[2].why.startswith("vanished")


def test_no_findings():
    """Without findings nothing passes, on either side."""
    assert not compare(report(), report()).passes
    assert not compare(report(finding()), report()).passes
    assert compare(report(), report()).line.startswith("no claim was run")


def test_tier_that_was_not_asked_for():
    """A tier that the run was not asked for has not vanished; that it is left out is said."""
    both = report(finding(), finding(tier="as_published"), tiers=["as_published", "audited"])
    comparison = compare(both, report(finding(), tiers=["audited"]))
    assert comparison.passes
    assert comparison.left_out == ["as_published"]
    assert not compare(both, report(finding(), tiers=["as_published", "audited"])).passes


@pytest.mark.parametrize("fact", ["measure", "threshold"])
def test_other_measure(fact):
    """What is measured or demanded otherwise is not comparable, however alike the numbers look."""
    change = change_of(finding(), finding(**{fact: "something else"}), same_problems=True)
    assert (change.word, change.change) == ("not comparable", None)
    assert fact in change.why


def test_two_of_a_label():
    """A report with two findings of one label is refused: either would be compared."""
    with pytest.raises(ReportError, match=r"two findings 'probe\.decodable'"):
        compare(report(finding()), report(finding(), finding(verdict="refuted")))


def test_ladder():
    """Another rung fails, also where no finding changes."""
    ladder = Ladder(rung="verifies", sentence="It verifies.")
    old, new = (
        report(finding(), ladder=ladder),
        report(finding(), ladder=ladder.model_copy(update={"rung": "repetition"})),
    )
    assert compare(old, old).passes
    for other in (new, report(finding())):
        comparison = compare(old, other)
        assert not comparison.passes
        assert "the ladder went from verifies" in comparison.line


def test_provenance():
    """Other weights are the point; whatever else differs is said as a caution, weights first."""
    old = report(finding())
    subject = old.subject.model_copy(update={"sha256": "b" * 64, "dtype": "bfloat16", "attention": "eager"})
    where = old.environment.model_copy(update={"suite_revision": "c" * 40, "versions": {"torch": "2"}})
    new = old.model_copy(update={"subject": subject, "environment": where, "seeds": [1]})
    told = [(each.name, each.kind) for each in compare(old, new).provenance]
    assert told[0] == ("weights", "point")
    assert dict(told[1:]) == dict.fromkeys(["dtype", "attention", "seeds", "suite", "torch"], "caution")


def baseline(first, now):
    """A baseline whose finding was once another one."""
    begun = report(first, created=datetime(2024, 1, 1, tzinfo=UTC))
    origin = origin_of(report(now))
    entry = Acceptance(reason="so", at=datetime.now(UTC), origin=origin, first=first, first_origin=origin_of(begun))
    return report(now, accepted={now.label: entry})


def test_drift():
    """Steps too small to see add up: what is kept beside the baseline is degraded beside the first accepted one."""
    slow = baseline(finding(effect=0.9), finding(effect=0.78))
    change = compare(slow, report(finding(effect=0.7))).changes[0]
    assert (change.word, change.passes) == ("degraded", False)
    assert change.why.startswith("drift, step by step, since the first accepted run of 2024-01-01")
    assert change.drift == pytest.approx(-0.2)
    assert compare(report(finding(effect=0.78)), report(finding(effect=0.7))).passes


def test_drift_that_was_accepted():
    """A baseline that is clearly weaker than the first was accepted so; the next run is judged by it."""
    assert compare(baseline(finding(effect=0.9), finding(effect=0.6)), report(finding(effect=0.6))).passes


def test_drift_since_a_report():
    """Any report can be named to judge drift by."""
    old, new = report(finding(effect=0.78)), report(finding(effect=0.7))
    assert compare(old, new, first=report(finding(effect=0.9))).changes[0].word == "degraded"


@laws
@given(st.text(max_size=200), st.text(max_size=200))
def test_hostile_names(name, reason):
    """Whatever names and reasons hold, what is said is one line, and the comparison is strict JSON."""
    comparison = compare(report(finding()), report(finding(verdict="refuted", case=name, reasons=[reason])))
    assert comparison.line.isprintable()
    assert all(change.why.isprintable() for change in comparison.changes)
    assert to_json(comparison).isascii()
