"""The page in a real browser: drawn, usable with mouse and keyboard, silent, and safe against the names in it."""

import os
from itertools import combinations, pairwise
from math import comb
from pathlib import Path

import builders
import numpy as np
import pandas as pd
import pytest
from browser import open_in

from tlm_search.report.evidence import Evidence
from tlm_search.report.figures.inside import MAX_LABELS
from tlm_search.report.pages.compare import write_comparison
from tlm_search.report.pages.html import write_report
from tlm_search.report.tables.costs import COSTS

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
DRAWN = ".main-svg .trace path, .main-svg .point, .main-svg .hm image, .main-svg .lines path"
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # a folder for the pictures, to look at them afterwards


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
def many_labels(stored_study, tmp_path_factory):
    """A study of 77 labels and long texts. Some labels are long and differ only at their ends."""
    names = ("card_arrival", "transfer_not_received_by_recipient", "balance_not_updated_after_cheque_or_cash_deposit")
    out = tmp_path_factory.mktemp("many-labels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builders, "CLASSES", 77)
        builders._frontier.cache_clear()
        trials = [builders.trial(0, heads=8, committee_size=4), builders.trial(1, pretrain_size=4000, committee_size=4)]
        stored = stored_study(out, trials, name="many-labels", labels=[f"{names[i % 3]}_{i}" for i in range(77)])
        text = f"{'where is my card ? ' * 12}{'x' * 90}"
        patch.setattr(Evidence, "test_texts", lambda self, rows: dict.fromkeys(rows, text))
        page = write_report(stored.record, stored.store, out / "page")
    builders._frontier.cache_clear()
    return page


@pytest.fixture(scope="module")
def desktop(chromium, written):
    """The page in a window that several tests share; each test leaves it as it was."""
    opened = open_in(chromium, written)
    opened.page.wait_for_selector("html[data-drawn]")
    yield opened
    opened.page.context.close()


def picture(opened, name, folder):
    path = Path(SCREENSHOTS or folder) / f"{name}.png"
    opened.page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 50_000  # the picture is not empty


def wait_until(page, condition):
    """Wait for a condition in JavaScript. The page's security policy would refuse Playwright's own way."""
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
    # Once the figures have followed the window, nothing is wider than the window, and no figure wider than its card.
    wait_until(page, "document.documentElement.scrollWidth <= innerWidth")
    wait_until(
        page, "[...document.querySelectorAll('.plot')].every(p => p.scrollWidth <= p.closest('.figure').clientWidth)"
    )


def test_every_figure_is_drawn_and_nothing_leaves_the_page(desktop, tmp_path):
    expect_clean(desktop)
    ids = desktop.page.evaluate("[...document.querySelectorAll('.plot')].map(plot => plot.dataset.figure)")
    assert {"frontier", "gain", "facet_0", "facet_4000", *COSTS} <= set(ids)
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


# Elements that are wider than their box. A wide table of numbers may scroll; its first column does not move.
CUT = """() => [...document.querySelectorAll('.scroll, .next dd, pre, .chip span, p, h1, h2, h3')]
    .filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth && getComputedStyle(e).display !== 'inline')
    .filter(e => !e.querySelector('#configurations-table') && !e.classList.contains('unseen'))
    .map(e => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`)"""


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_a_page_of_many_labels_is_readable_and_nothing_is_cut(open_page, many_labels, tmp_path, width, dark):
    opened = open_page(many_labels, width=width, dark=dark)
    expect_clean(opened)
    page = opened.page
    assert page.evaluate(CUT) == []
    ticks = page.evaluate("[...document.querySelectorAll('#figure-labels .ytick text')].map(t => t.textContent)")
    assert len(ticks) == len(set(ticks)) == MAX_LABELS
    figure = page.locator(".figure", has=page.locator("#figure-labels"))
    assert f"the {MAX_LABELS // 2} of 77 on which the committee gains most" in figure.inner_text()
    assert figure.bounding_box()["height"] < 1200
    assert len(pd.read_csv(many_labels.parent / "tables" / "labels.csv")) == 77
    row = page.locator(".texts tbody tr").first
    assert row.bounding_box()["height"] < (400 if width > 640 else 600)
    if width < 640:
        assert row.locator("td").first.evaluate("e => getComputedStyle(e, '::before').content") == '"label: "'
    picture(opened, f"many_labels_{width}", tmp_path)


def brightness(page):
    return sum(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))


def test_studies_side_by_side_are_drawn(open_page, compared, tmp_path):
    opened = open_page(compared)
    for width in (1440, 390):
        opened.page.set_viewport_size({"width": width, "height": 900})
        wait_until(opened.page, "innerWidth === document.querySelector('html').clientWidth")
        expect_clean(opened)
        picture(opened, f"compared_{width}", tmp_path)
    assert "other: best committee" in opened.page.text_content("main")
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
    band = page.get_by_role("button", name="95% of the committees of the best")
    for visible in (True, "legendonly"):
        band.click()
        assert page.evaluate(shown, "95% of the committees of the best") == [visible]


def hover(page, figure, trace, point=0):
    """Rest the mouse on a point of a trace of markers until its label appears, and return the label."""
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
    told = hover(page, "#figure-frontier", with_points[0], -1)  # all members: latency was measured only for these
    for word in ("on test", "95% interval", "validation", "ms", "parameters", "FLOPs"):
        assert word in told


def test_a_tap_tells_the_facts_and_a_finger_scrolls(open_page, written):
    opened = open_page(written, width=390, height=844, touch=True)
    page = opened.page
    expect_clean(opened)
    assert page.evaluate("matchMedia('(hover: none)').matches")
    figure = page.locator("#figure-frontier")
    told = figure.locator("xpath=following-sibling::p")
    assert told.inner_text() == "Tap a point to read its facts."
    page.evaluate("document.getElementById('figure-frontier').scrollIntoView({block: 'center'})")
    traces = figure.locator(".scatterlayer .trace")
    with_points = [place for place in range(traces.count()) if traces.nth(place).locator(".point").count()]
    point = traces.nth(with_points[0]).locator(".point").last.bounding_box()
    page.touchscreen.tap(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    wait_until(page, "document.querySelector('#figure-frontier + p').innerText.includes('95% interval')")
    for word in ("on test", "committees", "validation", "ms", "parameters", "FLOPs"):
        assert word in told.inner_text()
    assert told.get_attribute("aria-live") == "polite"
    assert told.bounding_box()["width"] <= 390
    # A swipe that starts on a figure scrolls the page, as everywhere else.
    before, box = page.evaluate("scrollY"), figure.bounding_box()
    fingers = page.context.new_cdp_session(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for step, kind in enumerate(["touchStart", *["touchMove"] * 10]):
        touch = {"type": kind, "touchPoints": [{"x": x, "y": y - 30 * step}]}
        fingers.send("Input.dispatchTouchEvent", touch)
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    wait_until(page, f"scrollY > {before + 200}")


def test_every_figure_has_its_numbers_as_a_table(desktop, written):
    page = desktop.page
    page.evaluate("document.querySelectorAll('.numbers').forEach(box => { box.open = true; })")
    wait_until(page, "[...document.querySelectorAll('.numbers')].every(box => box.querySelector('tbody tr'))")
    cells = "name => [...document.querySelectorAll(`.numbers[data-for=${name}] tbody tr`)].map(r => r.innerText)"
    frontiers = pd.read_csv(written.parent / "tables" / "frontiers.csv")
    best = frontiers[frontiers["trial"] == frontiers["trial"].iloc[0]]
    rows = page.evaluate(cells, "frontier")
    for size, accuracy in zip(best["size"], best["test_accuracy"], strict=True):
        [row] = [row for row in rows if row.startswith(f"{best['configuration'].iloc[0]}\t{size}\t")]
        assert f"\t{100 * accuracy:.1f}%\t" in row
        assert "95% interval" in row
    assert any(HOSTILE in row for row in page.evaluate(cells, "confusion"))
    assert page.evaluate("document.querySelectorAll('main script, main img').length") == 0
    captions = page.evaluate("[...document.querySelectorAll('.numbers table')].every(t => t.caption.textContent)")
    assert captions
    page.evaluate("document.querySelectorAll('.numbers').forEach(box => { box.open = false; })")


@pytest.mark.parametrize(("kind", "head"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_a_figure_is_saved_as_a_picture_without_anything_installed(desktop, kind, head):
    page = desktop.page
    button = page.locator(f".save[data-for=frontier][data-format={kind}]")
    with page.expect_download() as saved:
        button.press("Enter")
    data = Path(saved.value.path()).read_bytes()
    assert saved.value.suggested_filename == f"frontier.{kind}"
    assert data.startswith(head)
    if kind == "svg":
        assert b"Test accuracy against committee size" in data
        assert b"curve through the best one" not in data  # it is loaded only after a click on its button


def test_the_keyboard_reaches_everything_that_works_and_is_seen_there(desktop):
    page = desktop.page
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(0, 0)  # a figure under the mouse would show buttons, which can be reached too
    page.locator("body").evaluate("body => { body.tabIndex = -1; body.focus(); body.removeAttribute('tabindex'); }")
    where = """() => {
        const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
        return {place: [...document.querySelectorAll('*')].indexOf(e), tag: e.tagName,
            name: e.getAttribute('aria-label') || e.textContent.trim(),
            outline: parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== 'none',
            shown: box.width > 5 && box.height > 5 && box.left >= 0 && box.right <= innerWidth + 1,
            inPlot: !!e.closest('.plot')};
    }"""
    reachable = page.evaluate("document.querySelectorAll('.figure > * > button, .sort, main summary, nav a').length")
    stops = []
    while len(stops) < 3 * reachable:
        page.keyboard.press("Tab")
        stop = page.evaluate(where)
        if stop["tag"] == "BODY" or (stops and stop["place"] == stops[0]["place"]):
            break
        stops.append(stop)
    assert stops[0]["name"] == "Skip to the content"
    assert [stop["place"] for stop in stops] == sorted(stop["place"] for stop in stops)
    assert len([stop for stop in stops if stop["tag"] in ("BUTTON", "SUMMARY", "A")]) == reachable + 1
    assert [stop for stop in stops if not stop["name"] or not stop["outline"] or stop["inPlot"]] == []
    assert [stop for stop in stops if not stop["shown"]] == []
    page.keyboard.press("Home")
    page.locator(".skip").press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


# For each text: the contrast between its colour and the nearest background (WCAG 2, 1.4.3).
FAINT = """() => {
    const read = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = (c) => c.slice(0, 3).map(v => linear(v / 255))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (e) => { for (; e; e = e.parentElement) { const c = read(getComputedStyle(e).backgroundColor);
        if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
    const found = new Set();
    for (const e of document.querySelectorAll('body *')) {
        if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
        if (!e.checkVisibility() || e.closest('script, style')) continue;
        const [a, b] = [light(read(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) found.add(`${e.tagName}.${e.className}: ${e.textContent.slice(0, 30)}`);
    }
    return [...found];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(desktop, scheme):
    desktop.page.emulate_media(color_scheme=scheme)
    assert desktop.page.evaluate(FAINT) == []
    desktop.page.emulate_media(color_scheme="light")


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
    assert opened.page.locator(".tools").first.is_hidden()
    assert opened.page.get_by_label("The resolved space as YAML").is_visible()
    opened.page.set_viewport_size({"width": 700, "height": 900})  # the width of A4 without its margins
    wide = "[...document.querySelectorAll('table, pre')].filter(t => t.offsetParent && t.scrollWidth > 700)"
    assert opened.page.evaluate(f"{wide}.map(t => t.outerHTML.slice(0, 200))") == []
    opened.page.set_viewport_size({"width": 1440, "height": 900})
    assert len(opened.page.pdf(format="A4")) > 50_000
    opened.page.emulate_media(media="screen")
    assert opened.problems == []


def test_numbers_of_page_csv_and_logits_are_the_same(study, written):
    """The expected mean over all subsets is computed here from the stored logits, without the package's arithmetic."""
    frontiers = pd.read_csv(written.parent / "tables" / "frontiers.csv")
    tradeoffs = pd.read_csv(written.parent / "tables" / "tradeoffs.csv")
    text = written.read_text()
    labels = builders.labels_of(201)
    trials = [trial for trial in study.record.in_state("complete") if len(trial.frontier) == 4][:2]
    for trial in (*trials, study.record.reference):
        raised = np.exp(study.logits(trial, "test").astype(np.float64))
        probabilities = raised / raised.sum(axis=-1, keepdims=True)
        for row in trial.frontier:
            size = row.size
            if row.subsets < comb(len(trial.members), size):
                continue  # the made-up frontiers have scores of some subsets only
            subsets = combinations(range(len(trial.members)), size)
            votes = [probabilities[list(subset)].mean(axis=0).argmax(axis=-1) for subset in subsets]
            expected = np.mean([(vote == labels).mean() for vote in votes])
            for table in (frontiers, tradeoffs):
                rows = table[(table["trial"] == trial.number) & (table["size"] == size)]
                assert rows["test_accuracy"].tolist() in ([], [pytest.approx(expected, abs=1e-9)])
        assert f"{100 * expected:.1f}%" in text
