"""Locks of the kernel (``flock``), one file each: they die with the process that holds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

_LOOK_SECONDS = 0.02


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Hold the lock ``file``, which is made; waits for its holder.

    Raises:
        OSError: the file cannot be made or locked.
    """
    lock = _lock(file)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_held(file: Path) -> bool:
    """Say whether somebody holds the lock ``file`` now, without waiting.

    Raises:
        OSError: the file cannot be made or locked.
    """
    lock = _lock(file)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def _lock(file: Path) -> filelock.BaseFileLock:
    file.parent.mkdir(parents=True, exist_ok=True)
    # The fallback of filelock outlives a killed process: better an error where flock is missing.
    return filelock.FileLock(file, poll_interval=_LOOK_SECONDS, fallback_to_soft=False)
