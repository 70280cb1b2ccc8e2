"""report.md: whatever a token, a name or a detail holds, it is shown and does nothing."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reports.figures import Picture
from reports.finding import Finding
from reports.markdown import COLUMNS, render
from reports.markup import bullets, code, escape, table
from reports.schema import Environment, Report
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
TEXTS = ("claim", "case", "subject", "statement", "source", "published", "measure", "threshold", "null_of")
findings = st.builds(
    lambda texts, **facts: Finding(verdict="refuted", **texts, **facts),
    st.fixed_dictionaries(dict.fromkeys(TEXTS, text)),
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
    controls=st.lists(st.fixed_dictionaries({"name": text, "margin": st.floats()}), max_size=2),
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
    page = render(report(made, name, command=command), [Picture(problem=problem)] * len(made))
    assert "<script" not in page
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\ud800-\udfff]", page) is None
    kinds = [token.type for token in flat(page)]
    assert not {"html_inline", "html_block", "link_open", "image", "fence", "code_block", "hr"} & set(kinds)
    assert not {"blockquote_open", "ordered_list_open", "s_open"} & set(kinds)
    differing = "## Where the two tiers differ" in page.splitlines()
    assert kinds.count("heading_open") == 5 + len(made) + differing
    assert kinds.count("table_open") == 3
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in rows[: 2 + len(made)]] == [len(COLUMNS) + 1] * (2 + len(made))
    assert {line.count("|") for line in rows[2 + len(made) :]} == {3}


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


def test_page():
    """A reader finds the outcome, the unexpected verdict with its reason, the picture and the provenance."""
    facts = {"claim": "heads.ablation_disables", "subject": "r1", "statement": "Those heads are needed."}
    measured = {"effect": 0.9, "interval": (0.85, 0.95), "n": 64, "p_value": 0.005}
    published = Finding(**facts, **measured, tier="as_published", verdict="holds")
    audited = Finding(**facts, tier="audited", verdict="refuted", reasons=["control explains it: a constant answer"])
    page = render(report([audited, published], seeds=[7, 8]), [Picture(), Picture("figures/x.svg")])
    assert "**Outcome:** 1 of 2 verdicts is not as expected: heads.ablation_disables refuted (expected holds)." in page
    assert "as_published holds (0.9); audited is refuted: control explains it: a constant answer." in page
    assert "**refuted** (expected holds), because control explains it: a constant answer" in page
    assert "![heads.ablation_disables@as_published](figures/x.svg)" in page
    assert "| `heads.ablation_disables` | - | as published | 0.90 [0.85, 0.95] | - | - | 64 | 0.005 | holds |" in page
    assert "| Seeds | 7, 8 |" in page
