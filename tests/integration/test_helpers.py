"""The last trial of a study has two processors: both train members of it, and a worker that dies costs nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from killing import faults_of, finish, kill_worker, lines_until, results_of, start_command
from nodes import wait_until

from tlm_search.cost.machine import available_cpus
from tlm_search.study.location import read_study

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(240),
    pytest.mark.skipif(available_cpus() < 2, reason="one processor helps nobody"),
]

# A member trains until the test releases it, so that two are at work at the same time on any machine.
TRAINER = """
import os, time
from pathlib import Path

import numpy as np

class Waits:
    def train(self, request):
        Path("FOLDER", f"at-work-{os.getpid()}").touch()
        while not Path("FOLDER", "go").exists():
            time.sleep(0.01)
        noise = np.random.default_rng(request.seed)
        return {split: noise.normal(size=(len(request.texts[split]), 2)) for split in ("validation", "test")}
"""
WORDS = ("red", "blue", "green", "tree", "house", "river", "stone", "cloud", "bread", "horse")


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a space that has one trial with two members."""
    rows = [f"{WORDS[i % 2 * 5 + i % 5]} {WORDS[i % 7]} {i},{'ab'[i % 2]}" for i in range(80)]
    (tmp_path / "task.csv").write_text("\n".join(["text,label", *rows]))
    (tmp_path / "waits.py").write_text(TRAINER.replace("FOLDER", str(tmp_path)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    document = {
        "trainer": "waits:Waits",
        "corpus": {"source": "task.csv", "text": "text"},
        "tokenizer": {"vocabulary": 60, "length": 8},
        "task": {"source": "task.csv", "train_per_label": 8, "validation_per_label": 8, "test_per_label": 8},
        "search": {"committee_size": 2},
        "pruner": "none",
        "resources": {"cpus_per_trial": 1},
        "budget": {"trials": 1},
    }
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "a worker is killed"])
def test_members_of_the_last_trial_are_trained_at_once(space: Path, killed: bool) -> None:
    with start_command(space, "run", "space.yaml") as process:
        lines_until(process, "starting Ray")
        try:
            wait_until(lambda: process.poll() is not None or len(list(space.glob("at-work-*"))) == 2)
            assert not killed or kill_worker(process.pid)
        finally:
            (space / "go").touch()
        code, _, err = finish(process)
    assert code == 0, err
    folder = space / "studies" / "space"
    assert faults_of(folder, 1) == []
    if not killed:
        (trial,) = read_study(folder).trials
        assert (trial.trained, trial.reused) == (2, 0)
        assert "2 members trained, 0 reused" in err
        assert len(results_of(folder)) == 1
