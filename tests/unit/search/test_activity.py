"""Workers report their training: seldom, in complete files, and only while it runs."""

import json
import os
from pathlib import Path

import pytest

from tlm_search.members.trainer import Step
from tlm_search.search.activity import FRESH_SECONDS, Teller, activities, folder_of, forget
from tlm_search.search.job import Job

JOB = Job(3, {"committee_size": 4})


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def step(
    update: int, *, phase: str = "pre-training", seeds: tuple[int, ...] = (2000, 2001), updates: int = 5000
) -> Step:
    return Step(phase, seeds, update, updates, update * 50)


def test_a_worker_tells_at_most_once_a_second(tmp_path: Path) -> None:
    clock, writes = Clock(), 0
    tell = Teller(folder_of(tmp_path), JOB, first_seed=2000, now=clock)
    before = None
    for update in range(1, 5001):  # five seconds of updates that take a millisecond each
        clock.seconds += 0.001
        tell(step(update))
        now = activities(tmp_path)
        writes, before = writes + (now != before and now != []), now
    assert writes == 5
    assert [entry.name for entry in folder_of(tmp_path).iterdir()] == [f"{os.uname().nodename}-{os.getpid()}.json"]


def test_what_is_told(tmp_path: Path) -> None:
    clock = Clock()
    tell = Teller(folder_of(tmp_path), JOB, first_seed=2000, now=clock)
    tell(step(1))
    assert activities(tmp_path) == []  # a job of less than a second writes nothing
    clock.seconds += 2
    tell(step(401, seeds=(2000, 2001)))
    [told] = activities(tmp_path)
    assert (told.title, told.attempt, told.phase, told.members) == ("trial 3", JOB.attempt, "pre-training", (1, 2))
    assert (told.update, told.updates, told.tokens_per_second) == (401, 5000, 10_000.0)
    clock.seconds += 2
    tell(step(7, phase="fine-tuning"))  # fine-tuning has its own speed
    clock.seconds += 1
    tell(step(9, phase="fine-tuning"))
    [told] = activities(tmp_path)
    assert (told.phase, told.tokens_per_second) == ("fine-tuning", 100.0)
    tell.end()
    assert activities(tmp_path) == []


def test_what_a_checkpoint_or_the_store_held_was_not_trained_now(tmp_path: Path) -> None:
    clock = Clock()
    tell = Teller(folder_of(tmp_path), JOB, first_seed=2000, now=clock)
    for update in (4001, 4002, 4500):  # the checkpoint was written after update 4,000
        clock.seconds += 1
        tell(step(update))
    [told] = activities(tmp_path)
    assert (told.pretrained, told.finetuned) == (pytest.approx(2 * 0.1), 0)
    clock.seconds += 1
    tell(step(5000))
    for update in (1, 2500):  # the encoders of the next two members come from the store
        clock.seconds += 1
        tell(step(update, phase="fine-tuning", seeds=(2002, 2003)))
    [told] = activities(tmp_path)
    assert (told.pretrained, told.finetuned) == (pytest.approx(2 * 0.2), pytest.approx(2 * 0.5))


def test_a_phase_without_updates_is_told_when_it_begins(tmp_path: Path) -> None:
    tell = Teller(folder_of(tmp_path), JOB, first_seed=2000, now=Clock())
    tell(step(0, phase="counting words", updates=0))
    [told] = activities(tmp_path)
    assert (told.phase, told.members, told.updates) == ("counting words", (1, 2), 0)
    assert told.pretrained == told.finetuned == told.tokens_per_second == 0


def test_a_dead_worker_is_believed_for_a_minute_only(tmp_path: Path) -> None:
    clock = Clock()
    tell = Teller(folder_of(tmp_path), JOB, first_seed=0, now=clock)
    clock.seconds += 2
    tell(step(1))
    assert activities(tmp_path, fresh=True)
    [file] = folder_of(tmp_path).iterdir()
    old = file.stat().st_mtime - FRESH_SECONDS - 1
    os.utime(file, (old, old))
    assert not activities(tmp_path, fresh=True)
    assert activities(tmp_path)
    forget(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_version_and_a_folder_that_is_not_here_harm_nobody(tmp_path: Path) -> None:
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "a-1.json").write_text(json.dumps({"title": "trial 1", "members": [1, 2], "more": 1}))
    (folder_of(tmp_path) / "a-2.json").write_text("{")
    assert activities(tmp_path) == []
    clock = Clock()
    tell = Teller(folder_of(tmp_path / "on another node"), JOB, first_seed=0, now=clock)
    clock.seconds += 2
    tell(step(1))
    assert not (tmp_path / "on another node").exists()
