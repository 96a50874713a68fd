"""The Python API on a simulated study: the same names and numbers as the commands and the page."""

import json
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import plotly.graph_objects as go
import pytest
from driven import REFERENCE, run_without_ray, space_of
from typer.testing import CliRunner

from tlm_search.api import Study
from tlm_search.cli.main import app
from tlm_search.errors import UserError

SEARCH = {
    "depth": 1,
    "width": {"choices": [32, 64]},
    "pretrain_size": {"choices": [0, 1000]},
    "committee_size": {"choices": [1, 2, 4]},
}
PLOTS = ("frontier", "pretraining", "history", "importance", "parallel", "confusion", "calibration")
COSTS = ("latency_ms", "serving_flops", "parameters", "training_flops", "training_seconds")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a study of 20 trials."""
    root = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        deep = {**REFERENCE, "width": 64, "pretrain_size": 1000}
        space = space_of(name="mine", search=SEARCH, reference=deep, budget={"trials": 20})
        run_without_ray(root, patch)(space)
    return root / "studies" / "mine"


@pytest.fixture(scope="module")
def study(folder):
    return Study.open(str(folder))


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    """The folder of the study's report."""
    return study.report(tmp_path_factory.mktemp("report")).parent


@pytest.mark.parametrize(
    ("table", "made"),
    [("trials", Study.trials_dataframe), ("frontiers", Study.frontier), ("claims", Study.claims)],
    ids=("trials", "frontiers", "claims"),
)
def test_tables_are_those_of_the_report(study, report, tmp_path, table, made):
    frame = made(study)
    assert len(frame)
    frame.to_csv(tmp_path / "own.csv", index=False)
    assert (tmp_path / "own.csv").read_text() == (report / "tables" / f"{table}.csv").read_text()


def test_members_are_those_of_all_trials(study, report):
    members = study.members_dataframe()
    complete = [trial for trial in (*study.record.trials, study.record.reference) if trial.state == "complete"]
    assert set(members["digest"]) == {digest for trial in complete for digest in trial.members}
    assert members["digest"].is_unique
    best = pd.read_csv(report / "tables" / "members.csv")
    both = best.merge(members, on=["trial", "member", "digest"], suffixes=("", "_own"))
    assert len(both) == len(best)
    assert both["test_accuracy"].tolist() == pytest.approx(both["test_accuracy_own"].tolist(), abs=0)


@pytest.mark.parametrize("name", PLOTS)
def test_figures_are_those_of_the_page(study, report, name):
    assert _data(getattr(study, f"plot_{name}")()) == _data_on_page(report, name)


@pytest.mark.parametrize("cost", COSTS)
def test_tradeoffs_are_those_of_the_page(study, report, cost):
    assert _data(study.plot_tradeoff(cost)) == _data_on_page(report, cost)


def test_the_best_is_that_of_the_command(study, folder):
    said = json.loads(CliRunner().invoke(app, ["best", str(folder), "--json"], catch_exceptions=False).stdout)
    chosen = study.best().choices
    assert [(entry["trial"], entry["committee_size"], entry["test_accuracy"]) for entry in said] == [
        (choice.candidate.trial.number, choice.candidate.size, choice.candidate.test_accuracy) for choice in chosen
    ]
    frontier = study.frontier().set_index(["trial", "size"])["test_accuracy"]
    assert frontier[said[0]["trial"], said[0]["committee_size"]] == said[0]["test_accuracy"]


def test_optuna_gets_a_copy_that_cannot_hurt(study, folder):
    copy = study.optuna_study()
    assert [trial.params for trial in copy.trials] == [trial.params for trial in Study.open(str(folder)).record.trials]
    assert [trial.values for trial in copy.trials] == [trial.values for trial in study.optuna_study().trials]
    optuna.visualization.plot_slice(copy)
    copy.enqueue_trial({})
    assert len(study.optuna_study().trials) == 20


def test_what_a_notebook_and_a_prompt_show(study, folder):
    assert repr(study) == f"<Study 'mine': 20 trials; {folder}>"
    shown = study._repr_html_()
    assert "<table" in shown
    assert study._report.answer.headline.split(" ")[0] in shown


def test_what_cannot_be_drawn_says_why(study, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="dollars is not a cost") as raised:
        study.plot_tradeoff("dollars")
    assert "latency_ms" in str(raised.value.hint)
    run_without_ray(tmp_path, monkeypatch)(space_of(name="few", budget={"trials": 1}))
    few = Study.open("few", studies_dir=tmp_path / "studies")
    with pytest.raises(UserError, match="16 complete trials"):
        few.plot_importance()
    with pytest.raises(UserError, match="two sizes of pre-training"):
        few.plot_pretraining()
    with pytest.raises(UserError, match="bmp"):
        few.report(tmp_path / "out", formats=["bmp"])


def _data(figure):
    assert isinstance(figure, go.Figure)
    traces = json.loads(figure.to_json())["data"]
    return [{key: value for key, value in trace.items() if key != "visible"} for trace in traces]


def _data_on_page(report, name):
    traces = json.loads((report / "figures" / f"{name}.json").read_text())["data"]
    return [{key: value for key, value in trace.items() if key != "visible"} for trace in traces]


def test_the_example_reads_the_study(folder, tmp_path):
    example = Path(__file__).parents[2] / "examples" / "read_study.py"
    command = [sys.executable, str(example), str(folder), "--out", str(tmp_path / "figures")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "of the variance" in said
    assert "width 64" in said
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == ["edf.html", "slice.html"]
