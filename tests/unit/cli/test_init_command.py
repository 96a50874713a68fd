"""`init`: what it writes loads and can be prepared; what is wrong is said, and nothing is written."""

import csv
import json
import shlex

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tlm_search.data.prepare import prepare
from tlm_search.search.machine import Machine
from tlm_search.space.load import load_space

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "small", "birds", "sing", "in"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(i, " ".join(WORDS[i % 7 : i % 7 + 8]) + f" {i}", ["it: yes", "no"][i % 2]) for i in range(60)]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "body: #1", "team {x}"), *rows])
    lines = [json.dumps({"text": text, "label": label}) for _, text, label in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    pq.write_table(
        pa.table({"text": [row[1] for row in rows], "label": [row[2] for row in rows]}), tmp_path / "r.parquet"
    )
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("\n\n".join(text for _, text, _ in rows) * 2)
    return tmp_path


@pytest.mark.parametrize(
    "options", ["--task rows.csv", "--task rows.jsonl --corpus texts", "--task r.parquet --corpus rows.csv"]
)
def test_what_it_writes_can_be_run(call, here, options):
    code, out, err = call("init", *options.split(), "mine.yaml")
    assert (code, err) == (0, "")
    assert '"it: yes" 30' in out
    space = load_space(here / "mine.yaml")
    assert (space.name, space.tokenizer.length) == ("mine", 16)
    prepared = prepare(space, here / ".store")
    assert prepared.labels == ("it: yes", "no")
    assert prepared.rows == {"train": 30, "validation": 12, "test": 18}


def test_the_study_suits_the_machine_and_says_so(call, here, monkeypatch):
    found = {}
    for machine in (Machine(1, 0, 2.0), Machine(32, 2, 256.0, 80.0)):
        monkeypatch.setattr("tlm_search.search.machine.this_machine", lambda *, with_gpus, here=machine: here)
        (here / "mine.yaml").unlink(missing_ok=True)
        code, out, _ = call("init", "mine.yaml")
        assert code == 0
        sized = next(line for line in out.splitlines() if line.startswith("Sized for"))
        assert f"# {sized}" in (here / "mine.yaml").read_text()
        found[machine.cpus] = load_space(here / "mine.yaml"), sized
    (small, one), (large, other) = found.values()
    assert "1 core and 2 GB of memory" in one
    assert "32 cores, 2 GPUs and 256 GB" in other
    assert (small.resources.gpus_per_trial, large.resources.gpus_per_trial) == (0, "auto")
    # One core has the time for as many trials since pre-training became cheaper, but not in the same time.
    assert small.budget.trials <= large.budget.trials
    assert one.split("about ")[1] != other.split("about ")[1]


def test_the_built_in_data(call, here):
    assert call("init", "mine.yaml")[0] == 0
    assert load_space(here / "mine.yaml").task.source == "pydocs"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--task gone.csv new.yaml", "no such file"),
        ("--task rows.csv --text body new.yaml", "no column 'body'; its columns are: id, body: #1, team {x}"),
        ("--task rows.csv --label id new.yaml", "a task needs 2 labels"),
        ("--task rows.csv --corpus gone new.yaml", "no such file or folder"),
        ("--label x new.yaml", "go with --task"),
        ("--task rows.csv rows.jsonl", "is already there"),
        ("--task rows.csv none/new.yaml", "cannot be written"),
        ("--task texts new.yaml", "no such file"),
    ],
)
def test_bad_input(call, here, arguments, words):
    before = {file.name: file.read_bytes() for file in here.iterdir() if file.is_file()}
    code, out, err = call("init", *shlex.split(arguments))
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert {file.name: file.read_bytes() for file in here.iterdir() if file.is_file()} == before
