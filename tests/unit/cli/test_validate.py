import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tlm_search.cli.schema import schema
from tlm_search.cli.validate import Timing, short, validate
from tlm_search.cost.plan import Cost, Plan
from tlm_search.cost.wall_time import wall_seconds
from tlm_search.errors import DataError, SpaceError, UserError
from tlm_search.search.progress import rough_duration
from tlm_search.space.schema import Space

SPACES = Path(__file__).parents[3] / "spaces"
TEXT = """
corpus: pydocs
task: {labels: 10}
search:
  depth: {choices: [1, 2]}
  convolution_layers: {choices: [0, 2]}
  convolution_kernel: {choices: [3, [16, 3]], when: {convolution_layers: [2]}}
  finetune_learning_rate: {low: 1e-4, high: 1e-3, log: true, role: nuisance}
  committee_size: 4
  pretrain_size: 1000
reference: {depth: 6, convolution_layers: 0, finetune_learning_rate: 1e-3}
constraints: ["latency_ms <= 5"]
"""


@pytest.fixture
def run(tmp_path):
    app = typer.Typer()
    app.command()(validate)
    app.command()(schema)

    def invoke(*arguments, text=TEXT, name="[bold]mine.yaml"):
        (tmp_path / name).write_text(text)
        result = CliRunner().invoke(app, ["validate", str(tmp_path / name), *arguments], env={"COLUMNS": "120"})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.stdout

    return invoke


def test_the_tables_say_what_is_searched_and_what_it_costs(run):
    lines = [" ".join(line.split()) for line in run().splitlines()]
    assert "study [bold]mine" in lines
    for line in (
        "corpus source pydocs, split train, text text, skip 0",
        "constraints latency_ms <= 5.0",
        "reference depth 6, convolution_layers 0, finetune_learning_rate 0.001",
        "depth 1, 2 scientific",
        "convolution_kernel 3x3, 16x3 scientific convolution_layers is 2",
        "finetune_learning_rate 0.0001 to 0.001, log scale nuisance",
        "pretrain_size 1000 fixed",
        "finetune_epochs 10 default",
        "measure reference at least expected at most",
        "members 4 8 84 84",
        "This holds if the store is empty and every text has 64 tokens.",
    ):
        assert line in lines


def test_what_the_file_does_not_say_is_assumed_aloud(run):
    said = run(text="tokenizer: {name: bert-base-uncased}").replace("\n", " ")
    assert "the task has 10 labels and the tokenizer has 30,522 tokens" in said


def test_settings_of_students_are_shown_only_with_self_training(run):
    plain = run()
    assert "self_training" in plain
    assert "student_epochs" not in plain
    text = "task: {unlabelled: {source: more.csv, documents: 600}}\nsearch: {self_training: {choices: [0, 1]}}"
    lines = [" ".join(line.split()) for line in run(text=text).splitlines()]
    assert "student_epochs 3 default" in lines
    assert "members 0 1 5 10" in lines


def test_json_is_one_document(run):
    document = json.loads(run("--json"))
    assert list(document) == ["space", "cost"]
    assert Space.from_document(document["space"]).name == "[bold]mine"
    cost = document["cost"]
    assert cost["reference"]["members"] == 4
    assert cost["reference"]["pretraining_tokens"] == 4 * 1000 * 4 * 64
    assert cost["reference"]["finetuning_tokens"] == 4 * 10 * 100 * 10 * 64
    assert cost["reference"]["updates"] == 4 * (63 * 4 + 63 * 10)
    assert cost["assumptions"] == ["every text has 64 tokens"]


def test_the_tries_of_the_reference_are_in_the_cost(run):
    text = TEXT.replace("finetune_learning_rate: 1e-3}", "finetune_learning_rate: 1e-3, trials: 3}")
    lines = [" ".join(line.split()) for line in run(text=text).splitlines()]
    assert "reference depth 6, convolution_layers 0, finetune_learning_rate 0.001, trials 3" in lines
    assert "measure reference, 3 tries at least expected at most" in lines
    assert "members 12 16 92 92" in lines
    assert json.loads(run("--json", text=text))["cost"]["reference_tries"] == 3


@pytest.fixture
def timing(monkeypatch):
    def timed(space, studies_dir, say):
        cost = Cost(members=2, seconds=600)
        costs = Plan(cost, cost * 2, cost * 30, Cost(), ("every text has 64 tokens",), timed=True)
        rows = {"available": 100, "train": 70, "validation": 14, "test": 15, "dropped": {"no_label": 1}}
        wall = wall_seconds(costs, space, concurrent=2)
        return Timing(costs, {"device": "abacus"}, at_once=2, wall_seconds=wall, rows=rows)

    monkeypatch.setattr("tlm_search.cli.validate.timed", timed)


def test_time_is_said_in_words(run, timing):
    said = " ".join(run("--time").split())
    assert "On this machine (abacus, trials at once: 2) about 10 min, at least 5.0 min, at most 2.5 h." in said
    assert "seconds 0 600 1.2 k 18 k" in said
    assert "70 train, 14 validation, 15 test of 100 rows; not used: 1 without a label." in said


def test_time_is_in_the_json(run, timing):
    document = json.loads(run("--json", "--time"))
    assert document["cost"]["at_most"]["seconds"] == 18_000
    assert (document["rows"]["available"], document["rows"]["dropped"]) == (100, {"no_label": 1})
    assert document["time"]["wall_seconds"] == {"at_least": 300, "expected": 600, "at_most": 9000}


def test_a_simulated_study_has_no_time(run):
    with pytest.raises(UserError, match="simulated"):
        run("--time", text="trainer: simulated")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (4.24, "4.2 s"), (95, "95 s"), (700, "12 min"), (9000, "2.5 h")]
)
def test_durations(seconds, text):
    assert rough_duration(seconds) == text


@pytest.mark.parametrize("section", ["corpus: {}", "task: {{source: {}}}", "task: {{source: pydocs, unlabelled: {}}}"])
def test_a_source_that_can_be_nothing_is_refused_and_a_missing_file_is_told(run, section):
    with pytest.raises(DataError, match="nonsense value: there is no such file or folder"):
        run(text=f"search: {{depth: 1}}\n{section.format('nonsense value')}")
    told = run(text=f"search: {{depth: 1}}\n{section.format('no/such/file.csv')}")
    assert "Missing: no/such/file.csv. Paths are relative to the working folder" in told
    assert "Not here" not in run(text=f"search: {{depth: 1}}\n{section.format('owner/name')}")


def test_a_wrong_file_is_refused(run):
    with pytest.raises(SpaceError, match="depth"):
        run(text="search: {depth: 0}")


@pytest.mark.parametrize("file", sorted(SPACES.rglob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_space_can_be_shown(run, file):
    assert "cost of" in run(text=file.read_text())


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (7, "7"), (999, "999"), (999.9, "1 k"), (1234, "1.23 k"), (999_999, "1 M"), (2.5e18, "2.5 E")],
)
def test_short_numbers(number, text):
    assert short(number) == text


def test_schema_prints_json(capsys):
    schema()
    assert json.loads(capsys.readouterr().out)["title"] == "A space of tlm-search"


def test_neither_torch_nor_ray_is_imported():
    code = (
        "import sys; from pathlib import Path; from tlm_search.cli.validate import validate; "
        f"validate(Path({str(SPACES / 'committee.yaml')!r}), True); "
        "assert not {'torch', 'ray', 'optuna', 'transformers', 'pandas', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
