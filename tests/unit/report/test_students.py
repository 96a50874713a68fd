"""A student's point in the figure, and its rows in the tables of page, Markdown and CSV."""

from dataclasses import replace

import builders
import numpy as np
import pandas as pd
import pytest

from tlm_search.report.evidence import Evidence
from tlm_search.report.figures.students import students_frame, students_table, students_words
from tlm_search.report.pages.build import build_report
from tlm_search.report.pages.html import write_report
from tlm_search.store.local import Store
from tlm_search.study.record import STUDENT_NUMBER, StudentRecord

ROWS = 200


@pytest.fixture(scope="module")
def record():
    """A study whose best trial, the first one, has a student that is slightly better than one of its members."""
    trials = [builders.trial(0, heads=8, committee_size=4), builders.trial(1)]
    learned = builders.trial(STUDENT_NUMBER, heads=8, pretrain_size=1000, committee_size=3)
    more = {"distilling_flops": 3e6, "distilling_seconds": 6.0}
    rows = tuple(row.having({"latency_ms": 0.5}) for row in learned.frontier)
    student = StudentRecord(0, 4, 0, replace(learned, frontier=rows, metrics={**learned.metrics, **more}))
    return replace(builders.study(trials, reference_trial=builders.reference()), students=(student,))


def test_the_student_is_a_point_at_one_member_with_its_interval(record):
    figure = build_report(record, Evidence(record, None)).figures["frontier"]
    [point] = [trace for trace in figure.data if trace.name == "student of #0 with 4 members"]
    single = record.students[0].result.frontier[0]
    assert (list(point.x), point.mode) == ([1], "markers")
    assert list(point.y) == [single.figures["test_accuracy"]]
    assert point.y[0] + point.error_y.array[0] == pytest.approx(single.figures["test_accuracy_high"])
    assert point.y[0] - point.error_y.arrayminus[0] == pytest.approx(single.figures["test_accuracy_low"])
    [line] = [trace for trace in figure.data if trace.mode == "lines+markers" and trace.name.startswith("#0")]
    assert point.marker.color == line.line.color
    assert point.legendgroup not in {trace.legendgroup for trace in figure.data if trace is not point}
    for words in ("mean of 3 seeds", "to its committee of 4 members", "ms", "parameters", "training with its"):
        assert words in point.text[0]


def test_costs_of_a_student_are_those_of_one_model_and_its_training_has_that_of_its_committee(record):
    table = students_table(record, Evidence(record, None)).set_index("model")
    student, committee = table.loc["student"], table.loc["committee"]
    assert student["parameters"] == committee["parameters"] / 4
    assert student["latency_ms"] == 0.5 < committee["latency_ms"]
    assert student["training_flops"] == committee["training_flops"] + 1e6
    assert student["training_seconds"] == committee["training_seconds"] + 2
    assert table.loc["reference", "difference"] == pytest.approx(
        student["test_metric"] - record.reference.metrics["test_accuracy"]
    )


def test_differences_have_intervals_where_logits_are_at_hand(record, tmp_path):
    store = Store(tmp_path)
    data = builders.prepared_data(tmp_path, vocabulary=64, length=16, labels=record.labels)
    for split, rows in (("validation", ROWS), ("test", ROWS + 1)):
        data.folder(split).mkdir(parents=True)
        np.save(data.folder(split) / "labels.npy", builders.labels_of(rows))
    for trial in (*record.trials, record.reference, record.students[0].result):
        for index, digest in enumerate(trial.members):
            logits = {
                split: builders.logits_of(
                    builders.skill_of(trial.settings),
                    members=len(trial.members),
                    rows=rows,
                    seed=builders.seed_of(trial.number),
                )[index]
                for split, rows in (("validation", ROWS), ("test", ROWS + 1))
            }
            store.write("members", digest, {}, {"logits": logits})
    told = replace(record, data=data.to_document())
    table = students_table(told, Evidence(told, store)).set_index("model")
    ours = table.loc["student", "test_metric"]
    for name in ("single member", "committee", "reference"):
        row = table.loc[name]
        assert row["difference_low"] < row["difference"] < row["difference_high"]
        assert row["difference"] == pytest.approx(ours - row["test_metric"])
    [(first, *lines)] = students_words(table.reset_index())
    assert first.startswith("student of #0: depth 1, 8 heads")
    assert sum(" points (" in line for line in lines) == 3


def test_page_markdown_and_csv_have_the_student_and_none_where_there_is_none(record, tmp_path):
    page = write_report(record, None, tmp_path / "with").read_text()
    assert "One student in place of a committee" in page
    assert "its committee of 4 members" in (tmp_path / "with" / "report.md").read_text()
    table = pd.read_csv(tmp_path / "with" / "tables" / "students.csv")
    assert table["model"].tolist() == ["student", "single member", "committee", "reference"]
    without = replace(record, students=())
    assert "One student in place" not in write_report(without, None, tmp_path / "without").read_text()
    empty = students_table(without, Evidence(without, None))
    assert (len(empty), students_frame(empty).rows, students_words(empty)) == (0, [], [])


def test_a_student_of_a_trial_that_is_no_more_is_left_out(record):
    lost = replace(record, trials=record.trials[1:])
    assert students_table(lost, Evidence(lost, None)).empty
