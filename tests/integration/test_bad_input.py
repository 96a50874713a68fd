"""What users get wrong, through the command line: exit 2, one clear message, no traceback, nothing written or lost."""

import os
from pathlib import Path

import pytest
import yaml

from tlm_search.space.schema import load_space
from tlm_search.study.location import StudyLocation

SPACE = {
    "corpus": {"source": "texts.csv"},
    "tokenizer": {"vocabulary": 100, "length": 16},
    "task": {
        "source": "rows.csv",
        "train_per_label": 4,
        "validation_per_label": 2,
        "test_per_label": 2,
    },
    "search": {"depth": {"choices": [1, 2]}, "width": 16, "head_size": 8, "finetune_epochs": 1},
    "reference": "none",
    "budget": {"trials": 2},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task of two labels, a corpus and a space that would run."""
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "birds", "sing"]
    rows = [f"{' '.join(words[i % 5 : i % 5 + 6])} {i},{'even' if i % 2 == 0 else 'odd'}" for i in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]))
    (tmp_path / "same.csv").write_text("\n".join(["text,label", *(f"{row.split(',')[0]},one" for row in rows)]))
    (tmp_path / "texts.csv").write_text("\n".join(["text", *(row.split(",")[0] for row in rows)]))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


CASES = {
    "a missing file": ([], "nowhere.yaml", ["nowhere.yaml", "no such file"]),
    "an unknown key": (["--set", "search.dept=2"], None, ["search.dept", "depth"]),
    "a value out of range": (["--set", "search.masking_probability=2"], None, ["masking_probability", "2", "0.9"]),
    "a width that heads do not divide": (
        ["--set", "search.width=30"],
        None,
        ["width 30 is not divided by head_size 8"],
    ),
    "a label column that is not there": (["--set", "task.label=team"], None, ["team", "text, label"]),
    "a text column that is not there": (["--set", "task.text=body"], None, ["body", "text, label"]),
    "a task with one label": (["--set", "task.source=same.csv"], None, ["same.csv", "at least 2 labels"]),
    "fewer rows than asked for": (["--set", "task.train_per_label=400"], None, ["400", "even", "odd"]),
    "fewer documents than asked for": (["--set", "search.pretrain_size=5000"], None, ["5000", "32 documents"]),
    "a missing data file": (["--set", "corpus.source=gone.csv"], None, ["gone.csv"]),
    "more GPUs than there are": (["--set", "resources.gpus_per_trial=64"], None, ["64", "GPU"]),
    "more CPUs than there are": (["--set", "resources.cpus_per_trial=4096"], None, ["4096", "CPU"]),
    "a committee of 0": (["--set", "search.committee_size=0"], None, ["committee_size", "0", "1 to 1000"]),
    "an option without a value": (["--set", "search.depth"], None, ["KEY=VALUE"]),
}


@pytest.mark.parametrize(("options", "file", "words"), CASES.values(), ids=CASES.keys())
def test_one_message_and_nothing_written(call, here: Path, options: list[str], file: str | None, words: list[str]):
    code, out, err = call("run", file or "space.yaml", *options)
    assert (code, out) == (2, "")
    assert err.count("error:") == 1
    assert "Traceback" not in err
    for word in words:
        assert word.replace(",", "") in err.replace(",", ""), err
    studies = here / "studies"
    assert not studies.exists() or not [f for f in studies.iterdir() if f.name != ".store"]


@pytest.mark.parametrize("text", ["search: [", "a: 1\na: 2", "- 1", "", "search: {depth: *x}"])
def test_a_file_that_is_no_space(call, here: Path, text: str) -> None:
    (here / "space.yaml").write_text(text)
    code, out, err = call("run", "space.yaml")
    assert (code, out) == (2, "")
    assert "space.yaml" in err
    assert "Traceback" not in err


def test_a_study_of_another_space_is_left_alone(call, here: Path) -> None:
    folder = here / "studies" / "space"
    folder.mkdir(parents=True)
    space = load_space(here / "space.yaml", overrides={"trainer": "simulated"})
    storage = StudyLocation.of(folder).storage
    StudyLocation(folder, storage, "space").create(space)
    StudyLocation(folder, None, "space").write(space)
    before = {file: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    code, _, err = call("run", "space.yaml", "--set", "trainer=simulated", "--set", "search.width=32")
    assert code == 2
    assert "width" in err
    assert "--fresh" in err
    assert {file: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before


def test_a_folder_that_cannot_be_written(call, here: Path) -> None:
    blocked = here / "studies"
    if os.geteuid() == 0:
        blocked.write_text("root may write anywhere, but not below a file")
    else:
        blocked.mkdir()
        blocked.chmod(0o500)
    code, _, err = call("run", "space.yaml", "--set", "trainer=simulated")
    assert code == 2
    assert "studies" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["status", "best", "report", "dashboard"])
def test_a_study_that_is_not_there(call, here: Path, command: str) -> None:
    code, out, err = call(command, "nothing")
    assert (code, out) == (2, "")
    assert "nothing" in err
