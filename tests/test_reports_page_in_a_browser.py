"""report.html in headless Chromium: it unfolds, filters and tells, asks for nothing, and everyone can read it.

Skipped where there is no Chromium, or not the packages that drive it.
"""

from __future__ import annotations

import os
import shutil

import pytest
from pictured import pictured
from test_reports_page import HOSTILE, hostile
from written_reports import finding, report

from reports.comparison import compare
from reports.ladder import Ladder
from reports.page import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("no Chromium is installed (Debian: apt-get install chromium)", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[test]'")
LADDER = Ladder(
    rung="repetition", sentence="It tells numbers seen before.", figures={"AUC": {"foil": 0.9, "last": 0.5}}
)


def whole():
    """A report with every kind of thing, beside a baseline."""
    controls = [{"name": name, "kind": kind, "margin": 0.1, "interval": (0.0, 0.2)}
                for name, kind in (("repetition", "rival"), ("other text", "validity"))]  # fmt: skip
    seeds = [{"seed": 0, "verdict": "holds", "effect": 0.9, "interval": (0.8, 1.0)}]
    first = pictured(
        statement="Heads look.", published="0.96", controls=controls, seeds=seeds, details={"heads": {"L0H1": 0.3}}
    )
    second = finding("probe.decodable", "refuted", statement="It is decodable.", case="last_digit")
    others = [finding("a.other", verdict) for verdict in ("inconclusive", "not_applicable", "error", "not_run")]
    others = [each.model_copy(update={"case": each.verdict}) for each in others]
    made = report(first, second, *others, ladder=LADDER)
    return render(made, compare(report(finding("probe.decodable", case="last_digit"), ladder=LADDER), made))


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, tmp_path):
    """Opens HTML as a file; the console and whatever the page asked for are looked at when the test ends."""
    opened = []

    def open_(page: str, **settings):
        file = tmp_path / f"{len(opened)}.html"
        file.write_text(page, encoding="utf-8")
        context = chromium.new_context(**({"viewport": {"width": 1400, "height": 900}} | settings))
        tab = context.new_page()
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: said.append(dialog.message))
        tab.on("request", lambda request: said.append(request.url) if request.url != file.as_uri() else None)
        tab.goto(file.as_uri())
        opened.append((context, said))
        return tab

    yield open_
    for context, said in opened:
        context.close()
        assert said == []


def shown(tab):
    return [claim.get_attribute("id") for claim in tab.locator("details.claim").all() if claim.is_visible()]


def test_unfold(open_page):
    """A claim unfolds by mouse and by keyboard, and a link in the matrix unfolds what it points at."""
    tab = open_page(whole())
    body = tab.locator("details.claim .body").first
    assert not body.is_visible()
    tab.locator("details.claim > summary").first.press("Enter")
    assert body.is_visible()
    tab.locator("details.claim > summary").first.click()
    assert not body.is_visible()
    tab.locator(".matrix a.id").first.click()
    body.wait_for(state="visible")


def test_filter(open_page):
    """Verdicts and words choose claims; what fits none says so."""
    tab = open_page(whole())
    assert len(shown(tab)) == 3
    button = tab.locator("button.v.refuted")
    button.click()
    assert (len(shown(tab)), button.get_attribute("aria-pressed")) == (1, "true")
    tab.locator(".tools input").fill("nothing of this kind")
    assert shown(tab) == []
    assert tab.get_by_text("No claim fits.").is_visible()
    tab.locator(".tools input").fill("decodable")
    assert len(shown(tab)) == 1


def test_heat_map(open_page):
    """A cell tells its ten likeliest tokens when hovered over and when focused; arrows move, one tab stop a map."""
    tab = open_page(whole())
    tab.locator("details.claim > summary").first.click()
    cells = tab.locator(".heat.ranked tbody td")
    assert tab.locator(".heat.ranked tbody td:visible > .readout:visible").count() == 1
    for look in (lambda: cells.nth(10).hover(), lambda: (tab.mouse.move(0, 0), cells.nth(10).focus())):
        look()
        assert cells.nth(10).locator(".readout").is_visible()
        assert cells.nth(10).locator(".rank").count() == 10
    tab.keyboard.press("ArrowRight")
    assert cells.nth(11).locator(".readout").is_visible()
    assert not cells.nth(10).locator(".readout").is_visible()
    assert tab.locator(".heat.ranked tbody td[tabindex='0']").count() == 1


def test_without_javascript(open_page):
    """Everything is there without a script: details unfold, cells tell, and no dead control is shown."""
    tab = open_page(whole(), java_script_enabled=False)
    assert not tab.locator(".tools").is_visible()
    tab.locator("details.claim > summary").first.click()
    cell = tab.locator(".heat.ranked tbody td").nth(10)
    cell.hover()
    assert cell.locator(".readout").is_visible()


@pytest.mark.parametrize("width", [1400, 390, 320])
def test_no_sideways_scrolling(open_page, width):
    """The page is as wide as the window; wide tables scroll by themselves."""
    tab = open_page(whole(), viewport={"width": width, "height": 800})
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_everyone_can_read_it(open_page, width, scheme):
    """axe finds nothing serious, folded or unfolded, in light and dark, wide and narrow."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    tab = open_page(whole(), color_scheme=scheme, viewport={"width": width, "height": 900})
    for unfolded in (False, True):
        if unfolded:
            tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        found = axe.Axe().run(tab).response["violations"]
        told = [
            (each["id"], each["nodes"][0]["html"][:200]) for each in found if each["impact"] in ("serious", "critical")
        ]
        assert told == []


def test_print(open_page):
    """In print the filters are gone and the claims unfold."""
    tab = open_page(whole())
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.emulate_media(media="print")
    assert not tab.locator(".tools").is_visible()
    assert tab.locator("details.claim .body").first.is_visible()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile(open_page, text):
    """Names and tokens of any kind run nothing, ask for nothing, and turn nothing round."""
    tab = open_page(hostile(text))
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert tab.locator("img, iframe, object, embed").count() == 0
    assert tab.locator("script").count() == 1
