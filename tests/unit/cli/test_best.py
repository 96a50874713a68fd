import json
import os

import builders
import numpy as np
import pytest
from typer.testing import CliRunner

from tlm_search.cli.main import app
from tlm_search.committee.logits import MemberLogits

ROWS = 1000


@pytest.fixture
def study(monkeypatch, tmp_path):
    """Let the command read a made-up study; returns a function that chooses the study."""

    def choose(record):
        monkeypatch.setattr("tlm_search.study.location.find_study", lambda name, studies_dir: tmp_path / name)
        monkeypatch.setattr("tlm_search.study.location.read_study", lambda folder: record)

    trials = [
        builders.trial(0, rows=ROWS, heads=2),
        builders.trial(1, rows=ROWS, heads=8, pretrain_size=4000, committee_size=8),
        builders.trial(2, rows=ROWS, heads=8, pretrain_size=1000, committee_size=4),
    ]
    choose(builders.study(trials, reference_trial=builders.reference(rows=ROWS), folder=tmp_path))
    return choose


def run(*arguments, command="best"):
    result = CliRunner().invoke(app, [command, "made-up", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_json_is_the_list_of_the_contract(study):
    entries = json.loads(run("--json"))
    assert [entry["trial"] for entry in entries] == [1, 2, 0]
    assert list(entries[0]) == [
        "trial",
        "params",
        "committee_size",
        "validation_accuracy",
        "test_accuracy",
        "test_accuracy_interval",
        "metric",
        "validation_metric",
        "test_metric",
        "test_metric_interval",
        "latency_ms",
        "parameters",
        "reference_accuracy",
        "baseline_accuracy",
        "reference_metric",
        "baseline_metric",
        "matches_reference",
        "beats_baseline",
        "reference_verdict",
        "baseline_verdict",
        "exported_test_accuracy",
        "exported_test_metric",
        "confirmed_test_accuracy",
        "confirmed_test_accuracy_interval",
        "confirmed_test_metric",
        "confirmed_test_metric_interval",
        "confirmed_reference_accuracy",
        "confirmed_reference_metric",
    ]
    assert entries[0]["params"]["heads"] == 8
    low, high = entries[0]["test_accuracy_interval"]
    assert low < entries[0]["test_accuracy"] < high


def test_top_and_limits_reach_the_choice(study):
    assert len(json.loads(run("--json", "--top", "1"))) == 1
    few = json.loads(run("--json", "--max-parameters", "2e6"))
    assert all(entry["parameters"] <= 2e6 for entry in few)
    assert json.loads(run("--json", "--max-latency-ms", "0")) == []


def test_only_what_matches(study):
    entries = json.loads(run("--json", "--match-reference"))
    assert [entry["trial"] for entry in entries] == [2, 1]  # on validation; test may disagree
    verdicts = [entry["reference_verdict"] for entry in entries]
    assert [entry["matches_reference"] for entry in entries] == [verdict == "holds" for verdict in verdicts]
    parameters = [entry["parameters"] for entry in entries]
    assert parameters == sorted(parameters)


def test_status_judges_the_best_by_the_same_logits(study, monkeypatch):
    trial = builders.trial(1, heads=8, pretrain_size=4000)
    study(builders.study([trial], reference_trial=builders.reference()))
    one, labels = builders.logits_of(1.0, members=1, rows=200), builders.labels_of(200)
    # All members vote alike, so both committees match; their accuracies do not show that.
    same = MemberLogits(*[np.repeat(one, 2, axis=0)] * 2, *[labels] * 2)
    matches = []
    for votes in (None, same):
        monkeypatch.setattr("tlm_search.report.evidence.Evidence.logits_of", lambda self, trial, votes=votes: votes)
        best = json.loads(run("--json"))[0]
        assert json.loads(run("--json", command="status"))["best"] == best
        matches.append(best["matches_reference"])
    assert matches == [False, True]


@pytest.mark.parametrize("columns", [80, 100])
def test_the_table_fits_and_the_reasons_follow(study, monkeypatch, columns):
    monkeypatch.setitem(os.environ, "COLUMNS", str(columns))
    text = run("--match-reference")
    assert max(len(line) for line in text.splitlines()) <= columns
    for word in (
        "trial",
        "configuration",
        "params",
        "those that match",
        "the work of the reference",
        "reference:",
        "fewest parameters",
        "training cost",
    ):
        assert word in text


@pytest.mark.parametrize("columns", [80, 100])
def test_the_linear_model_has_a_row_and_comes_first_where_it_is_as_good(study, monkeypatch, tmp_path, columns):
    monkeypatch.setitem(os.environ, "COLUMNS", str(columns))
    trials = [builders.trial(1, rows=ROWS, heads=8, pretrain_size=4000, committee_size=8)]
    for skill, beaten in ((0.2, True), (9.0, False)):
        linear = builders.baseline(skill, rows=ROWS)
        reference = builders.reference(rows=ROWS)
        study(builders.study(trials, reference_trial=reference, linear=linear, folder=tmp_path))
        text = run()
        assert max(len(line) for line in text.splitlines()) <= columns
        assert text.startswith("A linear model is better:") is not beaten
        words = " ".join(text.split())
        assert "TF-IDF" in words
        assert ("with 8 members is above the linear model: +" in words) is beaten
        entry = json.loads(run("--json"))[0]
        assert (entry["beats_baseline"], entry["baseline_accuracy"]) == (beaten, linear.metrics["test_accuracy"])


def test_a_study_without_results_says_so(study):
    study(builders.study([builders.trial(0, state="running")]))
    assert json.loads(run("--json")) == []
    assert "no complete trial yet" in run()


def test_limits_that_nothing_meets_are_told(study):
    text = run("--max-latency-ms", "0.001")
    assert "No configuration meets all conditions" in text
    assert "0 of 3 configurations" in text


@pytest.mark.parametrize("arguments", [["--top", "0"], ["--max-parameters", "-1"], ["--max-latency-ms", "fast"]])
def test_wrong_options_end_with_2(study, arguments):
    assert CliRunner().invoke(app, ["best", "made-up", *arguments]).exit_code == 2
