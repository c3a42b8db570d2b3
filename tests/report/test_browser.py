"""The report's page in a real browser: what its script does, and what its style looks like."""

import json
import re

import numpy as np
import pytest

from .browser import open_browser, serious_violations, show
from .conftest import ALERT

PHONE = 390  # pixels of width
PAPER = {"width": 703, "height": 1000, "deviceScaleFactor": 1, "mobile": False}  # A4 in pixels
READY = "return document.querySelectorAll('#plot-norms .scatterlayer .point').length"


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    browser = open_browser(str(tmp_path_factory.mktemp("profile")))
    yield browser
    browser.quit()


@pytest.fixture
def opened(driver, request):
    """A function: a page on a screen of this width; what the browser complained of fails the test."""
    driver.get_log("browser")  # forget what the last test left

    def open_page(path, width=1280, dark=False):
        show(driver, width, dark=dark)
        driver.get(path.resolve().as_uri())
        return driver

    yield open_page
    assert [entry["message"] for entry in driver.get_log("browser")] == []


def until(driver, script, *arguments):
    """What a script returns once that is something."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 30).until(lambda d: d.execute_script(script, *arguments))


def drawn(driver, key):
    """Scroll to a plot, wait for it."""
    script = """const place = document.getElementById('plot-' + arguments[0]);
        place.scrollIntoView({block: 'center', behavior: 'instant'});
        return place.querySelector('.main-svg') && place.data.length"""
    until(driver, script, key)
    return driver.find_element("id", f"plot-{key}")


def column(driver, table, number):
    script = """return [...document.querySelector(arguments[0]).tBodies[0].rows]
        .filter((row) => !row.hidden).map((row) => row.cells[arguments[1]].textContent.trim())"""
    return driver.execute_script(script, table, number)


def test_every_plot_is_drawn_and_nothing_is_fetched(opened, page):
    driver = opened(page)
    keys = driver.execute_script("return [...document.querySelectorAll('.plot')].map((p) => p.id)")
    assert {"plot-norms", "plot-heat-0", "plot-heat-groups-1", "plot-tide"} <= set(keys)
    for key in keys:
        drawn(driver, key.removeprefix("plot-"))
    fetched = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    names = driver.execute_script(fetched)
    assert all(name.startswith(("data:", "blob:")) for name in names)
    buttons = driver.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map((b) => b.dataset.title)"
    )
    assert buttons and not [
        title for title in buttons if "Share" in title or "Chart Studio" in title
    ]


def test_hovering_a_point_shows_the_class_as_text(opened, page):
    from selenium.webdriver import ActionChains

    driver = opened(page)
    plot = drawn(driver, "norms")
    points = plot.find_elements("css selector", ".scatterlayer .trace:first-child .point")
    names = driver.execute_script("return document.getElementById('plot-norms').data[0].text")
    place = next(number for number, name in enumerate(names) if "alert" in name)
    ActionChains(driver).move_to_element(points[place]).perform()
    words = "return document.querySelector('#plot-norms .hoverlayer')?.textContent"
    assert ALERT in until(driver, words) and "training images" in until(driver, words)


def test_sorting_puts_numbers_in_order_and_what_is_missing_last(opened, page):
    driver = opened(page)
    heads = driver.find_elements("css selector", "#class-table thead th")
    number = [head.text.split("\n")[0].strip(" ↕") for head in heads].index("training images")
    button = heads[number].find_element("tag name", "button")
    for order in ("descending", "ascending"):
        driver.execute_script("arguments[0].click()", button)
        values = [int(text) for text in column(driver, "#class-table", number)]
        assert heads[number].get_attribute("aria-sort") == order
        assert values == sorted(values, reverse=order == "descending") and len(set(values)) > 2
    aps = next(n for n, head in enumerate(heads) if "box AP, difference" in head.text)
    driver.execute_script("arguments[0].click()", heads[aps].find_element("tag name", "button"))
    assert heads[number].get_attribute("aria-sort") == "none"
    assert column(driver, "#class-table", aps)[-1] == "–"  # the class without objects


def test_the_filter_holds_for_table_plots_and_pairs(opened, page):
    driver = opened(page)
    drawn(driver, "norms")
    everything = until(driver, READY)
    driver.find_element("id", "search").send_keys("SQUARE")
    assert column(driver, "#class-table", 0) == ["square"]
    assert driver.find_element("id", "count").text == "1 of 4 classes"
    drawn(driver, "norms")
    assert until(driver, f"return {READY.removeprefix('return ')} === 2") and everything == 8
    for pair in zip(*(column(driver, "#pair-table", number) for number in (0, 1))):
        assert "square" in pair
    driver.find_element("id", "search").clear()
    driver.find_element("id", "search").send_keys("nothing is called so")
    assert column(driver, "#class-table", 0) == []
    driver.execute_script(
        """const search = document.getElementById('search'); search.value = '';
        const group = document.getElementById('group'); group.value = 'r';
        group.dispatchEvent(new Event('change'))"""
    )
    assert len(column(driver, "#class-table", 0)) == 4  # eight images make every class rare


def test_the_curve_that_is_chosen_is_shown(opened, page):
    driver = opened(page)
    plot = drawn(driver, "curves")
    driver.execute_script(
        """const curve = document.getElementById('curve'); curve.value = 'lr';
        curve.dispatchEvent(new Event('change'))"""
    )
    title = "return document.querySelector('#plot-curves .ytitle')?.textContent === 'lr'"
    assert until(driver, title) and plot.is_displayed()


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_scrolls_down_only(opened, page, dark):
    driver = opened(page, PHONE, dark)
    for place in driver.find_elements("css selector", ".plot"):
        drawn(driver, place.get_attribute("id").removeprefix("plot-"))
    wide = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide[0] <= wide[1] == PHONE
    assert driver.execute_script(
        "return [...document.querySelectorAll('.plot svg')].every((s) => s.clientWidth <= 390)"
    )


def luminance(color):
    """Relative luminance of WCAG 2."""
    channels = np.array([int(c) for c in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_in_the_light_and_in_the_dark(opened, page, dark):
    driver = opened(page, dark=dark)
    drawn(driver, "norms")
    style = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    paper = luminance(driver.execute_script(style, "body", "backgroundColor"))
    assert (paper < 0.1) == dark
    for what, key in (
        ("p", "color"), ("nav a", "color"), ("td", "color"), (".group.r", "color"),
        ("figcaption", "color"), ("#plot-norms .xtick text", "fill"),
    ):  # fmt: skip
        ink = luminance(driver.execute_script(style, what, key))
        contrast = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
        assert contrast >= 4.5, what
    button = driver.find_element("id", "theme")
    driver.execute_script("arguments[0].click()", button)
    now = luminance(driver.execute_script(style, "body", "backgroundColor"))
    assert (now < 0.1) != dark and button.get_attribute("aria-pressed") == json.dumps(not dark)


def test_lvis_opens_and_is_searched(opened, large_page):
    driver = opened(large_page)
    assert driver.find_element("id", "count").text == "1203 of 1203 classes"
    driver.find_element("id", "search").send_keys("class 120")
    assert column(driver, "#class-table", 0) == [f"class {n}" for n in (120, 1200, 1201, 1202)]
    drawn(driver, "heat-0")
    assert (
        driver.execute_script("return document.getElementById('plot-heat-0').data[0].z.length")
        == 60
    )


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_serious_violation(opened, page, dark):
    driver = opened(page, dark=dark)
    for place in driver.find_elements("css selector", ".plot"):
        drawn(driver, place.get_attribute("id").removeprefix("plot-"))
    assert serious_violations(driver) == []


def test_a_phone_shows_ap_of_rare_classes_at_once(opened, page):
    driver = opened(page, PHONE)
    right = driver.execute_script(
        """const table = document.getElementById('results-1');
        const place = [...table.rows[0].cells].findIndex((c) => c.textContent.trim() === 'APr');
        return Math.max(...[...table.rows].map((r) => r.cells[place].getBoundingClientRect().right))"""
    )
    assert 0 < right <= PHONE


@pytest.mark.parametrize("width", [PHONE, 1280])
def test_no_word_is_broken(opened, page, width):
    """Every word of the tables' heads and first columns is on one line."""
    driver = opened(page, width)
    broken = driver.execute_script(
        """const broken = [];
        const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
          const node = walker.currentNode;
          if (!node.parentElement.closest('th, caption, h2, h3, p')) continue;
          for (const { 0: word, index } of node.textContent.matchAll(/[\\p{L}\\d_]+/gu)) {
            const range = document.createRange();
            range.setStart(node, index);
            range.setEnd(node, index + word.length);
            const lines = new Set([...range.getClientRects()].map((r) => Math.round(r.top)));
            if (lines.size > 1 && word.length < 30) broken.push(word);
          }
        }
        return broken"""
    )
    assert broken == []


def test_the_menu_stays_and_says_where_the_reader_is(opened, page):
    driver = opened(page)
    driver.execute_script("document.getElementById('errors').scrollIntoView({behavior: 'instant'})")
    now = "return document.querySelector('nav a[aria-current]')?.hash === '#errors'"
    assert until(driver, now)
    top = "return document.querySelector('nav').getBoundingClientRect().top"
    assert driver.execute_script(top) == 0


def test_the_second_run_looks_the_same_in_every_plot(opened, page):
    """Its only trace of the class factor is a diamond as in the plots of both."""
    driver = opened(page)
    markers = {}
    for key in ("norms", "class-factor"):
        drawn(driver, key)
        markers[key] = driver.execute_script(
            """return document.getElementById('plot-' + arguments[0]).data
            .filter((t) => t.meta && t.name === 'IIF').map((t) => t.marker.symbol)""", key
        )  # fmt: skip
    assert markers == {"norms": ["diamond-open"], "class-factor": ["diamond-open"]}
    colors = {}
    for key in ("tide", "calibration", "curves"):
        drawn(driver, key)
        colors[key] = driver.execute_script(
            """return document.getElementById('plot-' + arguments[0]).data
            .map((t) => t.marker.color)""", key
        )  # fmt: skip
    assert colors["tide"] == colors["calibration"] == colors["curves"]
    assert len(set(colors["tide"])) == 2


@pytest.mark.parametrize("dark", [False, True])
def test_print_cuts_nothing(opened, page, dark):
    """On paper everything is drawn, as wide as the paper, none over another, and in light."""
    driver = opened(page, dark=dark)
    before = driver.execute_script("return document.documentElement.dataset.theme")
    liked = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": liked})
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PAPER)
    driver.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    boxes = driver.execute_script(
        """return [...document.querySelectorAll('figure, table, .plot .main-svg')].map((e) => {
          const r = e.getBoundingClientRect(); return [e.tagName, r.left, r.right, r.top, r.bottom] })"""
    )
    plots = driver.execute_script("return document.querySelectorAll('.plot').length")
    assert sum(tag == "svg" for tag, *_ in boxes) >= plots > 5
    assert all(
        left >= 0 and right <= PAPER["width"] for tag, left, right, *_ in boxes if tag == "svg"
    )
    figures = sorted((top, bottom) for tag, _, _, top, bottom in boxes if tag == "FIGURE")
    rows = {}
    for top, bottom in figures:  # pictures side by side have one top
        rows[round(top)] = max(bottom, rows.get(round(top), 0))
    tops = sorted(rows)
    assert all(rows[one] <= other + 1 for one, other in zip(tops, tops[1:]))
    assert driver.execute_script("return document.documentElement.dataset.theme") == "light"
    driver.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert driver.execute_script("return document.documentElement.dataset.theme") == before
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
