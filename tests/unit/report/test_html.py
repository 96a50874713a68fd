import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import builders
import pandas as pd
import pytest

from tlm_search.errors import StudyError
from tlm_search.report.evidence import Evidence
from tlm_search.report.pages.build import build_report
from tlm_search.report.pages.html import render, write_report
from tlm_search.report.pages.markdown import markdown

HOSTILE = "</script><script>alert(1)</script>"


class Page(HTMLParser):
    """The elements, ids and visible text of a page. Unbalanced tags raise an error."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tags, self.texts, self.scripts = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] in ("script", "style") else self.texts).append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    record = builders.study(builders.grid(60, rows=1000), reference_trial=builders.reference(rows=1000))
    return record, write_report(record, None, out)


def page_of(record, tmp_path):
    return Page(write_report(record, None, tmp_path).read_text())


def test_the_page_is_one_small_file_with_each_section(written):
    _, path = written
    page = Page(path.read_text())
    assert path.stat().st_size < 6e6
    assert len(page.ids) == len(set(page.ids))
    for section in ("answer", "frontier", "cost", "pretraining", "search", "configurations", "provenance"):
        assert section in page.ids
    assert [tag for tag, _ in page.tags].count("h1") == 1


def test_nothing_is_loaded_from_elsewhere(written):
    _, path = written
    page = Page(path.read_text())
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        if tag != "a":
            assert attributes.get("href", "data:").startswith("data:")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    style = next(text for text in page.scripts if "--page" in text)
    assert "url(" not in style
    assert "@import" not in style


def test_tables_have_captions_and_figures_have_labels(written):
    _, path = written
    page = Page(path.read_text())
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == tags.count("table") > 3
    plots = [attributes for _, attributes in page.tags if "data-figure" in attributes]
    assert len(plots) > 6
    assert all(plot["role"] == "img" and len(plot["aria-label"]) > 10 for plot in plots)


def test_numbers_of_page_and_csv_are_those_of_the_record(written):
    record, path = written
    trials = pd.read_csv(path.parent / "tables" / "trials.csv")
    for trial in record.in_state("complete"):
        row = trials[trials["trial"] == trial.number].iloc[0]
        assert row["test_accuracy"] == pytest.approx(trial.metrics["test_accuracy"], abs=1e-12)
    frontiers = pd.read_csv(path.parent / "tables" / "frontiers.csv")
    best = max(record.in_state("complete"), key=lambda trial: trial.metrics["validation_accuracy"])
    rows = frontiers[frontiers["trial"] == best.number]
    assert rows["test_accuracy"].tolist() == pytest.approx([row.figures["test_accuracy"] for row in best.frontier])
    text = Page(path.read_text()).text
    assert f"{100 * best.metrics['test_accuracy']:.1f}%" in text
    assert f"{100 * record.reference.metrics['test_accuracy']:.1f}%" in text
    figure = json.loads((path.parent / "figures" / "frontier.json").read_text())
    assert figure["layout"]["title"]["text"] == "Test accuracy against committee size"


def test_the_answer_says_what_matches_and_what_to_run(written):
    _, path = written
    text = Page(path.read_text()).text
    assert "does the work of the reference of depth 6" in text
    assert "tlm-search best tiny-committees --match-reference" in text
    assert "tlm-search run studies/tiny-committees/space.yaml --name tiny-committees" in text


@pytest.mark.parametrize(
    ("account", "words"),
    [
        ({"available": 100, "dropped": {"no_label": 1}}, " of 100 rows; not used: 1 without a label."),
        ({"available": 99, "dropped": {}}, " of 99 rows; all are used."),
        (None, "."),  # data that were prepared before rows were counted
    ],
)
def test_page_and_markdown_account_for_each_row(account, words):
    rows = {"train": 70, "validation": 14, "test": 15}
    record = builders.study([builders.trial(0)])
    data = {**record.data, "rows": rows} | ({} if account is None else {"account": {**account, **rows}})
    record = replace(record, data=data)
    report = build_report(record, Evidence(record, None))
    said = f"Rows of the task: 70 train, 14 validation, 15 test{words}"
    assert said in Page(render(record, report)).text
    assert f"\n\n{said}\n\n" in markdown(record, report)


def test_a_study_without_data_has_no_line_about_rows():
    record = replace(builders.study([builders.trial(0, state="running")]), data={})
    report = build_report(record, Evidence(record, None))
    assert "Rows of the task" not in render(record, report)
    text = markdown(record, report)
    assert "Rows of the task" not in text
    assert "\n\n\n" not in text


def test_hostile_names_stay_text(tmp_path):
    trials = [builders.trial(0), builders.trial(1, heads=8), builders.trial(2, state="failed")]
    object.__setattr__(trials[2], "error", f"{HOSTILE} happened")
    record = builders.study(
        trials, reference_trial=builders.reference(), labels=[HOSTILE, "b"], description=HOSTILE, name=HOSTILE
    )
    path = write_report(record, None, tmp_path)
    page = Page(path.read_text())
    assert page.text.count(HOSTILE) >= 4
    assert not any("alert(1)" in script and "figures" not in script for script in page.scripts if len(script) < 10_000)
    assert [tag for tag, _ in page.tags].count("script") == 3


def test_a_study_that_runs_says_so(tmp_path):
    record = builders.study([builders.trial(0), builders.trial(1, state="running"), builders.trial(2, state="waiting")])
    text = page_of(record, tmp_path).text
    assert "1 trial is still running" in text
    assert "The reference is not trained yet" in text
    assert "tlm-search run" in text


@pytest.mark.parametrize("trials", [[], [builders.trial(0, state="failed")], [builders.trial(0, state="running")]])
def test_a_study_without_a_result_says_so(tmp_path, trials):
    page = page_of(builders.study(trials), tmp_path)
    assert "No committee has finished yet" in page.text
    assert "No trial is complete yet" in page.text
    assert "figures" not in [attributes.get("data-figure") for _, attributes in page.tags]
    assert (tmp_path / "report.html").stat().st_size < 100_000  # no figures, and so no plotly.js


def test_a_failed_reference_is_told_with_its_reason(tmp_path):
    failed = builders.trial(-1, state="failed", **builders.REFERENCE)
    text = page_of(builders.study([builders.trial(0)], reference_trial=failed), tmp_path).text
    assert "The reference failed" in text
    assert "the loss is not a number" in text


def test_one_trial_without_reference_makes_a_page(tmp_path):
    record = builders.study([builders.trial(0, committee_size=1)], reference="none")
    text = page_of(record, tmp_path).text
    assert "The best committee so far is a single model of depth 1" in text


def test_a_simulated_study_says_that_its_numbers_are_made_up(tmp_path):
    assert "made up" in page_of(builders.study([builders.trial(0)], trainer="simulated"), tmp_path).text


def test_a_folder_that_cannot_be_written_is_the_users_error(tmp_path):
    (tmp_path / "tables").write_text("a file is in the way")
    with pytest.raises(StudyError, match="cannot be written"):
        write_report(builders.study([]), None, tmp_path)


def test_two_thousand_trials_take_seconds(tmp_path):
    record = builders.study(builders.grid(2000), reference_trial=builders.reference())
    started = time.process_time()
    path = write_report(record, None, tmp_path)
    assert time.process_time() - started < 15  # 2.5 s on an idle core
    assert path.stat().st_size < 6e6


def test_the_page_says_how_many_unlabelled_texts_there_are_and_were_left_out(tmp_path):
    record = builders.study(builders.grid(6), reference_trial=builders.reference())
    texts = {"available": 2_000, "used": 1_900, "held_out": 90, "repeated": 10}
    page = page_of(replace(record, data={**record.data, "unlabelled_texts": texts}), tmp_path)
    assert "1,900 unlabelled texts, 90 that validation or test has left out" in page.text
