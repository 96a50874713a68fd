"""A study whose task has another metric than accuracy: what this metric decides, and where it is shown."""

import json

import numpy as np
import pytest
from driven import REFERENCE, SEARCH, Bench, run_without_ray, space_of
from typer.testing import CliRunner

from tlm_search.cli.main import app
from tlm_search.errors import DataError
from tlm_search.report.evidence import Evidence
from tlm_search.report.pages.build import build_report
from tlm_search.report.pages.html import render
from tlm_search.report.pages.markdown import markdown
from tlm_search.store.shared import open_store
from tlm_search.study.location import read_study, store_root

TASK = {"metric": "f1", "positive": "label 2"}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A simulated study by the F1 of one label, with a reference of several tries, and its announcements."""
    run, lines = run_without_ray(tmp_path, monkeypatch), []
    search = {**SEARCH, "finetune_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "role": "nuisance"}}
    reference = {**REFERENCE, "finetune_learning_rate": 1e-3, "trials": 4}
    sections = {"task": TASK, "search": search, "reference": reference, "budget": {"trials": 6}}
    run(space_of(constraints=["validation_recall >= 0"], **sections), announce=lines.append)
    return read_study(tmp_path / "studies" / "test"), lines


def test_trials_reference_and_baseline_are_judged_by_it(study):
    record, lines = study
    assert record.objectives == ("validation_f1",)
    assert all(trial.values == (trial.metrics["validation_f1"],) for trial in record.in_state("complete"))
    reached = [tried.metrics["validation_f1"] for tried in record.reference_tries]
    assert record.reference.metrics["validation_f1"] == max(reached) > min(reached)
    assert {"validation_f1", "test_f1", "test_f1_low", "test_accuracy_low"} <= set(record.baseline.metrics)
    assert any(line.startswith("linear baseline: validation F1 0.") for line in lines)
    assert any("validation F1 0." in line and "complete" not in line and "[6/6]" in line for line in lines)


def test_the_best_has_the_highest_on_validation_and_json_has_both(study):
    record, _ = study
    arguments = ["--studies-dir", str(record.folder.parent), "--json"]
    entries = json.loads(CliRunner().invoke(app, ["best", "test", *arguments], catch_exceptions=False).stdout)
    reached = [row.figures["validation_f1"] for trial in record.in_state("complete") for row in trial.frontier]
    assert entries[0]["validation_metric"] == max(reached)
    assert entries[0]["metric"] == "f1"
    low, high = entries[0]["test_metric_interval"]
    assert low < entries[0]["test_metric"] < high
    assert entries[0]["of_label"].keys() == {"precision", "recall", "f1", "average_precision"}
    assert entries[0]["test_accuracy"] != entries[0]["test_metric"]
    status = json.loads(CliRunner().invoke(app, ["status", "test", *arguments], catch_exceptions=False).stdout)
    assert status["best"] == entries[0]
    assert status["reference"]["test_metric"] == pytest.approx(entries[0]["reference_metric"], abs=1e-6)
    assert status["baseline"]["metric"] == "f1"
    said = CliRunner().invoke(app, ["status", "test", *arguments[:-1]], catch_exceptions=False).stdout
    assert f"validation F1 {entries[0]['validation_metric']:.4f}" in said
    table = CliRunner().invoke(app, ["best", "test", *arguments[:-1]], catch_exceptions=False).stdout
    assert f"{100 * entries[0]['validation_metric']:.1f}" in table
    assert "F1" in table
    words = " ".join(table.split())
    for name in ("precision", "recall", "f1", "average_precision"):
        reached = entries[0]["of_label"][name]["test"]
        assert f"{name.replace('_', ' ').replace('f1', 'F1')} {100 * reached:.1f}% (" in words


def test_paired_differences_are_those_of_the_metric(study):
    record, _ = study
    evidence = Evidence(record, open_store(store_root(record.folder.parent)))
    best = build_report(record, evidence).answer.best
    difference = best.candidate.test_metric - best.reference.test_metric
    assert best.test_difference.paired
    assert best.test_difference.mean == pytest.approx(difference, abs=1e-5)


def test_the_report_has_it_on_its_axes_and_in_its_words(study):
    record, _ = study
    report = build_report(record, Evidence(record, open_store(store_root(record.folder.parent))))
    frontier = report.figures["frontier"]
    assert frontier.layout.yaxis.title.text == "test F1"
    trial = record.in_state("complete")[0]
    drawn = [point for trace in frontier.data for point in np.atleast_1d(trace.y) if point is not None]
    assert trial.frontier[-1].figures["test_f1"] in drawn
    assert report.figures["history"].layout.yaxis.title.text == "validation F1"
    assert list(report.answer.table.index[2:4]) == ["Test F1 of label 2", "Validation F1 of label 2"]
    assert {"Test accuracy", "Test recall of label 2"} <= set(report.answer.table.index)
    page, text = render(record, report), markdown(record, report)
    assert "F1 by committee size" in page
    assert "F1 counts the test texts" in text


def test_a_label_that_the_data_do_not_have_is_refused_before_a_study_is_there(tmp_path, monkeypatch):
    run = run_without_ray(tmp_path, monkeypatch)
    with pytest.raises(DataError, match=r"unknown label 'label 9'.*allowed: label 0, label 1"):
        run(space_of(task={"metric": "recall", "positive": "label 9"}))
    assert not (tmp_path / "studies" / "test").exists()


def test_members_are_shared_with_a_study_by_accuracy(tmp_path):
    plain, other = Bench(tmp_path, space_of()), Bench(tmp_path, space_of(task=TASK))
    assert plain.data == other.data


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"label 0": 2, "label 9": 1}, r"no weight for 'label 1'.*the task has no label 'label 9'"),
        ({"choices": ["none", {"label 0": 2}]}, "no weight for 'label 1'"),
    ],
)
def test_class_weights_of_other_labels_are_refused_before_a_study_is_there(tmp_path, monkeypatch, weights, words):
    run = run_without_ray(tmp_path, monkeypatch)
    with pytest.raises(DataError, match=words) as caught:
        run(space_of(search={**SEARCH, "class_weights": weights}))
    assert "label 0, label 1" in caught.value.hint
    assert not (tmp_path / "studies" / "test").exists()


def test_class_weights_by_label_are_those_of_the_members(tmp_path, monkeypatch):
    run = run_without_ray(tmp_path, monkeypatch)
    labels = {f"label {index}": index + 1.0 for index in range(4)}
    run(space_of(search={**SEARCH, "class_weights": labels}, budget={"trials": 1}))
    record = read_study(tmp_path / "studies" / "test")
    store = open_store(store_root(record.folder.parent))
    [trial] = record.in_state("complete")
    member = store.read("members", trial.members[0])
    assert member.document["spec"]["settings"]["class_weights"] == "[1.0, 2.0, 3.0, 4.0]"
