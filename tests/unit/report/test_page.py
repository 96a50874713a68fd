"""The page in a real browser: drawn, usable with mouse and keyboard, silent, and safe from the names in it."""

import os
from itertools import combinations, pairwise
from math import comb
from pathlib import Path

import builders
import numpy as np
import pandas as pd
import pytest
from browser import open_in

from tlm_search.report.compare import write_comparison
from tlm_search.report.evidence import Evidence
from tlm_search.report.html import write_report

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
DRAWN = ".main-svg .trace path, .main-svg .point, .main-svg .hm image, .main-svg .lines path"
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # a folder in which the pictures stay, to look at them


@pytest.fixture(scope="module")
def study(stored_study, tmp_path_factory):
    return stored_study(
        tmp_path_factory.mktemp("stored"),
        builders.grid(24, rows=200),
        name=f"study {HOSTILE}",
        description=HOSTILE,
        labels=(HOSTILE, "b&c", "</script>", "d", "e"),
        constraints=["parameters <= 2e6"],
    )


@pytest.fixture(scope="module")
def written(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evidence, "test_texts", lambda self, rows: {row: f"text {row} {HOSTILE}" for row in rows})
        return write_report(study.record, study.store, out)


@pytest.fixture(scope="module")
def compared(study, stored_study, tmp_path_factory):
    other = stored_study(tmp_path_factory.mktemp("other"), builders.grid(6, rows=200), name="other")
    stores = {study.record.name: study.store, "other": other.store}
    out = tmp_path_factory.mktemp("compared")
    return write_comparison([study.record, other.record], lambda record: stores[record.name], out)


@pytest.fixture(scope="module")
def desktop(chromium, written):
    """The page in one window that several tests share; none of them leaves it changed."""
    opened = open_in(chromium, written)
    opened.page.wait_for_selector("html[data-drawn]")
    yield opened
    opened.page.context.close()


def picture(opened, name, folder):
    path = Path(SCREENSHOTS or folder) / f"{name}.png"
    opened.page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 50_000  # something was painted


def wait_until(page, condition):
    """Wait for a condition in JavaScript; Playwright's own way would be refused by the page's security policy."""
    while not page.evaluate(condition):
        page.wait_for_timeout(50)


def expect_clean(opened):
    page = opened.page
    page.wait_for_selector("html[data-drawn]")
    empty = page.evaluate(
        "drawn => [...document.querySelectorAll('.plot')].filter(p => !p.querySelector(drawn)).map(p => p.id)", DRAWN
    )
    assert empty == []
    assert opened.requests_outside == []
    assert opened.problems == []
    # Nothing is wider than the window, and no figure wider than its card, once the figures have followed the window.
    wait_until(page, "document.documentElement.scrollWidth <= innerWidth")
    wait_until(
        page, "[...document.querySelectorAll('.plot')].every(p => p.scrollWidth <= p.closest('.figure').clientWidth)"
    )


def test_every_figure_is_drawn_and_nothing_leaves_the_page(desktop, tmp_path):
    expect_clean(desktop)
    ids = desktop.page.evaluate("[...document.querySelectorAll('.plot')].map(plot => plot.dataset.figure)")
    assert {"frontier", "gain", "facet_0", "latency_ms", "parameters", "training_flops"} <= set(ids)
    assert {"pretraining", "loss", "diversity", "members", "calibration", "labels", "confusion"} <= set(ids)
    assert {"history", "importance", "parallel", "slice_heads"} <= set(ids)
    assert brightness(desktop.page) > 600
    picture(desktop, "report_1440", tmp_path)


def test_a_phone_in_the_dark_shows_all_of_it(open_page, written, tmp_path):
    opened = open_page(written, width=390, dark=True)
    expect_clean(opened)
    assert brightness(opened.page) < 300
    number = opened.page.locator("#figure-confusion .heatmap-label text").first
    assert number.evaluate("n => getComputedStyle(n).fill") == opened.page.evaluate(
        "getComputedStyle(document.body).color"
    )
    picture(opened, "report_390", tmp_path)


def brightness(page):
    return sum(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))


def test_studies_side_by_side_are_drawn(open_page, compared, tmp_path):
    opened = open_page(compared)
    for width in (1440, 390):
        opened.page.set_viewport_size({"width": width, "height": 900})
        wait_until(opened.page, "innerWidth === document.querySelector('html').clientWidth")
        expect_clean(opened)
        picture(opened, f"compared_{width}", tmp_path)
    assert "other: best committee" in opened.page.inner_text("main")
    assert HOSTILE in opened.page.inner_text("h1")


def test_names_and_texts_stay_text(desktop):
    opened = desktop
    page = opened.page
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    expect_clean(opened)
    assert page.inner_text("h1") == f"study {HOSTILE}"
    assert HOSTILE in page.inner_text(".texts tbody tr:first-child th")
    assert page.evaluate("document.querySelectorAll('main script, main img, main [onerror]').length") == 0
    row = page.evaluate("document.getElementById('figure-labels').data[0].y.findIndex(y => y.includes('alert'))")
    assert HOSTILE in hover(page, "#figure-labels", 0, row)
    assert dialogs == []


def test_lines_are_switched_by_mouse_and_by_keyboard(desktop):
    page = desktop.page
    chip = page.locator('[data-for="figure-frontier"] .chip').nth(1)
    name = chip.inner_text()
    shown = "name => document.getElementById('figure-frontier').data.filter(t => t.name === name).map(t => t.visible)"
    assert chip.get_attribute("aria-pressed") == "true"
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"
    assert page.evaluate(shown, name) == ["legendonly"]
    chip.focus()
    page.keyboard.press("Space")
    assert chip.get_attribute("aria-pressed") == "true"
    assert page.evaluate(shown, name) == [True]
    band = page.get_by_role("button", name="95% of the best one's committees")
    for visible in (True, "legendonly"):
        band.click()
        assert page.evaluate(shown, "95% of the best one's committees") == [visible]


def hover(page, figure, trace, point=0):
    """Rest the mouse on a point of a trace of markers, until its label is there, and return the label."""
    point = page.locator(f"{figure} .scatterlayer .trace").nth(trace).locator(".point").nth(point)
    point.scroll_into_view_if_needed()
    label = page.locator(f"{figure} .hovertext")
    while not label.count():
        box = point.bounding_box()
        page.mouse.move(0, 0)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
        page.wait_for_timeout(200)
    return page.text_content(f"{figure} .hoverlayer")


def test_a_point_tells_its_facts(desktop):
    page = desktop.page
    traces = page.locator("#figure-frontier .scatterlayer .trace")
    with_points = [place for place in range(traces.count()) if traces.nth(place).locator(".point").count()]
    told = hover(page, "#figure-frontier", with_points[0], -1)  # all members: only of these the latency was measured
    for word in ("on test", "95% interval", "validation", "ms", "parameters", "FLOPs"):
        assert word in told


def test_configurations_are_sorted_by_any_column(desktop):
    page = desktop.page
    head = page.locator("#configurations-table th", has_text="parameters").first
    for order, better in (("descending", max), ("ascending", min)):
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == order
        place = page.evaluate("head => head.cellIndex", head.element_handle())
        cells = page.locator(f"#configurations-table tbody tr :nth-child({place + 1})")
        values = [float(cells.nth(row).get_attribute("data-value")) for row in range(cells.count())]
        assert values[0] == better(values)


def test_headings_follow_each_other_and_everything_has_a_name(desktop):
    page = desktop.page
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    named = (
        "[...document.querySelectorAll('button')].every(b => b.textContent.trim() || b.ariaLabel || b.dataset.title)"
    )
    assert page.evaluate(named)
    assert page.evaluate("[...document.querySelectorAll('.plot')].every(p => p.getAttribute('aria-label').length > 20)")
    assert page.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")


def test_it_prints_without_what_only_a_screen_can_do(desktop):
    opened = desktop
    expect_clean(opened)
    opened.page.emulate_media(media="print")
    assert opened.page.locator("nav").is_hidden()
    assert len(opened.page.pdf(format="A4")) > 50_000
    opened.page.emulate_media(media="screen")
    assert opened.problems == []


def test_numbers_of_page_csv_and_logits_are_the_same(study, written):
    """Against the mean over all subsets, computed here from the stored logits without the package's arithmetic."""
    frontiers = pd.read_csv(written.parent / "tables" / "frontiers.csv")
    tradeoffs = pd.read_csv(written.parent / "tables" / "tradeoffs.csv")
    text = written.read_text()
    labels = builders.labels_of(201)
    trials = [trial for trial in study.record.in_state("complete") if len(trial.frontier) == 4][:2]
    for trial in (*trials, study.record.reference):
        raised = np.exp(study.logits(trial, "test").astype(np.float64))
        probabilities = raised / raised.sum(axis=-1, keepdims=True)
        for row in trial.frontier:
            size = row["size"]
            if row["subsets"] < comb(len(trial.members), size):
                continue  # the made-up frontiers score only some subsets
            subsets = combinations(range(len(trial.members)), size)
            votes = [probabilities[list(subset)].mean(axis=0).argmax(axis=-1) for subset in subsets]
            expected = np.mean([(vote == labels).mean() for vote in votes])
            for table in (frontiers, tradeoffs):
                rows = table[(table["trial"] == trial.number) & (table["size"] == size)]
                assert rows["test_accuracy"].tolist() in ([], [pytest.approx(expected, abs=1e-9)])
        assert f"{100 * expected:.1f}%" in text
