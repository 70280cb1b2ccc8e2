"""What made the difference between a published protocol and its audit: one sentence, made from the evidence."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp.evidence import VERDICTS, Control, Evidence, Threshold
from reports.difference import SAYS, counterparts, difference, differences
from reports.finding import Finding, finding_from, finding_without
from reports.ladder import Rung
from reports.seeds import over_seeds

CLAIM = {"claim": "heads.attend_target", "subject": "r1"}
HALF = Threshold(0.5)
NULL = (0.0,) * 300


def published(effect=0.96, case="", **facts):
    evidence = Evidence(effect, (effect - 0.02, effect + 0.02), 300, **facts)
    return finding_from(evidence, Threshold(0.5, alpha=None), **CLAIM, tier="as_published", case=case)


def audited(effect=0.9, case="", family=1, p_value=0.003, n=72, at_least=HALF, **facts):
    evidence = Evidence(effect, (effect - 0.05, effect + 0.05), n, p_value, NULL, **facts)
    named = {"case": case, "null_of": "random heads of the same layers"}
    return finding_from(evidence, at_least, family=family, **CLAIM, tier="audited", **named)


def without(verdict, reason, case="", tier="audited"):
    return finding_without(verdict, reason, HALF, **CLAIM, tier=tier, case=case)


RIVAL = Control("an input number's last digit attends to its own earlier mentions as much", -0.02, (-0.03, -0.01))
CLOSE = Control("the attempt's index", 0.01, (-0.01, 0.03))
OUT = Control("the last digit", 0.4, (0.3, 0.5))
DAMAGE = Control("other text survives", -0.3, (-0.4, -0.2), "validity")
STRAY = Control("other text survives", 0.3, (0.2, 0.4), "validity")

ONE_CASE = {
    "rival": (
        audited(controls=(RIVAL, OUT)),
        "audited is refuted (0.9): a rival explains it: an input number's last digit attends to its own earlier "
        "mentions as much (margin -0.02)",
    ),
    "rival not told apart": (
        audited(controls=(CLOSE,)),
        "audited is inconclusive (0.9): not told apart from a rival: the attempt's index (margin 0.01)",
    ),
    "validity": (
        audited(controls=(OUT, DAMAGE)),
        "audited is inconclusive (0.9): validity not shown: other text survives (margin -0.3)",
    ),
    "validity before a rival": (
        audited(controls=(RIVAL, DAMAGE)),
        "audited is inconclusive (0.9): validity not shown: other text survives (margin -0.3); a rival explains it: "
        "an input number's last digit attends to its own earlier mentions as much (margin -0.02)",
    ),
    "threshold": (audited(0.12, controls=(STRAY,)), "audited is refuted (0.12): the effect stays below 0.5"),
    "interval": (audited(0.5), "audited is inconclusive (0.5): the interval (noise 0) straddles the threshold 0.5"),
    "n": (audited(n=8), "audited is inconclusive (0.9): n = 8 is too small for a verdict; 16 problems are needed"),
    "null": (
        audited(p_value=0.2),
        "audited is inconclusive (0.9): p = 0.2 is above 0.05, over random heads of the same layers",
    ),
    "null of a family": (
        audited(p_value=0.02, family=3),
        "audited is inconclusive (0.9): p = 0.02 is above 0.017 = 0.05 / 3 cases, over random heads of the same layers",
    ),
    "few draws": (
        audited(p_value=0.2, distinct=4),
        "audited is inconclusive (0.9): not testable here: only 4 matched controls exist, and p cannot fall to 0.05",
    ),
    "precondition": (
        without("not_applicable", "the subject does not verify by role: AUC 0.61"),
        "audited is not applicable: the subject does not verify by role: AUC 0.61",
    ),
    "seeds": (
        over_seeds({0: audited(), 1: audited(0.12), 2: audited()}),
        "audited is inconclusive (0.9): the verdict changes with the seed: holds on 2, refuted on 1 of 3 seeds; "
        "refuted on seed 1: the effect stays below 0.5",
    ),
    "all seeds": (
        over_seeds({0: audited(0.12), 1: audited(0.13)}),
        "audited is refuted (0.12): the effect stays below 0.5",
    ),
    "many reasons": (
        audited(0.12, controls=(RIVAL, Control("order", -0.2, (-0.3, -0.1)), Control("length", -0.2, (-0.3, -0.1)))),
        "audited is refuted (0.12): the effect stays below 0.5; a rival explains it: an input number's last digit "
        "attends to its own earlier mentions as much (margin -0.02); and 2 more",
    ),
}


@pytest.mark.parametrize(("audit", "says"), ONE_CASE.values(), ids=ONE_CASE)
def test_one_case(audit, says):
    """Whatever made the difference is named: rival, check, figure, null, draws, seeds or precondition."""
    assert difference(published(), [audit]) == f"as_published holds (0.96); {says}"


@pytest.mark.parametrize(
    ("first", "others"),
    [
        (published(), []),
        (published(), [audited(), audited(case="zero")]),
        (published(0.1), [audited(controls=(RIVAL,))]),
        (published(), [without("error", "out of memory")]),
        (published(), [without("not_run", "the run ended before this claim")]),
        (without("error", "out of memory", tier="as_published"), [audited()]),
    ],
)
def test_no_difference(first, others):
    """Nothing is said where the verdicts are the same, or where there is none to compare."""
    assert difference(first, others) is None


def test_documented():
    """docs/report.md quotes the sentence as it is, and explains every verdict and every rung of the ladder."""
    page = (Path(__file__).parent.parent / "docs" / "report.md").read_text(encoding="utf-8")
    quoted = " ".join(line.removeprefix("> ") for line in page.splitlines() if line.startswith("> "))
    assert quoted == difference(published(), [audited(0.41, at_least=Threshold(0.1), controls=(RIVAL,))])
    assert all(f"| `{word}` |" in page for word in (*VERDICTS, *get_args(Rung)))


def test_published_does_not_hold():
    """Where the published protocol fails and its audit does not, its own reason is given."""
    assert difference(published(0.1), [audited()]) == (
        "as_published is refuted (0.1): the effect stays below 0.5; audited holds (0.9)"
    )
    bare = without("not_applicable", "it says no right remark", tier="as_published")
    assert difference(bare, [audited(0.12)]) == (
        "as_published is not applicable: it says no right remark; audited is refuted (0.12): the effect stays below 0.5"
    )


def test_several_cases():
    """Audited cases of one verdict and one kind of reason are told together, those that agree first."""
    audit = [
        audited(0.12, "role_swapped/zero"),
        audited(0.62, "zero"),
        audited(0.7, "mean"),
        audited(0.2, "role_swapped/mean"),
        audited(0.6, "pair", p_value=0.2),
        without("error", "out of memory", "rest"),
    ]
    assert difference(published(case="33 heads"), audit) == (
        "as_published holds for 33 heads (0.96); audited holds for zero (0.62) and mean (0.7); "
        "audited is refuted for role_swapped/zero (0.12) and role_swapped/mean (0.2): the effect stays below 0.5; "
        "audited is inconclusive for pair (0.6): p = 0.2 is above 0.05, over random heads of the same layers"
    )


def test_alike():
    """Where only the numbers of the reasons differ, those of the first case are given, and named as its own."""
    rivals = [Control("order", margin, (margin - 0.01, margin + 0.01)) for margin in (-0.2, -0.3)]
    audit = [audited(case=f"case {at}", controls=(rival,)) for at, rival in enumerate(rivals)]
    assert difference(published(), audit) == (
        "as_published holds (0.96); audited is refuted for case 0 (0.9) and case 1 (0.9): "
        "a rival explains it: order (margin -0.2) (case 0; the others alike)"
    )


def test_many_cases():
    """Of many cases the first are named and the rest counted: it stays one sentence."""
    sentence = difference(published(), [audited(0.1 + at / 100, f"case {at}") for at in range(9)])
    assert "case 3 (0.13) and 5 more: the effect stays below 0.5" in sentence
    kinds = [audited(case=f"case {at}", controls=(Control("x" * (at + 1), -0.2, (-0.3, -0.1)),)) for at in range(9)]
    assert difference(published(), kinds).endswith("; and 5 more audited cases differ")


def test_counterparts():
    """A published case is audited by the cases that name all it names, else by all of the claim."""
    audit = [audited(case=name) for name in ("zero", "role_swapped/zero", "mean")]
    assert counterparts(published(case="zero"), audit) == audit[:2]
    assert counterparts(published(case="role_swapped/zero"), audit) == audit[1:2]
    assert counterparts(published(case="33 heads"), audit) == audit
    assert counterparts(published(), audit) == audit
    other = audit[0].model_copy(update={"claim": "a.b"}), audit[0].model_copy(update={"subject": "base"})
    assert counterparts(published(), [*other, published()]) == []


def test_differences():
    """Of a run, only published verdicts that their audit does not share are told."""
    same = published(case="mean"), audited(case="mean")
    apart = published(case="zero"), audited(0.12, "zero")
    assert differences([*same, *apart]) == [
        (
            "heads.attend_target",
            "as_published holds for zero (0.96); audited is refuted for zero (0.12): the effect stays below 0.5",
        )
    ]


def test_alike_published_cases():
    """Published cases that are alike and audited by the same cases share a sentence."""
    made = [published(0.95, "29 heads"), published(0.96, "33 heads"), published(0.1, "6 heads"), audited(0.12, "zero")]
    audit = "audited is refuted for zero (0.12): the effect stays below 0.5"
    told = f"as_published holds for 29 heads (0.95) and 33 heads (0.96); {audit}"
    assert differences(made) == [("heads.attend_target", told)]


def test_agreement_hides_no_difference():
    """However many audited cases agree with the published verdict, those that differ are told."""
    rivals = [Control("x" * (at + 1), -0.2, (-0.3, -0.1)) for at in range(9)]
    agreeing = [audited(case=f"case {at}", controls=(rival,)) for at, rival in enumerate(rivals)]
    assert difference(published(0.1), [*agreeing, audited(case="last")]) == (
        "as_published is refuted (0.1): the effect stays below 0.5; audited is refuted for case 0 (0.9), case 1 (0.9), "
        "case 2 (0.9), case 3 (0.9) and 5 more; audited holds for last (0.9)"
    )


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.data())
def test_any_verdicts(data):
    """There is a sentence exactly if a comparable audited verdict differs; it is one printable line that names both."""
    some = st.builds(
        Finding,
        **{name: st.just(value) for name, value in CLAIM.items()},
        case=st.text(),
        tier=st.just("audited"),
        verdict=st.sampled_from([word for word in VERDICTS if word != "holds"]),
        effect=st.floats() | st.none(),
        reasons=st.lists(st.text()),
    )
    first = data.draw(some).model_copy(update={"tier": "as_published"})
    audit = data.draw(st.lists(some, max_size=6))
    sentence = difference(first, audit)
    words = {each.verdict for each in audit} & set(SAYS)
    assert (sentence is not None) == (first.verdict in SAYS and bool(words - {first.verdict}))
    if sentence is not None:
        assert sentence.isprintable()
        assert sentence.startswith(f"as_published {SAYS[first.verdict]}")
        assert len(sentence) < 8000


def test_long_names():
    """A name of a megabyte does not make the sentence one."""
    huge = "x\x1b" * 500_000
    audit = audited(case=huge, controls=(Control(huge, -0.2, (-0.3, -0.1)),))
    sentence = difference(published(case=huge), [audit])
    assert len(sentence) < 800
    assert sentence.isprintable()
