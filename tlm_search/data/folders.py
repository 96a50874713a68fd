"""Files of the store's data folder: written aside, flushed, then renamed, so that a reader never sees half of one."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from tlm_search.errors import StoreError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside ``folder`` to write into; it becomes ``folder`` when the block ends well.

    If another process was first, its folder stays.

    Raises:
        StoreError: the place cannot be written.
    """
    aside = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.tmp")
    try:
        try:
            aside.mkdir(parents=True)
        except OSError as error:
            raise not_writable(folder.parent, error) from error
        try:
            yield aside
            for file in aside.rglob("*"):
                sync(file)
            aside.replace(folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return
            if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
                raise not_writable(folder.parent, error) from error
            raise
        sync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def anew(folder: Path) -> Iterator[Path]:
    """Give a folder to write ``folder``'s contents into; remains of a damaged one go."""
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder) as aside:
        yield aside


@contextmanager
def folder_lock(file: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the data folder, which ends with its process; say so when another process has it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress("waiting for another process that prepares data")
            lock.acquire()
    except OSError as error:
        raise not_writable(file.parent, error) from error
    try:
        yield
    finally:
        lock.release()


def write_text(file: Path, text: str) -> None:
    """Write ``file`` whole or not at all.

    Raises:
        StoreError: the place cannot be written.
    """
    aside = file.with_name(f".{file.name}.{uuid4().hex[:8]}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding="utf-8")
        sync(aside)
        aside.replace(file)
    except OSError as error:
        raise not_writable(file.parent, error) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def sync(path: Path) -> None:
    """Make what is written in a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def not_writable(folder: Path, error: OSError) -> StoreError:
    """Make the error that says why ``folder`` cannot be written."""
    return StoreError(
        f"cannot write to {folder}: {error.strerror or error}",
        hint="choose another folder with --studies-dir, or make room there",
    )
