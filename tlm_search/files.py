"""Write files whole or not at all, hold locks that end with their process, and say why a place cannot be written.

Modes are those of the umask: with umask 002 every user of a folder's group can continue a study.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from tlm_search.errors import UserError

TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
ELSEWHERE = "choose another folder with --studies-dir"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

_Kind = TypeVar("_Kind", bound=UserError)


class HeldError(Exception):
    """Another process holds the lock or the lease; the text names it."""


class Lock:
    """A lock of the kernel (``flock``) on a file, which it creates. It also excludes threads of one process.

    It makes the system call directly: a trial takes the journal's lock about twenty times, and the lock of a library
    takes 0.2 ms longer.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._thread = threading.Lock()
        self._descriptor = -1

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; return False if another process holds it and ``wait`` is False.

        Raises:
            OSError: the file cannot be created or locked.
        """
        if not self._thread.acquire(blocking=wait):
            return False
        try:
            self._descriptor = _open(self._file)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            self.release()
            return False
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Release the lock."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)  # the lock ends with its last descriptor
        self._thread.release()


@contextmanager
def held(file: Path, *, wait: bool = True, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock ``file``. ``waiting`` is called once if another process holds it.

    Raises:
        HeldError: another process holds it, and ``wait`` is False.
        OSError: the file cannot be created or locked.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(file)
    if not lock.acquire(wait=False):
        if not wait:
            raise HeldError(file.name)
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a new path next to ``path``, for a file or a folder that is not finished. It is removed at the end.

    Its name begins with a dot, so that readers ignore it. Call ``put`` to rename it to ``path``.
    """
    unfinished = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")
    try:
        yield unfinished
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            with suppress(OSError):
                unfinished.unlink()


def put(unfinished: Path, path: Path) -> None:
    """Rename a finished file or folder to ``path``: readers see all of it or nothing, also after a power cut.

    Raises:
        OSError: it cannot be written, or ``path`` is a folder that is not empty (then ``errno`` is in ``TAKEN``).
    """
    for part in (*unfinished.rglob("*"), unfinished) if unfinished.is_dir() else (unfinished,):
        if part.is_file() and part.stat().st_mode & 0o077 == 0:
            part.chmod(_mode_of_new_files(part))  # safetensors ignores the umask and writes for its user only
        _sync(part)
    unfinished.replace(path)
    _sync(path.parent)


def write_text(file: Path, text: str) -> None:
    """Write ``file`` whole or not at all; its folder is created.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with beside(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
        put(unfinished, file)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write into; it is renamed to ``folder`` if the block succeeds.

    If another process was first, its folder stays.

    Raises:
        OSError: it cannot be written.
    """
    with beside(folder) as unfinished:
        unfinished.mkdir(parents=True)
        yield unfinished
        try:
            put(unfinished, folder)
        except OSError as error:
            if error.errno not in TAKEN:
                raise


@contextmanager
def writing(kind: type[UserError], place: object, *, otherwise: str = ELSEWHERE) -> Iterator[None]:
    """Turn an OSError of the block into the error of ``unwritable``."""
    try:
        yield
    except OSError as error:
        raise unwritable(kind, place, error, otherwise=otherwise) from error


def unwritable(kind: type[_Kind], place: object, error: OSError, *, otherwise: str = ELSEWHERE) -> _Kind:
    """Return the error that says why ``place`` cannot be written, how to solve that, and what to do ``otherwise``."""
    if error.errno in _FULL:
        solution = "free some space there"
    elif error.errno in _NO_LOCKS:
        solution = "use a file system that has locks (flock)"
    else:
        solution = "make sure that you can write there"
    return kind(f"{place} cannot be written: {error.strerror or error}", hint=f"{solution}, or {otherwise}")


def inside(folder: Path, name: str) -> Path:
    """Return the path of ``name``, whose parts are separated by slashes, below ``folder``.

    Others may have written the listing, journal or manifest that contains the name. A name that could lie outside of
    the folder is refused: an absolute one, or one with an empty part, ``.`` or ``..``.

    Raises:
        ValueError: the name is not that of a file below the folder.
    """
    if not isinstance(name, str) or "\0" in name or {"", ".", ".."} & set(name.split("/")):
        raise ValueError(f"{name!r} is not the name of a file in it")
    return folder / name


def is_plain(name: str) -> bool:
    """Return whether a name can be passed to a command and printed: no leading dash, no control characters.

    Control characters end a line, ring, or change the direction in which a terminal writes.
    """
    return not name.startswith("-") and not any(
        unicodedata.category(character) in _CONTROLS or character in _DIRECTIONS for character in name
    )


def _open(file: Path) -> int:
    flags = os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(file, os.O_RDWR | flags, 0o666)  # a lock over NFS needs the right to write
    except PermissionError:
        return os.open(file, os.O_RDONLY | flags, 0o666)  # a file of another user


def _mode_of_new_files(path: Path) -> int:
    """Return the mode that the umask, or the folder, gives new files. Reading the umask would change it."""
    probe = path.with_name(f"{path.name}.mode")
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        return probe.stat().st_mode & 0o777
    finally:
        probe.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
