"""Disks that are full, cannot be written, or give back other bytes; clocks that jump."""

from __future__ import annotations

import datetime
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from driven import REFERENCE, Bench, results, space_of
from killing import faults_of, finish, start_command

from tlm_search.study.location import StudyLocation
from tlm_search.study.record import record_of

SPACE = """
trainer: simulated
resources: {concurrent_trials: 1}
search: {depth: {low: 1, high: 3}, heads: {choices: [1, 2, 4]}, head_size: 8, committee_size: {low: 1, high: 4}}
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system in memory. Call it with the options of a mount; another call changes them."""
    place = tmp_path / "disk"

    def mount(options: str) -> Path:
        if os.geteuid() != 0:
            pytest.skip("only root can mount a file system in memory")
        mounted = os.path.ismount(place)
        place.mkdir(exist_ok=True)
        command = ["mount", *(["-o", f"remount,{options}"] if mounted else ["-t", "tmpfs", "-o", options, "tmpfs"])]
        done = subprocess.run([*command, str(place)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system in memory can be mounted here: {done.stderr.strip()}")
        return place

    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_full_disk_and_one_that_cannot_be_written(
    tmp_path: Path, disk: Callable[[str], Path], call: Any, go_on: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)  # for commands that run in this process
    studies = disk("size=700k")
    run = ["run", "space.yaml", "--studies-dir", str(studies), "--trials"]
    code, out, err = finish(start_command(tmp_path, *run, "4000"))
    assert (code, out) == (2, ""), err
    assert "cannot be written: No space left on device" in err
    assert "free some space" in err
    assert "Traceback" not in err

    disk("ro,size=50m")
    code, out, err = call(*run, "4000")
    assert (code, out) == (2, ""), err
    assert "cannot be written: Read-only file system" in err
    assert "Traceback" not in err
    code, out, err = call("status", "space", "--studies-dir", str(studies))
    assert (code, err) == (0, "")
    finished = int(out.split(" of ")[0].split()[-1])

    disk("rw,size=50m")
    code, out, err = go_on(*run, str(finished + 2))
    assert code == 0, err
    assert faults_of(studies / "space", finished + 2) == []


@pytest.mark.parametrize("harm", ["truncate", "flip"])
def test_a_damaged_member_is_trained_anew_and_no_other(tmp_path: Path, harm: str) -> None:
    space = space_of(reference=REFERENCE)
    place = Bench(tmp_path, space)
    expected = results(place.drive(10)._ledger)
    members = sorted(entry.folder for entry in place.store.entries("members"))
    file = random.Random(harm).choice(members) / "logits.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data[:-100] if harm == "truncate" else data)
    (tmp_path / "study").rename(tmp_path / "old")
    again = place.drive(10)
    assert results(again._ledger) == expected
    assert again.progress.trained == 1
    assert place.store.verify() == []


def test_clocks_may_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(reference=REFERENCE, pruner={"name": "asha", "reduction_factor": 2})
    expected = results(Bench(tmp_path / "steady", space).drive(12)._ledger)
    jumps = random.Random(0)
    real = time.time

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.fromtimestamp(time.time(), tz)

    monkeypatch.setattr(time, "time", lambda: real() + jumps.choice([-1e7, -3600, 0, 3600, 1e7]))
    monkeypatch.setattr(optuna.storages.journal._storage, "datetime", Jumping)
    place = Bench(tmp_path / "jumping", space)
    for trials in (4, 8, 12):
        driver = place.drive(trials, seconds=3600.0)
    assert driver.stopped is None
    assert results(driver._ledger) == expected
    record = record_of(StudyLocation.of(place.folder / "study").open(), place.folder / "study")
    durations = [(t.finished - t.started).total_seconds() for t in record.trials if t.finished and t.started]
    assert min(durations) < -3000 < 3000 < max(durations)
    assert all(0 <= (trial.seconds or 0) < 60 for trial in record.trials)
