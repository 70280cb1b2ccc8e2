"""The suite on models in which verification is planted: it finds what is there, all of it, and nothing else.

What is true of each variant stands in tests/planted/; here stands what the suite must say of it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from audit import Audited, audit, deviations, matches
from planted import TRUTH, planted, save
from test_suite import report_in, run

from claims.heads.test_identity import test_these_heads_do_more_than_find_repeats as is_specific
from claims.measured.laboratory import Laboratory
from claims.measured.repeats import Repeats
from reports.schema import read_report

HOLDS, TOO_LITTLE = ("holds", ""), ("refuted", "the effect stays below")
FEW = 32  # problems: 16 to judge on, the fewest of which anything is said
ENOUGH = 72  # of an accuracy of 1 the interval stays above 0.9 with 36 to judge on

# Which cases of which variant are measured, on how many problems, and what must come out.
READ = ("behaviour.*", "probe.*", "lens.*", "values.clusters*")
NOTHING_LOST = ("inconclusive", "straddles the threshold 0.1")  # of 16 attempts, all of which keep their remark
OPPOSED = ("values.antipodes*", "values.clusters*", "values.negative_flip*")
OF_THE_3B = ("not_applicable", "the tables are of Qwen2.5-3B")
MOVED = ("heads.*", "values.ablation_*")
EXPECTED: list[tuple[str, int, tuple[str, ...], dict[str, tuple[str, str]]]] = [
    (
        "planted",
        ENOUGH,
        READ,
        {
            "lens.*[last_digit/*": ("refuted|inconclusive", "stays below|straddles"),  # they are written at ` (`
            "probe.decodable[open_paren]@as_published": TOO_LITTLE,  # ` (` learns of it in layer 3 of 0 to 5
            "probe.decodable[open_paren/almost_every_layer]": TOO_LITTLE,
            "*table of*": OF_THE_3B,
            "probe.antipodal*@as_published": ("refuted|inconclusive", "stays below|straddles"),  # so far training went
            "probe.antipodal*": TOO_LITTLE,  # wrong is the absence of right
            "probe.timing@as_published": TOO_LITTLE,  # it reads the two classes at different places
            "probe.unembeds*@as_published": ("inconclusive", "straddles"),  # 72 attempts leave its column full of noise
            "*": HOLDS,
        },
    ),
    (
        "planted",
        FEW,
        MOVED,
        {
            "heads.few_suffice*": ("inconclusive", "straddles the threshold 0.5"),  # three of six carry half
            "values.ablation_verdict*@as_published": NOTHING_LOST,
            "*": HOLDS,
        },
    ),
    ("few", FEW, ("heads.few_suffice*",), {"*": HOLDS}),
    # What the value vectors name is no more than their direction.
    (
        "implied",
        FEW,
        ("values.clusters*", "values.antipodes*"),
        {
            "*table of*": OF_THE_3B,
            "values.*@as_published": HOLDS,
            "*": ("refuted|inconclusive", "stays below 0.1|straddles"),
        },
    ),
    # Turned round its value vectors name the other kind, and they are negative where their own is not meant; those of
    # `planted` do neither.
    (
        "opposed",
        FEW,
        OPPOSED,
        {"*table of*": OF_THE_3B, "*": HOLDS},
    ),
    (
        "opposed",
        ENOUGH,
        ("probe.antipodal[*]",),
        {"probe.antipodal[last_digit]": TOO_LITTLE, "*": HOLDS},  # at the result both see that there is a target
    ),
    (
        "planted",
        FEW,
        ("values.antipodes*", "values.negative_flip*"),
        {
            "*table of*": OF_THE_3B,
            "values.antipodes*@as_published": ("inconclusive", "straddles the threshold 0.1"),
            "values.negative_flip*@as_published": ("inconclusive", "straddles the threshold 0.1"),
            "values.antipodes*": TOO_LITTLE,
            "values.negative_flip*": ("refuted", "write next to nothing"),
        },
    ),
    # The verifiers are not needed, for others stand in, but they suffice. Of what the success vectors write two thirds
    # go with them: it is three times what it takes.
    (
        "redundant",
        FEW,
        ("heads.a*", "heads.few*", "heads.rescue[role_swapped]", "heads.s*"),
        {"heads.ablation_disables*": TOO_LITTLE, "heads.few_suffice*": TOO_LITTLE, "*": HOLDS},
    ),
    # They attend as verifiers do, and nothing comes of it.
    (
        "decoy",
        FEW,
        ("heads.*",),
        {"heads.attend_target*": HOLDS, "heads.identity": HOLDS, "heads.stability": HOLDS, "*": TOO_LITTLE},
    ),
    # It says `not` always. Its heads attend to the target, its result knows whether it is right, its ` (` does not.
    (
        "mute",
        FEW,
        ("behaviour.verifies", "heads.attend_target", "probe.decodable[*/almost_every_layer]", "heads.rescue*"),
        {
            "behaviour.verifies": TOO_LITTLE,
            "heads.attend_target": HOLDS,
            "probe.decodable[last_digit*": HOLDS,
            "probe.decodable[open_paren*": TOO_LITTLE,
            "heads.rescue*": ("not_applicable", "^none: "),
        },
    ),
]


@cache
def found(variant: str, n_problems: int, only: tuple[str, ...]) -> dict[str, Audited]:
    return audit(planted(variant), n_problems=n_problems, only=only)


@pytest.mark.parametrize(
    ("variant", "n_problems", "only", "table"), EXPECTED, ids=[f"{one[0]}-{one[2][0]}" for one in EXPECTED]
)
def test_what_is_there_is_found(variant, n_problems, only, table):
    """Every claim comes out as the variant's truth says, in both tiers, for the reason that is true of it."""
    assert deviations(found(variant, n_problems, only), table) == []


def test_exactly_the_planted_heads_are_found():
    """The heads that the claims select are the verifiers, neither more nor fewer, and hundreds of sets stand beside."""
    named = {f"L{layer}H{head}" for layer, head in TRUTH["planted"].verifiers}
    for label, audited in found("planted", FEW, MOVED).items():
        if matches(label, ["heads.*"]) and not matches(label, ["*@*", "heads.few*"]):
            assert set(audited.evidence.selected) == named, label
            assert audited.evidence.distinct is None or audited.evidence.distinct >= 300, label


def test_heads_that_attend_to_any_repeat_are_generic():
    """What a head does at the target and at repeats elsewhere alike says nothing of a mechanism of its own."""
    lab = Laboratory(planted("planted"), FEW, 0)
    to_target = lab.observed.to_target[lab.repeat_rows]
    lab.repeats = Repeats({"random tokens": to_target}, {"random tokens": to_target}, {"random tokens": to_target})
    given = []
    is_specific(lab, lambda evidence, null: given.append(evidence))
    assert given[0].effect == pytest.approx(0, abs=1e-6)


def test_what_the_verifiers_carry_is_all_of_it():
    """Without them all of the gap is gone, and they alone bring all of it back: both shares are one, neither is two."""
    for label, audited in found("planted", FEW, MOVED).items():
        if matches(label, ["heads.ablation_disables[*/zero]", "heads.ablation_disables[*/resample]", "heads.rescue*"]):
            assert audited.evidence.effect == pytest.approx(1, abs=0.1), label


def test_a_run_says_the_same(tmp_path: Path):
    """`pytest claims/` gives a planted checkpoint, which it does not tell from others, the verdicts of `audit`."""
    done = run("--model", save(tmp_path / "mute", "mute"), "--tier", "audited", "--report-dir", tmp_path)
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    reported = {finding.label: finding.verdict for finding in read_report(report_in(tmp_path)).findings}
    expected = found("mute", FEW, EXPECTED[-1][2])
    assert {label: reported[label] for label in expected} == {label: one.verdict for label, one in expected.items()}
