"""The page in a browser: silent, offline, usable by keyboard, legible in the dark, printable, free of known barriers.

Drives the machine's own Chromium; nothing is downloaded. axe-core looks for what keeps people from reading a page.
"""

import io
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from example import ARMS, example_inputs
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from pypdf import PdfReader
from refresh_example import EXAMPLE

from tapfm_eval.report.blocks import Content
from tapfm_eval.report.content import WATERMARK, build_content
from tapfm_eval.report.csvfile import table_csv
from tapfm_eval.report.figures import draw
from tapfm_eval.report.html import render_html

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
pytestmark = pytest.mark.xdist_group("browser")  # one browser for all


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} is on the PATH")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def content() -> Content:
    """Every kind of section, in few rows: what holds for three arms on two targets holds for more."""
    return build_content(example_inputs(rehearsal=True, arms=ARMS[:3], targets=("EGFR", "ALK")))


@pytest.fixture(scope="module")
def address(content: Content, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_html(content, {figure.id: draw(figure.drawing) for figure in content.figures}), "utf-8")
    return path.as_uri()


def opened(browser: Browser, address: str, *, width: int = 1280, dark: bool = False, script: bool = True) -> Page:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        java_script_enabled=script,
        accept_downloads=True,
        offline=True,
    )
    page = context.new_page()
    page.goto(address)
    return page


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Page:
    """One page for tests that leave nothing behind which another could trip over."""
    return opened(browser, address)


def column(table: Locator, number: int) -> list[list[str]]:
    """The texts of a column, body by body, without sub-headings."""
    script = """(table, number) => [...table.tBodies].map(body =>
        [...body.querySelectorAll('tr:not(.group)')].map(row => row.cells[number].textContent))"""
    found: list[list[str]] = table.evaluate(script, number)
    return found


def squeezed(text: str) -> str:
    """Text without white space, ligatures as their letters."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def numbers(texts: list[str]) -> list[float]:
    """What the texts begin with, where it is a number."""
    return [float(text.split()[0]) for text in texts if text[0].isdigit()]


def barriers(page: Page, *, within: str = "html", rules: tuple[str, ...] = ()) -> list[str]:
    """What axe-core finds on the page that is serious or critical, each with its first places; by default by all rules.

    It takes milliseconds a cell; rows past the second of each group are built like those before them and are left out.
    """
    page.evaluate("document.querySelectorAll('tbody tr:nth-child(n+4)').forEach(row => row.remove())")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    result: dict[str, Any] = page.evaluate("([within, options]) => axe.run(within, options)", [within, options])
    return [
        f"{found['id']}: {found['help']}: {[node['html'][:150] for node in found['nodes'][:3]]}"
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
    ]


def test_the_page_opens_in_silence_and_asks_for_nothing(browser: Browser, address: str) -> None:
    for each in (address, (EXAMPLE / "report.html").as_uri()):
        context = browser.new_context()
        said: list[str] = []
        asked: list[str] = []
        new = context.new_page()
        new.on("console", lambda message, said=said: said.append(message.text))
        new.on("pageerror", lambda error, said=said: said.append(str(error)))
        new.on("request", lambda request, asked=asked: asked.append(request.url))
        new.goto(each)
        new.keyboard.press("End")
        new.locator("thead button").first.click()
        new.locator("#theme").click()
        assert said == []
        assert asked == [each]
        context.close()


def test_a_column_is_sorted_within_its_groups_and_unknown_values_stay_last(page: Page) -> None:
    table = page.locator("#table-auroc table")
    number = table.locator("thead th").all_inner_texts().index("AUROC (95%\u00a0CI)")
    before = column(table, number)
    head = table.locator("thead th").nth(number)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    ascending = column(table, number)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    descending = column(table, number)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert column(table, number) == before
    assert ascending != before
    for first, up, down in zip(before, ascending, descending, strict=True):
        assert sorted(first) == sorted(up) == sorted(down)
        known = sorted(numbers(first))
        assert numbers(up[: len(known)]) == known
        assert numbers(down[: len(known)]) == known[::-1]
    assert any(len(rows) > len(numbers(rows)) for rows in before)  # some are not estimable


def test_sorting_works_by_keyboard_and_only_one_column_says_that_it_is_sorted(page: Page) -> None:
    table = page.locator("#table-operating-points table")
    heads = table.locator("thead th")
    heads.nth(1).locator("button").focus()
    page.keyboard.press("Enter")
    assert column(table, 1) == [sorted(rows) for rows in column(table, 1)]
    page.keyboard.press("Space")
    assert heads.nth(1).get_attribute("aria-sort") == "descending"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert table.locator("th[aria-sort]").all_inner_texts() == [heads.nth(2).inner_text()]
    assert page.evaluate("document.activeElement.closest('th').ariaSort") == "ascending"


def test_the_page_is_walked_by_keyboard(browser: Browser, address: str) -> None:
    fresh = opened(browser, address)
    fresh.keyboard.press("Tab")
    assert fresh.evaluate("document.activeElement.className") == "skip"
    assert fresh.locator(".skip").bounding_box()["x"] >= 0
    fresh.keyboard.press("Enter")
    assert fresh.evaluate("document.activeElement.id") == "content"
    stops = fresh.evaluate(
        "[...document.querySelectorAll('a[href], button, [tabindex=\"0\"]')].filter(e => e.tabIndex >= 0).length"
    )
    assert stops > 40
    assert fresh.locator("[tabindex]:not([tabindex='0']):not([tabindex='-1'])").count() == 0


def test_every_entry_of_the_navigation_leads_to_its_section(page: Page, content: Content) -> None:
    links = page.locator("nav a")
    assert links.all_inner_texts() == [section.title for section in content.sections]
    for position in (len(content.sections) - 2, 3):
        links.nth(position).click()
        page.wait_for_function(
            "position => document.querySelectorAll('nav a')[position].ariaCurrent === 'true'", arg=position
        )
        top = page.locator(f"#{content.sections[position].id} h2").bounding_box()["y"]
        assert 0 <= top < 450
        assert page.locator("nav a[aria-current]").count() == 1


def test_light_and_dark_change_places_and_the_figures_with_them(browser: Browser, address: str) -> None:
    dark = opened(browser, address, dark=True)
    colours = """() => [document.body, document.querySelector('.drawing text'), document.querySelector('h1')].map(
        (e, i) => getComputedStyle(e)[i == 0 ? 'backgroundColor' : i == 1 ? 'fill' : 'color'])"""
    night = dark.evaluate(colours)
    button = dark.locator("#theme")
    assert (button.inner_text(), button.get_attribute("aria-pressed")) == ("Light", "true")
    button.click()
    day = dark.evaluate(colours)
    assert (button.inner_text(), button.get_attribute("aria-pressed")) == ("Dark", "false")
    assert all(before != after for before, after in zip(night, day, strict=True))


def test_axe_finds_no_serious_barrier(browser: Browser, address: str) -> None:
    assert barriers(opened(browser, address)) == []


def test_axe_finds_none_on_a_narrow_screen(browser: Browser, address: str) -> None:
    rules = ("scrollable-region-focusable", "target-size", "meta-viewport", "scope-attr-valid", "td-headers-attr")
    assert barriers(opened(browser, address, width=400), rules=rules) == []


def test_every_text_is_legible_by_night(browser: Browser, address: str) -> None:
    night = opened(browser, address, dark=True)
    assert barriers(night, rules=("color-contrast",)) == []
    night.evaluate("document.querySelector('h1').style.color = '#333'")
    assert barriers(night, within="header", rules=("color-contrast",)) != []


def test_a_narrow_screen_scrolls_tables_and_not_the_page(browser: Browser, address: str) -> None:
    narrow = opened(browser, address, width=400)
    assert narrow.evaluate("document.documentElement.scrollWidth") == 400
    assert narrow.locator("#table-operating-points .scroll").evaluate("e => e.scrollWidth > e.clientWidth")
    wide = opened(browser, address)
    clipped = (
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)"
    )
    assert wide.evaluate(clipped) == []


def test_numerals_stay_on_one_line(page: Page) -> None:
    script = """() => [...document.querySelectorAll('td.number')].filter(cell =>
        !/[a-z]{3}/.test(cell.textContent) && cell.textContent && (() => {
            const range = document.createRange(); range.selectNodeContents(cell);
            return new Set([...range.getClientRects()].map(r => Math.round(r.top))).size > 1; })()
        ).map(cell => cell.textContent)"""
    assert page.evaluate(script) == []


def test_the_link_beside_a_table_saves_its_csv(page: Page, content: Content) -> None:
    table = next(table for table in content.tables if table.id == "auroc")
    with page.expect_download() as saving:
        page.locator("#table-auroc a.csv").click()
    assert saving.value.suggested_filename == "auroc.csv"
    assert saving.value.path().read_bytes() == table_csv(table).encode()


def test_the_page_prints_in_full_with_its_watermark_and_without_its_controls(page: Page, content: Content) -> None:
    printed = PdfReader(io.BytesIO(page.pdf(format="A4", prefer_css_page_size=True)))
    sheets = [sheet.extract_text() for sheet in printed.pages]
    whole = squeezed("".join(sheets))
    assert len(sheets) > 10
    assert all(squeezed(WATERMARK) in squeezed(sheet) for sheet in sheets)
    for block in (*content.tables, *content.figures):
        assert squeezed(block.caption) in whole, block.caption
    assert "Skiptothereport" not in whole
    assert not any(len(squeezed(sheet)) < 150 for sheet in sheets[:-1])


def test_everything_can_be_read_without_scripts(browser: Browser, address: str, content: Content) -> None:
    plain = opened(browser, address, script=False)
    assert not plain.locator("#theme").is_visible()
    assert plain.locator("table").count() == len(content.tables)
    assert plain.locator("main section").last.is_visible()
