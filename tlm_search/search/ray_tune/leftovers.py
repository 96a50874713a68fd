"""Temporary folders of runs. The next run removes those that a killed run left.

A run holds a lock in each of its folders, which ends with its process. A folder with a free lock belongs to a dead run,
and a folder without a lock file to some other program.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tlm_search.files import Lock

_MARK = ".tlm-search.lock"
_PREFIX = "tlm-search-"
_YOUNG_SECONDS = 60.0  # time between making a folder and taking its lock

_claimed: list[Lock] = []


def claim(folder: Path) -> None:
    """Lock a temporary folder for the life of this process, so that other runs do not remove it.

    Raises:
        OSError: the folder cannot be written.
    """
    lock = Lock(folder / _MARK)
    lock.acquire(wait=False)
    _claimed.append(lock)


@contextmanager
def temporary_folder(place: Path | None = None) -> Iterator[Path]:
    """Yield a new folder in ``place``, by default that of temporary files, and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    try:
        claim(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(*places: Path) -> int:
    """Remove the folders in ``places`` that dead runs left; return how many."""
    removed = 0
    for mark in [mark for place in places for mark in place.glob(f"*/{_MARK}")]:
        lock = Lock(mark)
        with suppress(OSError):  # it belongs to another user, or was removed meanwhile
            if time.time() - mark.stat().st_mtime >= _YOUNG_SECONDS and lock.acquire(wait=False):
                try:
                    shutil.rmtree(mark.parent, ignore_errors=True)
                    removed += not mark.parent.exists()
                finally:
                    lock.release()
    return removed
