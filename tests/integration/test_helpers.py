"""The last trial of a study has two processors: both train members of it, and a worker that dies costs nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from killing import Process, faults_of, finish, kill_worker, lines_until, results_of, start_command

from tlm_search.cost.machine import available_cpus
from tlm_search.study.location import read_study

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.skipif(available_cpus() < 2, reason="one processor helps nobody"),
]

WAIT_SECONDS = 240
WORDS = ("red", "blue", "green", "tree", "house", "river", "stone", "cloud", "bread", "horse")


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """A space of one trial with two members, each of which takes some seconds."""
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"{word} {other} {word}" for word in WORDS for other in WORDS))
    rows = [f"{WORDS[i % 2 * 5 + i % 5]} {WORDS[i % 7]} {i},{'ab'[i % 2]}" for i in range(80)]
    (tmp_path / "task.csv").write_text("\n".join(["text,label", *rows]))
    document = {
        "corpus": "corpus.txt",
        "tokenizer": {"vocabulary": 60, "length": 8},
        "task": {"source": "task.csv", "train_per_label": 8, "validation_per_label": 8, "test_per_label": 8},
        "search": {"depth": 1, "width": 16, "pretrain_size": 90, "pretrain_epochs": 500, "committee_size": 2},
        "objectives": ["validation_accuracy", "parameters"],
        "resources": {"cpus_per_trial": 1},
        "budget": {"trials": 1},
    }
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


def wait_for_helper(folder: Path, process: Process) -> None:
    """Wait until two members are trained at once; each has a folder until it is pre-trained."""
    scratch, began = folder / "studies" / ".store" / "scratch", time.monotonic()
    while time.monotonic() - began < WAIT_SECONDS and process.poll() is None:
        if len(list(scratch.glob("pretrained-*"))) == 2:
            return
        time.sleep(0.02)
    raise AssertionError("no two members were trained at once")


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "a worker is killed"])
def test_members_of_the_last_trial_are_trained_at_once(space: Path, killed: bool) -> None:
    with start_command(space, "run", "space.yaml") as process:
        lines_until(process, "starting Ray")
        wait_for_helper(space, process)
        if killed:
            assert kill_worker(process.pid)
        code, _, err = finish(process)
    assert code == 0, err
    folder = space / "studies" / "space"
    assert faults_of(folder, 1) == []
    if not killed:
        (trial,) = read_study(folder).trials
        assert (trial.trained, trial.reused) == (2, 0)
        assert "2 members trained, 0 reused" in err
        assert len(results_of(folder)) == 1
