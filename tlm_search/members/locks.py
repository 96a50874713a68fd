"""Locks of the kernel (``flock``), one file each: they die with the process that holds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from tlm_search.remote.lease import HeldError

_LOOK_SECONDS = 0.02


@contextmanager
def held(file: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock ``file``, which is made.

    Raises:
        HeldError: somebody holds it, and ``wait`` is False.
        OSError: the file cannot be made or locked.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # The fallback of filelock outlives a killed process: better an error where flock is missing.
    lock = filelock.FileLock(file, poll_interval=_LOOK_SECONDS, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except filelock.Timeout:
        raise HeldError(file.name) from None
    try:
        yield
    finally:
        lock.release()
