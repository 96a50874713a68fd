"""Temporary folders of runs: what a kill left of one is removed by the next.

A run holds a lock in each of its folders, which ends with its process. So a folder whose lock is free is a dead run's,
and a folder without that file is somebody else's.
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
_YOUNG_SECONDS = 60.0  # a folder may have been made, and its lock not yet been taken

_claimed: list[Lock] = []


def claim(folder: Path) -> None:
    """Mark a temporary folder as this process's, for as long as that lives.

    Raises:
        OSError: the folder cannot be written.
    """
    lock = Lock(folder / _MARK)
    lock.acquire(wait=False)
    _claimed.append(lock)


@contextmanager
def temporary_folder(place: Path | None = None) -> Iterator[Path]:
    """Give a new folder in ``place``, by default that of temporary files; it is removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    try:
        claim(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(*places: Path) -> int:
    """Remove the folders in ``places`` that dead runs have left; return how many."""
    removed = 0
    for mark in [mark for place in places for mark in place.glob(f"*/{_MARK}")]:
        lock = Lock(mark)
        with suppress(OSError):  # another user's, or removed meanwhile
            if time.time() - mark.stat().st_mtime >= _YOUNG_SECONDS and lock.acquire(wait=False):
                try:
                    shutil.rmtree(mark.parent, ignore_errors=True)
                    removed += not mark.parent.exists()
                finally:
                    lock.release()
    return removed
