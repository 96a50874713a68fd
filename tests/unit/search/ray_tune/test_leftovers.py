"""The next run removes the temporary files that a killed run has left, and no other files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tlm_search.search.ray_tune import leftovers
from tlm_search.search.ray_tune.leftovers import claim, remove_leftovers, temporary_folder

HOLD = """
import sys, time
from pathlib import Path
from tlm_search.search.ray_tune.leftovers import claim, temporary_folder
there = temporary_folder(Path(sys.argv[1]))
there.__enter__()
ray = Path(sys.argv[1]) / "session_1"
ray.mkdir()
claim(ray)
print("made", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def nobody_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_YOUNG_SECONDS", 0.0)


def test_only_a_dead_runs_folders_go(tmp_path: Path) -> None:
    (tmp_path / "tlm-search-mine").mkdir()  # a user's folder, or one of an earlier version
    (tmp_path / "session_0").mkdir()  # a folder of another program's Ray
    theirs = sorted(tmp_path.iterdir())
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "made\n"
        assert remove_leftovers(tmp_path) == 0
        assert len(list(tmp_path.iterdir())) == 4
        process.kill()
    assert remove_leftovers(tmp_path) == 2
    assert sorted(tmp_path.iterdir()) == theirs
    assert remove_leftovers(tmp_path / "none") == 0


def test_a_run_removes_its_own_folder_at_its_end(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        (folder / "file").touch()
        assert remove_leftovers(tmp_path) == 0
    assert not folder.exists()


def test_what_was_just_made_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_YOUNG_SECONDS", 60.0)
    mark = tmp_path / "tlm-search-x" / ".tlm-search.lock"
    mark.parent.mkdir()
    mark.touch()
    assert remove_leftovers(tmp_path) == 0
    old = time.time() - 61
    os.utime(mark, (old, old))
    assert remove_leftovers(tmp_path) == 1


def test_a_place_that_cannot_be_written_is_no_error_later(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        claim(tmp_path / "none")
