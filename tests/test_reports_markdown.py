"""report.md: whatever a token, a name or a detail holds, it is shown and does nothing."""

import itertools
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reports.figures import Picture
from reports.finding import Finding
from reports.ladder import Ladder
from reports.markdown import render
from reports.markup import bullets, code, escape, table
from reports.schema import Environment, Report
from reports.section import COLUMNS
from reports.text import plain

laws = settings(deadline=None, derandomize=True, max_examples=150)
HOSTILE = (
    "|", "\\", "\\|", "`", "```", "<script>alert(1)</script>", "<", "<b", "<!--", "<?x", "</details>", "&lt;", "&#124;",
    "\n", "\r\n", "\n\n", "\n---\n", "\x1b[31m", "\x9b31m", "\x00", "\u202e", "\u2066", "\u2028", "\ufeff", "\ud800",
    "[x](http://example.org)", "![x](x.png)", "](x)", "[x]: http://example.org", "# x", "- x", "1. x", "> x", "===",
    "***", "**", "_x_", "__", "~~", "$x$", "    x", "| --- |", "<http://example.org>", " ", "not", "完美",
)  # fmt: skip
text = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5), max_size=5).map("".join)
json_values = st.recursive(
    text | st.integers() | st.floats() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
TEXTS = (
    "claim", "case", "subject", "statement", "source", "published", "setting", "measure", "threshold",
    "threshold_reason", "null_of",
)  # fmt: skip
findings = st.builds(
    lambda texts, verdict, **facts: Finding(verdict=verdict, **texts, **facts),
    st.fixed_dictionaries(dict.fromkeys(TEXTS, text)),
    st.sampled_from(["refuted", "inconclusive"]),
    tier=st.sampled_from(["as_published", "audited"]),
    reference=text,
    expected_reason=text,
    reasons=st.lists(text, max_size=2),
    effect=st.floats(),
    interval=st.tuples(st.floats(), st.floats()),
    p_value=st.floats(0, 1),
    n=st.integers(),
    draws=st.just(3),
    null_summary=st.just({"mean": 0.1, "p95": 0.2, "max": 0.3}),
    controls=st.lists(
        st.fixed_dictionaries({"name": text, "kind": st.sampled_from(["rival", "validity"]), "margin": st.floats()}),
        max_size=2,
    ),
    quirks=st.lists(text, max_size=2),
    selected=st.lists(text, max_size=2),
    seeds=st.lists(
        st.fixed_dictionaries({"seed": st.integers(), "verdict": st.just("error"), "reasons": st.lists(text)}),
        max_size=2,
    ),
    alpha=st.floats() | st.none(),
    family=st.integers(1, 9),
    distinct=st.integers() | st.none(),
    details=st.dictionaries(text, json_values, max_size=3),
)
parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def report(findings, name="r1", **facts):
    where = {"python": "3.11", "platform": "test", "cpu_count": 2}
    facts = {"command": "pytest"} | facts
    created = datetime(2025, 3, 1, tzinfo=UTC)
    return Report(created=created, subject={"name": name}, environment=Environment(**where), findings=findings, **facts)


def flat(markdown):
    """All tokens of the parsed Markdown, inline ones too."""
    for token in parser.parse(markdown):
        yield token
        yield from token.children or ()


def shown(markdown):
    """The text that a reader sees."""
    return "".join(token.content for token in flat(markdown) if token.type in ("text", "code_inline", "text_special"))


@laws
@given(st.lists(findings, min_size=1, max_size=3), text, text, text)
def test_hostile_report(made, name, command, problem):
    """Text in any field leaves the structure as it is: tables and headings, no HTML, link, picture or code block."""
    ladder = Ladder(rung="none", sentence=command, figures={problem: name})
    page = render(report(made, name, command=command, ladder=ladder), [Picture(problem=problem)] * len(made))
    assert "<script" not in page
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\ud800-\udfff]", page) is None
    kinds = [token.type for token in flat(page)]
    assert not {"html_inline", "html_block", "link_open", "image", "fence", "code_block", "hr"} & set(kinds)
    assert not {"blockquote_open", "ordered_list_open", "s_open"} & set(kinds)
    claims, tiers = {each.claim for each in made}, {(each.claim, each.tier) for each in made}
    assert kinds.count("heading_open") == 7 + len(claims) + len(tiers)
    assert kinds.count("table_open") == 3 + len(claims)
    rows = [line.count("|") for line in page.splitlines() if line.startswith("|")]
    assert rows[: 2 + len(claims)] == [4] * (2 + len(claims))
    wide = [count for count in rows[2 + len(claims) :] if count != 3]
    assert wide == [len(COLUMNS) + 1] * (2 * len(claims) + len(made))


@laws
@given(text | st.text())
def test_escape(value):
    """Escaped text is shown as it is, on one line, and nothing in it is formatted."""
    kinds = {token.type for token in flat(f"x {escape(value)} x")}
    assert kinds <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}
    assert shown(escape(value)) == plain(value)


@laws
@given(text)
def test_code(value):
    """An identifier becomes a code span; anything else cannot break out of one."""
    kinds = {token.type for token in flat(f"x {code(value)} x")}
    assert kinds <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special", "code_inline"}


@laws
@given(st.dictionaries(text, json_values, max_size=4))
def test_bullets(values):
    """Details are a list, and nothing else."""
    kinds = {token.type.removesuffix("_open").removesuffix("_close") for token in flat("\n".join(bullets(values)))}
    kinds -= {"inline", "text", "text_special", "code_inline", "softbreak"}
    assert kinds <= {"bullet_list", "list_item", "paragraph"}


def test_token_list():
    """Tokens are quoted, their spaces kept, and of a long list the first sixty are shown."""
    assert bullets({"tokens": [" this", "完美", "a|b"]}) == ['- `tokens`: " this", "完美", "a&#124;b"']
    (line,) = bullets({"tokens": ["x"] * 100})
    assert line.endswith("... and 40 more in report.json")
    assert bullets({"heads": [{"layer": 17, "mass": 0.25}]}) == ["- `heads`:", "  - layer 17, mass 0.25"]


@pytest.mark.parametrize(
    ("written", "markdown"),
    [
        ("effect >= 0.9, p <= 0.05, n >= 16", "effect >= 0.9, p <= 0.05, n >= 16"),
        ("heads.ablation_disables", "heads.ablation_disables"),
        ("-0.3 [0.1, 0.2]", "-0.3 \\[0.1, 0.2\\]"),
        ("<b>", "&lt;b>"),
        ("- x", "\\- x"),
        ("1. x", "1\\. x"),
    ],
)
def test_readable_source(written, markdown):
    """What is harmless stays as it is: the file is read without a viewer too."""
    assert escape(written) == markdown


def test_table():
    """A table has a header, a rule and its rows."""
    assert table(("a", "b"), [("1", "2")]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |", ""]


CLAIM = {
    "claim": "heads.attend_target", "subject": "r1", "statement": "Some heads attend to the target.",
    "published": "33 of 576 heads", "setting": "3B, rollouts", "source": "Lee et al.",
}  # fmt: skip
MEASURED = {"effect": 0.9, "interval": (0.85, 0.95), "n": 64, "at_least": 0.5}
RIVAL = "a rival explains it: the last digit (margin -0.02)"


def published(**facts):
    quirks = ["one class only", "the last batch only"]
    return Finding(**CLAIM, **({"verdict": "holds", "quirks": quirks} | MEASURED | facts), tier="as_published")


def audited(**facts):
    figures = {"verdict": "refuted", "reasons": [RIVAL], "p_value": 0.0033, "alpha": 0.05, "family": 3, "draws": 20}
    return Finding(**(CLAIM | MEASURED | figures | facts), tier="audited")


def below(page, heading):
    """The lines below a heading, up to the next one of its rank or above."""
    lines = page.splitlines()
    ranks = tuple("#" * rank + " " for rank in range(1, len(heading.split()[0]) + 1))
    after = lines[lines.index(heading) + 1 :]
    return list(itertools.takewhile(lambda line: not line.startswith(ranks), after))


def test_ladder_first():
    """A report opens with what was examined and how far it verifies: rung, sentence, figures."""
    ladder = Ladder(rung="latent", sentence="It knows, and says `not` to all.", figures={"AUC": {"foil": 0.9}})
    lines = render(report([audited()], ladder=ladder)).splitlines()
    assert lines[2] == "Examined: **r1**. SHA-256 of weights: `unknown`"
    assert lines[4:11] == [
        "## How far it verifies", "", "**latent**: It knows, and says \\`not\\` to all.", "", "- `AUC`:",
        "  - `foil`: 0.9", "",
    ]  # fmt: skip
    assert "This was not measured." in below(render(report([audited()])), "## How far it verifies")


def test_matrix():
    """The first table has a row a claim and a column a tier: verdicts with effects, in bold where not expected."""
    cases = [audited(case="zero", effect=0.12), audited(case="mean", verdict="holds"), audited(case="x", effect=0.2)]
    other = audited().model_copy(update={"claim": "a.b", "expected": "refuted"})
    page = render(report([*cases, published(), other]))
    assert below(page, "## Claims")[1:6] == [
        "| Claim | As published | Audited |",
        "| --- | --- | --- |",
        "| `heads.attend_target` | holds, 0.90 [0.85, 0.95] | **refuted** (`zero` 0.12, `x` 0.2), holds (`mean` 0.9) |",
        "| `a.b` | - | refuted, 0.90 [0.85, 0.95] |",
        "",
    ]


def test_side_by_side():
    """A claim is told once, then its tiers side by side, with p beside what the family allows."""
    section = below(render(report([audited(), published()])), "### `heads.attend_target`")
    assert section[1:16] == [
        "Some heads attend to the target.",
        "",
        "- **Published:** 33 of 576 heads",
        "- **Setting:** 3B, rollouts",
        "- **Source:** Lee et al.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| as published | - | holds | 0.90 [0.85, 0.95] | 0.5 | 64 | - |",
        "| audited | - | **refuted** (expected holds) | 0.90 [0.85, 0.95] | 0.5 | 64 | 0.0033 (0.017 = 0.05 / 3) |",
        "",
        "**What made the difference:** as_published holds (0.9); audited is refuted (0.9): a rival explains it: "
        "the last digit (margin -0.02).",
        "",
        "#### As published",
        "",
    ]
    assert "\n".join(section).count("Some heads attend to the target.") == 1


def test_what_stands_behind():
    """Quirks, reasons, rivals, validity checks, null, seeds and the reason of the threshold each have their line."""
    facts = {
        "threshold": "effect >= 0.5", "threshold_reason": "half of it", "null_of": "random heads", "distinct": 24,
        "null_summary": {"mean": 0.1, "p95": 0.2, "max": 0.3}, "selected": ["L3H1", "L4H0"], "spread": 0.3,
        "jaccard": 0.5, "expected_reason": "it looks elsewhere", "measure": "mass",
        "controls": [
            {"name": "the last digit", "kind": "rival", "margin": -0.02, "interval": (-0.03, -0.01)},
            {"name": "other text", "kind": "validity", "margin": 0.4, "interval": (0.3, 0.5)},
        ],
        "seeds": [{"seed": 11, "verdict": "refuted", "effect": 0.9, "interval": (0.85, 0.95)},
                  {"seed": 12, "verdict": "error"}],
    }  # fmt: skip
    page = render(report([audited(**facts), published()]))
    told = below(page, "#### Audited")
    for line in (
        "- **Measured:** mass",
        "- **Demanded:** effect >= 0.5 (half of it)",
        f"- **Because:** {RIVAL}",
        "- **Why another was expected:** it looks elsewhere",
        "- **Rivals:** the last digit: margin -0.020 \\[-0.030, -0.010\\]",
        "- **Validity checks:** other text: margin 0.40 \\[0.30, 0.50\\]",
        "- **Null:** random heads; the effect under 20 draws of the 24 that exist: mean 0.1, 95th percentile 0.2, "
        "largest 0.3",
        "- **Chosen on the fit half:** `L3H1`, `L4H0`",
        "- **By seed:** 11 refuted, 0.90 \\[0.85, 0.95\\]; 12 error; spread of the effect 0.3, Jaccard of what was "
        "chosen 0.5",
    ):
        assert line in told
    quirks = "- **Quirks of the protocol, kept on purpose:** one class only; the last batch only"
    assert quirks in below(page, "#### As published")


def test_shared_facts_are_said_once():
    """What the cases of a tier share is listed once, what is a case's own under its name."""
    same = {"measure": "mass", "threshold": "effect >= 0.5"}
    made = [audited(case="zero", **same), audited(case="mean", **same, reasons=["too small"]), published()]
    told = below(render(report(made)), "#### Audited")
    assert told.count("- **Measured:** mass") == 1
    assert told.index("- **Measured:** mass") < told.index("`zero`: **refuted**")
    assert told.index("`mean`: **refuted**") < told.index("- **Because:** too small")


def test_page():
    """A reader finds the outcome, the picture and the provenance."""
    page = render(
        report([audited(), published()], seeds=[7, 8], tiers=["audited"]), [Picture(), Picture("figures/x.svg")]
    )
    line = "**Outcome:** 1 of 2 verdicts is not as expected: heads.attend_target refuted (expected holds)."
    assert line in page.splitlines()
    assert "![heads.attend_target@as_published](figures/x.svg)" in below(page, "#### As published")
    assert "| Seeds | 7, 8 |" in page
    assert "| Tiers | audited |" in page


def test_huge_names():
    """Names, tokens and details of a megabyte are cut: the page stays one that can be read."""
    huge = "完|\x1b[31m`" * 150_000
    texts = dict.fromkeys(("case", "threshold", "null_of", "setting", "measure", "claim"), huge)
    made = audited(**texts, reasons=[huge], selected=[huge] * 3, controls=[{"name": huge}], details={huge: [huge] * 2})
    many = audited(details={f"L{at}": {f"H{head}": 0.1 for head in range(500)} for at in range(500)})
    page = render(report([made, many], huge, command=huge), [Picture(problem=huge)] * 2)
    assert len(page) < 400_000
    assert "... and 440 more in report.json" in page
