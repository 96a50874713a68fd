"""The storage of a study: a journal file in its folder, or a database at a URL."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from tlm_search.errors import StudyError
from tlm_search.files import Lock
from tlm_search.study.sync import JOURNAL

if TYPE_CHECKING:
    from io import FileIO
    from typing import BinaryIO

_TAIL_BYTES = 1 << 20


class KernelLock(JournalFileOpenLock):
    """A lock for a journal that ends with its process. Optuna's own lock survives a kill and blocks everyone."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._lock = Lock(journal.with_name(f"{journal.name}.flock"))

    def acquire(self) -> bool:
        """Wait for the lock."""
        return self._lock.acquire()

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


class Journal(JournalFileBackend):
    """A journal file that waits for the disk only when a trial changes its state.

    Optuna waits after every parameter and attribute, about twenty times a trial. Data written in between survive a
    killed process. A power cut loses at most the running trials.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kernel_lock = KernelLock(path)
        super().__init__(str(path), lock_obj=self._kernel_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append a line of JSON for each entry."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._kernel_lock.acquire()
        try:
            with self._path.open("ab", buffering=0) as file:
                _append_whole(file, lines.encode())
                if any("state" in log for log in logs):
                    os.fsync(file.fileno())
        finally:
            self._kernel_lock.release()


def _append_whole(file: FileIO, data: bytes) -> None:
    end = os.fstat(file.fileno()).st_size
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        # A full disk leaves half a line. Remove it, or the next line would be appended to it.
        os.ftruncate(file.fileno(), end)
        raise


def open_storage(folder: Path, url: str | None = None) -> BaseStorage:
    """Open the journal in a study's ``folder``, or the database at ``url``.

    Raises:
        StudyError: the storage cannot be opened. The message shows no password.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url is None:
        return _journal(folder / JOURNAL)
    from tlm_search.study.databases import open_database

    return open_database(url)


def is_missing(folder: Path, url: str | None = None) -> bool:
    """Return whether ``open_storage`` would create a file.

    Raises:
        StudyError: the URL has an unknown form.
    """
    if url is None:
        return not (folder / JOURNAL).exists()
    from tlm_search.study import databases

    return databases.is_missing(url)


def mend_journal(journal: Path) -> int:
    """Move a half-written last line of a killed writer or a full disk to ``<journal>.torn``; return its bytes.

    Otherwise the next writer would append to the half line, and the journal would become unreadable. Only the study's
    driver may call this, while it holds the study's lock.
    """
    if not journal.is_file():
        return 0
    with journal.open("r+b") as file:
        end = file.seek(0, 2)
        whole = _end_of_last_whole_line(file, end)
        if whole == end:
            return 0
        file.seek(whole)
        with journal.with_name(f"{journal.name}.torn").open("ab") as torn:
            torn.write(file.read() + b"\n")
        file.truncate(whole)
    return end - whole


def _journal(path: Path) -> BaseStorage:
    try:
        return JournalStorage(Journal(path))
    except OSError as error:
        raise StudyError(f"{path} cannot be opened: {error.strerror or error}") from error
    except (ValueError, KeyError, AssertionError) as error:
        raise StudyError(
            f"{path} is damaged: {_first_line(error)}",
            hint="run the study with --fresh: it moves the damaged study aside and reuses its members",
        ) from error


def _end_of_last_whole_line(file: BinaryIO, end: int) -> int:
    start = max(0, end - _TAIL_BYTES)
    file.seek(start)
    tail = file.read(end - start)
    while tail:
        cut = tail.rfind(b"\n", 0, len(tail) - 1) + 1  # the last line begins here
        if tail.endswith(b"\n") and _is_json(tail[cut:]):
            return start + len(tail)
        if not cut and start:
            break  # the line is longer than the window: the reader reports it
        tail = tail[:cut]
    return end if start else 0


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
