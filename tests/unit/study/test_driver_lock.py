"""Kill the driver before, during and after each write of its journal: the study continues to the same result."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driven import REFERENCE, Bench, Killed, die_at, results, space_of

from tlm_search.errors import StudyError
from tlm_search.study.driver_lock import driver_lock
from tlm_search.study.storages import Journal, KernelLock, mend_journal

TRIALS = 5
POINT = {"depth": 2, "heads": 1, "pretrain_size": 0, "committee_size": 2}


def space(sampler: str = "tpe") -> Any:
    return space_of(
        sampler={"name": "tpe", "n_startup_trials": 2} if sampler == "tpe" else sampler,
        pruner={"name": "asha", "reduction_factor": 2},
        reference=REFERENCE,
        points=[POINT],
    )


def undisturbed(folder: Path, sampler: str = "tpe") -> tuple[list[Any], int]:
    with pytest.MonkeyPatch.context() as patch:
        count = die_at(patch, -1, "before")
        driver = Bench(folder, space(sampler)).drive(TRIALS)
    return results(driver._ledger), count["writes"]


@pytest.mark.parametrize("how", ["before", "torn", "after"])
@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_the_driver_may_die_at_any_write(tmp_path: Path, how: str, sampler: str) -> None:
    expected, writes = undisturbed(tmp_path / "undisturbed", sampler)
    deaths = random.Random(how + sampler).sample(range(1, writes), 8)
    for death in deaths:
        place = Bench(tmp_path / str(death), space(sampler))
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, death, how)
            with pytest.raises(Killed):
                place.drive(TRIALS)
        mend_journal(place.folder / "study" / "journal.log")
        driver = place.drive(TRIALS)
        assert results(driver._ledger) == expected, death
        assert driver.progress.finished == TRIALS
        assert not [t for t in driver._ledger.trials if t.state.name in ("RUNNING", "WAITING")]
        assert place.store.verify() == []
        for trial in driver._ledger.trials:
            if trial.user_attrs.get("interrupted") and trial.user_attrs["proposed"]:
                assert any(other.user_attrs.get("retry_of") == trial.number for other in driver._ledger.trials)


def test_the_driver_may_die_again_and_again(tmp_path: Path) -> None:
    expected, writes = undisturbed(tmp_path / "undisturbed")
    place = Bench(tmp_path / "disturbed", space())
    moments = random.Random(0)
    for _ in range(25):
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, moments.randrange(1, writes // 4), moments.choice(["before", "torn", "after"]))
            try:
                place.drive(TRIALS)
            except Killed:
                mend_journal(place.folder / "study" / "journal.log")
    assert results(place.drive(TRIALS)._ledger) == expected


def test_a_torn_line_is_cut_and_kept_aside(tmp_path: Path) -> None:
    journal = tmp_path / "journal.log"
    whole = b'{"a":1}\n{"b":2}\n'
    for torn in (b"", b'{"c"', b"\x00" * 5000, b'{"c\n', b'{"c"{"d":1}\n'):
        journal.write_bytes(whole + torn)
        assert mend_journal(journal) == len(torn)
        assert journal.read_bytes() == whole
    assert b'{"c"' in journal.with_name("journal.log.torn").read_bytes()
    journal.write_bytes(b'{"a"')
    mend_journal(journal)
    assert journal.read_bytes() == b""
    assert mend_journal(tmp_path / "none") == 0


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.log")
    journal.append_logs([{"entry": 0}])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "journal.log").stat().st_size + 40, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.append_logs([{"entry": "x" * 100}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.append_logs([{"entry": 1}])
    assert list(journal.read_logs(0)) == [{"entry": 0}, {"entry": 1}]


def test_optunas_own_lock_files_block_nobody(tmp_path: Path) -> None:
    place = Bench(tmp_path, space_of())
    place.drive(1)
    (place.folder / "study" / "journal.log.lock").symlink_to("journal.log")
    assert place.drive(2).progress.complete == 2


@pytest.fixture
def in_other_process(tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    def start(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    return start


def test_a_second_driver_is_refused_until_the_first_is_dead(
    tmp_path: Path, in_other_process: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = in_other_process(
        f"""
import time
from pathlib import Path
from tlm_search.study.driver_lock import driver_lock
with driver_lock(Path({str(tmp_path)!r})):
    print("ready", flush=True)
    time.sleep(60)
"""
    )
    with pytest.raises(StudyError, match=f"is being run by process {process.pid} on ") as raised, driver_lock(tmp_path):
        pass
    assert raised.value.hint is not None
    with process:
        os.kill(process.pid, signal.SIGKILL)
    with driver_lock(tmp_path):
        assert json.loads((tmp_path / "driver.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "driver.json").exists()


def test_the_journals_lock_dies_with_its_process(
    tmp_path: Path, in_other_process: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = in_other_process(
        f"""
import time
from pathlib import Path
from tlm_search.study.storages import KernelLock
KernelLock(Path({str(tmp_path / "journal.log")!r})).acquire()
print("ready", flush=True)
time.sleep(60)
"""
    )
    with process:
        process.kill()
    lock = KernelLock(tmp_path / "journal.log")
    assert lock.acquire()
    lock.release()


def test_a_folder_that_cannot_be_locked_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="cannot be written"), driver_lock(tmp_path / "file" / "study"):
        pass


def test_a_disk_that_turns_read_only_hides_no_error_and_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(StudyError, match="what ended the run"), driver_lock(tmp_path / "study"):
            raise StudyError("what ended the run")
    with driver_lock(tmp_path / "study"):
        pass
