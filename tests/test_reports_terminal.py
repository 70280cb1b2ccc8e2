"""The findings in a terminal: a line a case, nothing that matters cut, nothing untrusted acting."""

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from mechinterp.evidence import VERDICTS
from reports.abbreviation import abbreviated
from reports.finding import Finding
from reports.ladder import Ladder
from reports.outcome import outcome
from reports.terminal import render

laws = settings(deadline=None, derandomize=True, max_examples=150)
LONG = "200 random head sets of the same layers and output norm"
MEASURED = {"effect": 0.48, "interval": (-0.36, 0.52), "n": 72, "p_value": 0.005}
BARE = dict.fromkeys(MEASURED)
LADDER = Ladder(rung="latent", sentence="It tells right from wrong, and says `not` to both.")
REAL = [
    ("heads.ablation_disables", "role_swapped/minimal_pair"),
    ("heads.ablation_disables", "role_swapped/mean"),
    ("heads.ablation_disables", "minimal_pair"),
    ("probe.decodable", "open_paren/almost_every_layer"),
    ("probe.decodable", "last_digit/almost_every_layer"),
    ("values.ablation_verdict", "valid+invalid/k=50"),
    ("values.ablation_verdict", "valid+invalid/k=5"),
    ("weights.near_identical", ""),
]


def finding(claim="weights.near_identical", verdict="holds", **facts):
    facts = {"tier": "audited", "subject": "r1", "threshold": "effect >= 0.9, p <= 0.05, n >= 16"} | MEASURED | facts
    return Finding(claim=claim, verdict=verdict, **facts)


def printed(findings, width, colour=False, **more):
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colour, color_system="truecolor" if colour else None
    )
    render(findings, console, **more)
    return console.file.getvalue()


def table(page):
    """The lines of the findings."""
    lines = page.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("claim[case]"))
    return lines[first + 1 : lines.index("", first)]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("unmeasured", ["not_applicable", "error", "not_run"])
@pytest.mark.parametrize("verdict", ["holds", "refuted", "inconclusive"])
def test_line_a_case(verdict, unmeasured, width):
    """A case is one line that fits: claim, tier, verdict, effect, interval and n are whole."""
    made = [finding(claim, verdict, case=case, expected="holds") for claim, case in REAL]
    made += [finding("steer.last_minus_first", unmeasured, case=case, **BARE) for _, case in REAL[:2]]
    page = printed(made, width)
    lines = table(page)
    assert len(lines) == len(made)
    assert len(set(lines)) == len(lines)
    for line, (claim, _) in zip(lines, REAL, strict=False):
        assert line.startswith(claim)
        assert re.search(rf" aud [ !]{verdict} +0\.\d+ \[-0\.\d+, 0\.\d+\] +72$", line)
    assert all(re.search(rf" aud !{unmeasured} +-$", line) for line in lines[len(REAL) :])
    assert max(map(len, page.splitlines()[:-1])) <= width


def test_digits():
    """In a narrow terminal an effect has the digits that tell it from nothing, in a wide one all that its interval
    allows."""
    made = [finding(effect=0.98765, interval=(0.98761, 0.98769)), finding(effect=0.00123, interval=(0.00121, 0.00125))]
    narrow, wide = (printed(made, width) for width in (80, 120))
    assert "0.99 [0.99, 0.99]" in narrow
    assert "0.0012 [0.0012, 0.0013]" in narrow
    assert "0.98765 [0.98761, 0.98769]" in wide


def test_wide():
    """A wide terminal shows whole names."""
    page = printed([finding(claim, case=case) for claim, case in REAL], 120)
    assert "heads.ablation_disables[role_swapped/minimal_pair] aud  holds" in page


def test_ladder():
    """The ladder is said first, also where it was not measured."""
    first = printed([finding()], 80, ladder=LADDER).splitlines()[0]
    assert first == "ladder: latent - It tells right from wrong, and says `not` to both."
    assert printed([finding()], 80).splitlines()[0] == "ladder: not measured"


def test_tiers():
    """The two tiers of a claim stand one below the other, and where they differ one sentence says why."""
    facts = {"verdict": "refuted", "reasons": ["a rival explains it: the last digit (margin -0.02)"]}
    page = printed([finding(**facts), finding("a.b"), finding(tier="as_published", effect=0.96)], 120)
    assert [line.split()[:3] for line in table(page)] == [
        ["weights.near_identical", "pub", "holds"],
        ["weights.near_identical", "aud", "!refuted"],
        ["a.b", "aud", "holds"],
    ]
    assert "where the two tiers differ:" in page
    assert "as_published holds (0.96); audited is refuted (0.48): a rival explains it: the last digit" in page
    assert "differ" not in printed([finding(), finding(tier="as_published")], 120)


def test_unexpected():
    """Why a verdict is not as expected is said below the table, and the outcome ends the page."""
    made = [finding(), finding("a.b", "refuted", reasons=["too small"]), finding("c.d", expected="refuted")]
    page = printed(made, 80)
    assert "  a.b refuted (expected holds): too small\n" in page
    assert "  c.d holds (expected refuted): all that was demanded was shown\n" in page
    assert "too small" not in printed([finding("a.b", "refuted", expected="refuted", reasons=["too small"])], 80)
    assert page.splitlines()[-1] == outcome(made)[1]


def test_verbose():
    """Thresholds, controls, nulls, quirks and seeds are there with -v only."""
    facts = {
        "case": "role_swapped/minimal_pair/all_layers", "expected": "refuted", "reasons": ["too small"],
        "expected_reason": "it says not to all", "threshold_reason": "half of it", "family": 3, "draws": 40,
        "distinct": 44, "null_of": LONG, "quirks": ["one class only"], "spread": 0.3, "jaccard": 0.5,
        "controls": [
            {"name": "the last digit", "kind": "rival", "margin": 0.2, "interval": (0.1, 0.3)},
            {"name": "other text", "kind": "validity", "margin": 0.4, "interval": (0.3, 0.5)},
        ],
        "seeds": [{"seed": 11, "verdict": "holds", "effect": 0.6}, {"seed": 12, "verdict": "refuted", "effect": 0.3}],
    }  # fmt: skip
    made = [finding("heads.ablation_disables", "refuted", **facts)]
    told = " ".join(printed(made, 80, verbose=True).split())
    notes = [
        "case: role_swapped/minimal_pair/all_layers",
        "because: too small",
        "expected: refuted, it says not to all",
        "demanded: effect >= 0.9, p <= 0.05, n >= 16 (half of it)",
        f"null: p = 0.005 over 40 draws of 44 that exist of {LONG}, alpha shared by 3 cases",
        "rivals: the last digit 0.20 [0.10, 0.30]",
        "validity: other text 0.40 [0.30, 0.50]",
        "quirks: one class only",
        "seeds: 11 holds 0.6, 12 refuted 0.3; spread 0.3, Jaccard 0.5",
    ]
    for note in notes:
        assert note in told
        assert note not in " ".join(printed(made, 80).split())


def test_outcome_is_one_line():
    """However many verdicts are not as expected, the outcome is one line: programs read it."""
    findings = [finding(f"heads.number_{i}", "refuted") for i in range(8)]
    assert printed(findings, 80).splitlines()[-1] == outcome(findings)[1]


def test_colour():
    """Colour is added in a terminal only, and says nothing that words do not."""
    made = [finding(), finding("a.b", "refuted", tier="as_published"), finding("c.d", "error", **BARE)]
    coloured = printed(made, 80, colour=True, ladder=LADDER)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == printed(made, 80, ladder=LADDER)


def test_nothing_run():
    """Without findings there is no table, but the outcome."""
    assert printed([], 80) == "no claim was run\n"


@laws
@given(
    st.lists(
        st.builds(
            finding,
            claim=st.text(),
            case=st.text() | st.just("[red]x[/red]") | st.just("\x1b[31mx\n"),
            threshold=st.text(),
            null_of=st.text() | st.just("[/]") | st.just("\u202e"),
            reasons=st.lists(st.text()),
            quirks=st.lists(st.text()),
            controls=st.lists(st.fixed_dictionaries({"name": st.text()}), max_size=2),
            verdict=st.sampled_from(VERDICTS),
            tier=st.sampled_from(["audited", "as_published"]),
        ),
        max_size=3,
    ),
    st.sampled_from([40, 80, 120]),
    st.text(),
    st.booleans(),
)
def test_untrusted(findings, width, sentence, verbose):
    """No text is taken for markup, a control sequence or a change of direction."""
    page = printed(findings, width, ladder=Ladder(rung="none", sentence=sentence), verbose=verbose)
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028]", page) is None


def test_markup_is_shown():
    """rich's markup in untrusted text is shown as it is."""
    assert "[red]x[/red]" in printed([finding(case="[red]x[/red]")], 120)


def test_huge_names():
    """Names of a megabyte are cut: the page stays one that can be read."""
    huge = "完\x1b[31m" * 200_000
    facts = dict.fromkeys(("case", "threshold", "null_of", "expected_reason", "threshold_reason"), huge)
    made = finding(huge, "refuted", reasons=[huge], quirks=[huge], controls=[{"name": huge}], **facts)
    page = printed(
        [made, made.model_copy(update={"tier": "as_published", "verdict": "inconclusive"})], 80, verbose=True
    )
    assert len(page) < 12_000
    assert max(map(cell_len, table(printed([made], 80)))) <= 80


# --- names in a narrow column


@laws
@given(st.lists(st.tuples(st.text("ab_.完", min_size=1), st.text("ab_/完")), max_size=8), st.integers(24, 60))
def test_abbreviated(names, width):
    """Every name fits, equal names stay equal, and different names can be told apart."""
    shown = abbreviated(names, width)
    assert all(cell_len(text) <= width for text in shown)
    assert len(set(shown)) == len(set(names))
    for (claim, case), text in zip(names, shown, strict=True):
        if cell_len(f"{claim}[{case}]") <= width:
            assert text == (f"{claim}[{case}]" if case else claim)


def test_longest_part_is_cut():
    """Of a case the longest parts are cut, so that what tells cases apart is kept."""
    names = [("values.ablation_verdict", f"valid+invalid/k={k}") for k in (5, 50)]
    assert abbreviated(names, 36) == ["values.ablation_verdict[valid+~/k=5]", "values.ablation_verdict[valid~/k=50]"]
    assert abbreviated([("heads.ablation_disables", "role_swapped/minimal_pair")], 38) == [
        "heads.ablation_disables[role_~/minim~]"
    ]
