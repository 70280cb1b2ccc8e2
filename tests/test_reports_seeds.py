"""One case on several seeds: one verdict, and how far the seeds differ."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp.evidence import VERDICTS, verdict_of_seeds
from reports.finding import Finding
from reports.schema import to_json
from reports.seeds import jaccard, over_seeds

laws = settings(deadline=None, derandomize=True, max_examples=150)
MEASURED = {"effect": 0.9, "interval": (0.8, 1.0), "n": 64, "p_value": 0.005}


def finding(verdict="holds", **facts):
    claim = {"claim": "heads.attend_target", "tier": "audited", "subject": "r1"}
    return Finding(**(claim | MEASURED | {"verdict": verdict} | facts))


some = st.builds(
    finding,
    verdict=st.sampled_from(VERDICTS),
    effect=st.floats(allow_nan=False, allow_infinity=False),
    reasons=st.lists(st.text(max_size=5), max_size=2),
    selected=st.lists(st.sampled_from("abc"), unique=True),
)


def test_agreement():
    """Four of five seeds decide; the evidence is of the first of them, the spread and Jaccard of all."""
    found = {
        10: finding("refuted", effect=0.1, interval=(0.0, 0.2), reasons=["the effect stays below 0.5"], selected=["a"]),
        11: finding(effect=0.85, selected=["a", "b"], seconds=2.0),
        12: finding(effect=0.9, selected=["a", "b"], seconds=3.0),
        13: finding(effect=0.95, selected=["a", "b"]),
        14: finding(effect=0.9, selected=["a", "b"]),
    }
    joined = over_seeds(found)
    assert (joined.verdict, joined.reasons, joined.effect) == ("holds", [], 0.85)
    assert joined.spread == pytest.approx(0.85)
    assert joined.jaccard == pytest.approx(0.8)
    assert joined.seconds == 5.0
    assert [(each.seed, each.verdict, each.effect) for each in joined.seeds[:2]] == [
        (10, "refuted", 0.1), (11, "holds", 0.85),
    ]  # fmt: skip
    assert joined.seeds[0].reasons == ["the effect stays below 0.5"]


def test_disagreement():
    """Where the seeds disagree the verdict is inconclusive, and both reasons are given."""
    refuted = finding("refuted", effect=0.1, interval=(0.0, 0.2), reasons=["the effect stays below 0.5"])
    joined = over_seeds({0: finding(), 1: refuted, 2: finding()})
    assert (joined.verdict, joined.effect) == ("inconclusive", 0.9)
    assert joined.reasons == [
        "the verdict changes with the seed: holds on 2, refuted on 1 of 3 seeds",
        "refuted on seed 1: the effect stays below 0.5",
    ]


def test_shared_reason():
    """A verdict that all seeds share keeps its reasons."""
    refuted = finding("refuted", reasons=["a rival explains it: the last digit (margin -0.02)"])
    assert over_seeds({0: refuted, 1: refuted}).reasons == refuted.reasons


def test_error_on_a_seed():
    """An error on one seed is an error, with what went wrong."""
    broken = finding("error", effect=None, interval=None, n=None, p_value=None, reasons=["out of memory"])
    joined = over_seeds({0: finding(), 1: finding(), 2: finding(), 3: finding(), 4: broken})
    assert (joined.verdict, joined.effect) == ("error", None)
    assert joined.reasons == ["a seed ended in an error", "out of memory"]


def test_never_measured():
    """What could not be measured on any seed has neither spread nor Jaccard."""
    bare = finding("not_applicable", effect=None, interval=None, n=None, p_value=None, reasons=["AUC is 0.52"])
    joined = over_seeds({0: bare, 1: bare})
    assert (joined.verdict, joined.reasons) == ("not_applicable", ["AUC is 0.52"])
    assert (joined.spread, joined.jaccard) == (None, None)


def test_one_seed():
    """A single finding stays as it is."""
    assert over_seeds({3: finding()}) == finding()


@pytest.mark.parametrize("other", [{"case": "x"}, {"tier": "as_published"}, {"claim": "a.b"}, {"subject": "base"}])
def test_one_case_only(other):
    """Findings of different cases, tiers, claims or subjects cannot be joined, nor can none."""
    with pytest.raises(ValueError, match="one case"):
        over_seeds({0: finding(), 1: finding(**other)})
    with pytest.raises(ValueError, match="one case"):
        over_seeds({})


@laws
@given(st.dictionaries(st.integers(0, 9), some, min_size=2, max_size=6))
def test_any_seeds(found):
    """Whatever the seeds found, the verdict is that of the rule, all are recorded, and no reason is lost."""
    joined = over_seeds(found)
    assert joined.verdict == verdict_of_seeds([each.verdict for each in found.values()])[0]
    assert [each.seed for each in joined.seeds] == list(found)
    assert Finding.model_validate_json(to_json(joined)) == joined
    assert joined.jaccard is None or 0 <= joined.jaccard <= 1


@pytest.mark.parametrize(
    ("sets", "agreement"),
    [([], None), (["ab"], None), (["", ""], None), (["ab", "ab"], 1), (["ab", "bc"], 1 / 3), (["a", ""], 0),
     (["a", "a", "b"], 1 / 3)],
)  # fmt: skip
def test_jaccard(sets, agreement):
    """Equal sets agree wholly, disjoint ones not at all; without a choice there is nothing to agree on."""
    assert jaccard(sets) == agreement


def test_parts_name_their_seed():
    """Problems of different seeds are different ones, though they are numbered alike."""
    found = {seed: finding(effect=0.8, by_problem={"0": 0.7, "1": 0.9}) for seed in (3, 4)}
    assert over_seeds(found).by_problem == {"seed 3, 0": 0.7, "seed 3, 1": 0.9}
    assert over_seeds({3: found[3]}).by_problem == {"0": 0.7, "1": 0.9}
