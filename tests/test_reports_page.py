"""report.html as a file: what stands in it, how large it is, and that nothing in a name acts."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictured import pictured
from written_reports import finding, report

import reports
from reports.comparison import compare
from reports.finding import Finding
from reports.ladder import Ladder
from reports.page import GLYPHS, MOST_BYTES, SAID, render
from reports.page_text import spaced
from reports.pictures import Grid, Listing
from reports.schema import read_report

BASELINES = sorted((Path(reports.__file__).parent / "baselines").glob("*.json"))
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></script></title><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp;",
    "\x1b[31mred\x1b[0m",
    "\u202eright to left\u2066",
    "javascript:alert(1)",
]


class Tags(HTMLParser):
    """The elements and the words of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def kinds(self) -> list[str]:
        """The elements in their order, but for those that mark a space."""
        return [tag for tag, _ in self.elements if tag != "span"]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def hostile(text: str) -> str:
    """The page of a report in which every text is this one."""
    made = pictured(
        case=text, statement=text, source=text, published=text, setting=text, quirks=[text], null_of=text, measure=text,
        threshold_reason=text, reasons=[text], verdict="refuted", expected_reason=text, selected=[text], reference=text,
        details={text: text, "list": [text], "nested": {text: {text: [1, text]}}},
        controls=[{"name": text, "margin": 0.1, "interval": (0.0, 0.2)}], series_axis=text, series_unit=text,
        series={text: [0.1, 0.2], "other": [0.2, 0.1]}, bands={},
    )  # fmt: skip
    ladder = Ladder(rung="latent", sentence=text, figures={text: text})
    subject = {"name": text, "source": text, "other": {text: text}, "files": [{"name": text}]}
    whole = report(made, ladder=ladder, subject=subject, command=text)
    return render(whole, compare(report(finding()), whole))


def test_first_screen():
    """What was examined, the ladder's sentence and the matrix stand in this order, before any claim is unfolded."""
    ladder = Ladder(rung="latent", sentence="It knows, and does not say.")
    text = Tags(
        render(report(finding(statement="It stands."), finding(verdict="refuted", tier="as_published"), ladder=ladder))
    ).text
    places = [
        text.index(words) for words in ("r1", "It knows, and does not say.", "Which claims hold", "Claim by claim")
    ]
    assert places == sorted(places)
    matrix = text[places[2] : places[3]]
    for verdict in ("holds", "refuted"):
        assert f"{GLYPHS[verdict]} {SAID[verdict]}" in matrix


@pytest.mark.parametrize("verdict", SAID)
def test_words(verdict):
    """Every verdict has its glyph, its word and its class."""
    page = render(report(finding(verdict=verdict, n=64)))
    assert f'class="v {verdict}' in page
    assert SAID[verdict] in Tags(page).text


def test_unfolded():
    """A claim tells statement, source, published figure, effect, threshold, controls by kind, seeds and reasons."""
    made = finding(
        verdict="refuted", statement="It stands.", source="Lee", published="0.96", threshold_reason="half", n=64,
        reasons=["a rival explains it"], controls=[{"name": "repetition", "margin": -0.2, "interval": (-0.3, -0.1)},
        {"name": "other text", "kind": "validity", "margin": 0.2, "interval": (0.1, 0.3)}],
        seeds=[{"seed": 3, "verdict": "refuted", "effect": 0.8}], null=[0.1 * i for i in range(9)], null_of="random",
        series={"accuracy": [0.5, 0.9]}, details={"top_tokens": [" success", "ok"]},
    )  # fmt: skip
    text = Tags(render(report(made))).text
    for words in (
        "It stands.", "Lee", "0.96", "0.90 [0.80, 1.00]", "half", "repetition", "-0.20 [-0.30, -0.10]", "other text",
        "a rival explains it", "random", "accuracy", "64 problems", "By seed",
    ):  # fmt: skip
        assert words in text, words


def test_pictures():
    """Every kind of picture is there, with what its cells tell, as text in the page."""
    page = render(report(pictured()))
    assert page.count('class="heat') == 2
    assert 'class="passage"' in page
    assert page.count('class="rank"') == 12 * 9 * 10
    assert 'class="bandfill' in page


def test_white_space():
    """Spaces in a token are seen; other spaces and characters that act are spelled out; markup is escaped once."""
    assert spaced(" a b") == '<bdi><span class="ws">\u00b7</span>a<span class="ws">\u00b7</span>b</bdi>'
    assert spaced("\u00a0x\n\t\u202e") == "<bdi>\\u00a0x\\n\\t\\u202e</bdi>"
    assert spaced("<b>&amp;") == "<bdi>&lt;b&gt;&amp;amp;</bdi>"
    assert "empty" in spaced("")
    assert len(spaced("x" * 10**6)) < 200


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile(text):
    """Whatever a text holds, the page has the elements of a page with harmless texts, and shows the text."""
    tags, harmless = Tags(hostile(text)), Tags(hostile("harmless"))
    assert tags.kinds == harmless.kinds
    names = {name for _, attributes in tags.elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    for _, attributes in tags.elements:
        assert (attributes.get("href") or "#").startswith("#")
        assert "src" not in attributes
    assert not re.search("[\x1b\u202e\u2066]", hostile(text))
    if "\x1b" not in text and "\u202e" not in text:
        assert " ".join(text.split()) in tags.text


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.text(max_size=50))
def test_any_text(text):
    """No text changes the elements of the page, beyond a space that is marked."""
    kinds = Tags(hostile(text)).kinds
    assert [kinds.count(kind) for kind in ("script", "style", "img", "iframe")] == [1, 1, 0, 0]


def test_megabyte():
    """A name of a megabyte leaves a page of a few hundred kilobytes."""
    assert len(hostile("<b>\x1b" * 250_000).encode()) < 700_000


def test_size():
    """A page stays below its limit: pictures are left out, which is said, where it would not."""
    grid = {"title": "lens", "rows": ["0"] * 100, "columns": ["a"] * 100, "values": [[0.5] * 100] * 100}
    token = [{"token": "<" * 20, "value": 0.1}] * 10
    huge = finding(pictures=[Grid(**grid, more=[[token] * 100] * 100)] * 2)
    page = render(report(huge))
    assert len(page.encode()) < MOST_BYTES
    assert "2 pictures are left out here" in page


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_committed_reports(path):
    """The page of a committed report holds every claim of it, and asks for nothing from elsewhere."""
    made = read_report(path)
    page = render(made)
    assert len(page.encode()) < MOST_BYTES
    text = Tags(page).text
    for each in made.findings:
        assert each.claim in text
    assert not re.search(r'(src|href)="(?!#)', page)
    assert "@import" not in page
    assert "url(" not in page


def test_baseline():
    """What changed against the baseline is on the first screen, after where both runs come from."""
    old, new = report(finding()), report(finding(verdict="refuted"), weights="b")
    text = Tags(render(new, compare(old, new))).text
    assert text.index("other weights") < text.index("lost holds 0.90") < text.index("Which claims hold")


@pytest.mark.parametrize(
    "odd",
    [
        {"series": {"a": [None, None]}},
        {"series": {"layer": [0.0], "a": [1.0, 2.0]}},
        {"series": {"a": [1e308, -1e308]}},
        {"series": {"a": []}},
        {"null": [1e300] * 9},
        {"effect": 1e-300, "interval": None, "verdict": "refuted", "reasons": ["small"]},
        {"pictures": [Listing(title="none", columns=[], rows=[]), Grid(title="none", rows=[], columns=[], values=[])]},
    ],
    ids=str,
)
def test_odd_pictures(odd):
    """What cannot be drawn costs its picture, never the page."""
    assert "Claim by claim" in render(report(Finding.model_validate(finding().model_dump() | odd)))


def test_no_findings():
    """A run without findings has a page that says so."""
    assert "No claim was run" in Tags(render(report())).text
