"""What a claim's tests become: cases of one family, judged on every seed, one finding each."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from toy_claims import ROOT, run_toys, save

from claims.claim import Claim, Protocol
from claims.harness.cases import variants
from mechinterp.errors import MechinterpError
from mechinterp.evidence import TIE, Threshold
from mechinterp.nulls import MOST
from reports.finding import Finding


def findings(file: Path, *arguments: str) -> dict[str, Finding]:
    (report,) = run_toys(file, *arguments).reports
    return {finding.label: finding for finding in report.findings}


def published_tests() -> list[tuple[Protocol, list[str]]]:
    """Of every test of every claim, the protocol and the names of its cases."""
    found = []
    for path in sorted((ROOT / "claims").rglob("test_*.py")):
        spec = importlib.util.spec_from_file_location(f"claims_under_test_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for test in vars(module).values():
            marks = getattr(test, "pytestmark", [])
            found += [(mark.args[0], variants(marks)) for mark in marks if mark.name == "claim"]
    return found


def test_every_case_can_hold():
    """With the draws of a null that is not stopped, p can fall to what the family allows: every case may hold."""
    tests = published_tests()
    assert tests
    for protocol, names in tests:
        alpha = protocol.threshold.alpha
        assert (alpha is None) == (protocol.tier == "as_published"), protocol.claim.id
        assert alpha is None or alpha / len(names) + TIE >= 1 / (1 + MOST), protocol.claim.id
        assert len(set(names)) == len(names)


def test_no_two_tests_of_one_finding():
    """A claim and a tier is one test, so that its cases are all of its family."""
    named = [(protocol.claim.id, protocol.tier) for protocol, _ in published_tests()]
    assert len(set(named)) == len(named)


def test_names_of_cases():
    """The test's own marks in their order, whichever form they have; the subject and repetitions are none of them."""
    layers = pytest.mark.parametrize("layers", ["best", "all"])
    site = pytest.mark.parametrize(argnames="site", argvalues=[pytest.param("digit", id="d"), "paren"])
    pairs = pytest.mark.parametrize(("k", "of"), [(1, "a"), pytest.param(2, "b", marks=pytest.mark.skip)])
    listed = pytest.mark.parametrize("k, of", [[1, "a"]])  # noqa: PT006, PT007
    assert variants([]) == [""]
    assert variants([pytest.mark.skip, layers.mark]) == ["best", "all"]
    assert variants([site.mark, layers.mark]) == ["digit/best", "digit/all", "paren/best", "paren/all"]
    assert variants([pairs.mark]) == ["1/a", "2/b"]
    assert variants([listed.mark]) == ["1/a"]


def test_tiers_demand_what_they_are_for():
    """As published there is no p-value to ask for, audited there is; quirks are several sentences."""
    claim = Claim("toy.one", statement="s", source="x", published="p")
    with pytest.raises(MechinterpError, match=r"toy\.one: as published there is no null"):
        claim.as_published(measure="m", setting="s", quirks=(), threshold=Threshold(0.5))
    with pytest.raises(MechinterpError, match="quirks is a text"):
        claim.as_published(measure="m", setting="s", quirks="one", threshold=Threshold(0.5, alpha=None))
    with pytest.raises(MechinterpError, match="audited, an effect has to exceed a null"):
        claim.audited(measure="m", null="n", threshold=Threshold(0.5, alpha=None))


JUDGED = """
FAMILY = Claim("toy.family", statement="It has four cases.", source="nobody", published="1")
MISUSE = Claim("toy.misuse", statement="It misuses judge.", source="nobody", published="1")


@FAMILY.audited(measure="its effect", null="some reach it", threshold=DEMANDED)
@pytest.mark.parametrize("layers", ["best", "all"])
@pytest.mark.parametrize("site", ["digit", "paren"])
def test_family(judge, site, layers):
    reaching = {"digit": 3, "paren": 2}[site]  # 4/301 is above .05/4, 3/301 is not
    judge(evidence(1.0), null=Draws.of(np.repeat([0.0, 2.0], [300 - reaching, reaching])))


@MISUSE.audited(measure="its effect", null="zeros", threshold=DEMANDED)
@pytest.mark.parametrize("how", ["never", "twice", "no_null", "no_draws", "not_finite"])
def test_misuse(judge, how):
    if how == "twice":
        judge(evidence(1.0), null=NULL)
    if how == "no_draws":
        judge(evidence(1.0), null=Draws.of([]))
    elif how == "not_finite":
        judge(evidence(float("nan")), null=NULL)
    elif how != "never":
        judge(evidence(1.0), null=None if how == "no_null" else NULL)
"""


def test_family_is_that_of_the_test(tmp_path):
    """Whatever was selected, alpha is shared by all cases of the test, and p is kept raw."""
    found = findings(save(tmp_path, JUDGED), "-k", "best and digit or paren and all or misuse")
    digit, paren = found["toy.family[digit/best]"], found["toy.family[paren/all]"]
    assert (digit.family, digit.p_value, digit.verdict) == (4, pytest.approx(4 / 301), "inconclusive")
    assert (paren.family, paren.p_value, paren.verdict) == (4, pytest.approx(3 / 301), "holds")
    assert (paren.draws, paren.null_of, paren.measure) == (300, "some reach it", "its effect")
    misused = {label: finding for label, finding in found.items() if "misuse" in label}
    assert {finding.verdict for finding in misused.values()} == {"error"}
    assert [finding.reasons[0] for finding in misused.values()] == [
        "the claim gave 0 pieces of evidence, not one",
        "the claim gave 2 pieces of evidence, not one",
        "an audited claim gives its null with its evidence: judge(evidence, null=Draws(...))",
        "no matched control exists; the measurement has nothing to be compared with",
        "the measurement is not finite",
    ]


SEEDS = """
CLAIM = Claim("toy.seeds", statement="It depends on the seed.", source="nobody", published="1")
EFFECTS = {
    "stable": iter([1.0, 3.0, 1.0, -1.0, 1.0]),
    "late": iter([-1.0, 1.0, 1.0, 1.0, 1.0]),
    "unstable": iter([1.0, -1.0, 1.0, -1.0, 1.0]),
    "broken": iter([1.0, 1.0, 1.0, 1.0, "broken"]),
    "unmet": iter(["unmet"] * 4 + [1.0]),
}
CHOSEN = iter(["ab", "ab", "bc", "ab", "ab"])


@CLAIM.audited(measure="its effect", null="zeros", threshold=DEMANDED)
@pytest.mark.parametrize("case", EFFECTS)
def test_seeds(judge, case):
    effect = next(EFFECTS[case])
    if effect == "unmet":
        raise PreconditionUnmet("it has none")
    judge(evidence(float(effect), selected=tuple(next(CHOSEN)) if case == "stable" else ()), null=NULL)


@Claim("toy.labs", statement="Each seed has its own.", source="nobody", published="1").audited(
    measure="its effect", null="zeros", threshold=DEMANDED
)
@pytest.mark.parametrize("case", ["one", "two"])
def test_labs(lab, subject, judge, case):
    assert lab.subject is subject
    print(f"lab {lab.seed} {id(lab)} {id(lab.subject)}", file=open(os.environ["TOY_LOG"], "a"))
    judge(evidence(1.0), null=NULL)
"""


def test_several_seeds(tmp_path):
    """A case is measured once a seed on that seed's lab, and its one finding says what they agree on."""
    file = save(tmp_path, SEEDS)
    done = run_toys(file, "--seeds", "5", "--seed", "7", "--n-problems", "4")
    (report,) = done.reports
    found = {finding.label: finding for finding in report.findings}
    assert report.seeds == [7, 8, 9, 10, 11]
    assert {label: finding.verdict for label, finding in found.items()} == {
        "toy.seeds[stable]": "holds",
        "toy.seeds[late]": "holds",
        "toy.seeds[unstable]": "inconclusive",
        "toy.seeds[broken]": "error",
        "toy.seeds[unmet]": "not_applicable",
        "toy.labs[one]": "holds",
        "toy.labs[two]": "holds",
    }
    stable, late = found["toy.seeds[stable]"], found["toy.seeds[late]"]
    assert [(record.seed, record.verdict) for record in stable.seeds] == [
        (7, "holds"), (8, "holds"), (9, "holds"), (10, "refuted"), (11, "holds"),
    ]  # fmt: skip
    assert (stable.effect, stable.spread, stable.jaccard) == (1.0, 4.0, pytest.approx(0.6 + 0.4 / 3))
    assert (late.effect, late.seeds[0].effect) == (1.0, -1.0)
    labs = [line.split()[1:] for line in done.measured if line.startswith("lab")]
    assert [seed for seed, *_ in labs] == ["7", "8", "9", "10", "11"] * 2
    assert labs[:5] == labs[5:]
    assert len({lab for _, lab, _ in labs}) == 5
    assert len({subject for *_, subject in labs}) == 1
    assert done.stderr.count("loading base") == 1


COMPARED = """
CLAIM = Claim("toy.compared", statement="It compares.", source="nobody", published="1")


@CLAIM.audited(measure="its effect", null="zeros", threshold=DEMANDED)
def test_compared(lab, subject, reference, reference_lab, judge):
    assert subject.anatomy.n_layers == reference.anatomy.n_layers
    assert (lab.subject, reference_lab.subject, reference_lab.seed) == (subject, reference, lab.seed)
    judge(evidence(float(subject is reference)), null=NULL)


@Claim("toy.alone", statement="It does not.", source="nobody", published="1").audited(
    measure="its effect", null="zeros", threshold=DEMANDED
)
def test_alone(judge):
    judge(evidence(1.0), null=NULL)
"""


def test_reference(tmp_path):
    """A claim that compares names the reference, which is loaded once; without one it is not applicable."""
    file = save(tmp_path, COMPARED)
    done = run_toys(file, "--model", "base", "--model", "r1", "--reference", "base", "-n", "2", "-p", "randomly",
                    "--n-problems", "4")  # fmt: skip
    for report, verdict in zip(done.reports, ("holds", "refuted"), strict=True):
        compared, alone = report.findings
        assert (compared.verdict, compared.reference, alone.reference) == (verdict, "base", None)
        assert report.reference.sha256 == done.reports[0].subject.sha256
    assert sorted(line for line in done.stderr.splitlines() if "loading" in line) == [
        "loading base ...",
        "loading r1 ...",
    ]
    (unmet, _) = findings(save(tmp_path / "without", COMPARED)).values()
    assert unmet.verdict == unmet.expected == "not_applicable"
    assert "name one with --reference" in unmet.reasons[0]


TWINS = """
CLAIM = Claim("toy.twins", statement="It is there twice.", source="nobody", published="1")
audited = CLAIM.audited(measure="its effect", null="zeros", threshold=DEMANDED)


@audited
def test_one(judge):
    judge(evidence(1.0), null=NULL)


@audited
def test_other(judge):
    judge(evidence(1.0), null=NULL)
"""
NAMELESS = """
CLAIM = Claim("toy.nameless", statement="Its cases have one name.", source="nobody", published="1")
audited = CLAIM.audited(measure="its effect", null="zeros", threshold=DEMANDED)


@audited
@pytest.mark.parametrize("k", [1, "1"])
def test_same(judge, k):
    judge(evidence(1.0), null=NULL)


@audited
def test_mute():
    pass
"""


def test_findings_are_told_apart(tmp_path):
    """Two tests or cases that give the same finding end the run before anything is measured, in a line."""
    twins = run_toys(save(tmp_path, TWINS))
    assert (twins.returncode, twins.measured, twins.reports) == (4, (), ())
    assert "ERROR: two tests give the finding toy.twins; name their cases or claims apart" in twins.stderr
    nameless = run_toys(save(tmp_path, NAMELESS))
    assert (nameless.returncode, nameless.measured, nameless.reports) == (2, (), ())
    assert "test_same (toy.nameless) has two cases of one name: 1, 1" in nameless.stdout
    mute = run_toys(save(tmp_path, NAMELESS.replace('[1, "1"]', "[1, 2]")))
    assert "test_mute (toy.nameless) is a claim, but takes no `judge`" in mute.stdout
