"""The store: content-addressed folders of trained weights and logits, so that nothing is trained twice. No torch here.

An entry is a folder ``<root>/<kind>/<digest>`` with ``entry.json`` and one safetensors file per stem. It appears by one
rename of a finished, synced sibling, so a reader sees all of it or nothing; every file's sha256 is in ``entry.json``,
which carries its own. What does not verify is moved to ``<root>/damaged`` and counts as missing: the repair is to train
that one member again. Locks are the kernel's (``flock``), so they die with the process that holds them.

Where the folder is the copy of a store at a URL, an entry is published there before it appears here, and what is
missing here is fetched; see ``mirror``.
"""

from __future__ import annotations

import errno
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from tlm_search.data.folders import sync
from tlm_search.errors import StoreError
from tlm_search.members.entry import (
    INDEX,
    Arrays,
    DamagedError,
    Entry,
    checked_entry,
    read_entry,
    write_entry,
)
from tlm_search.members.mirror import Mirror

__all__ = ["Arrays", "Entry", "Problem", "Store"]

_DAMAGED, _LOCKS, _SCRATCH = "damaged", "locks", "scratch"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)


@dataclass(frozen=True)
class Problem:
    """An entry that does not verify, and why."""

    kind: str
    digest: str
    reason: str


class Store:
    """The store below ``root``; nothing is created before the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mirror = Mirror.of(root)

    def read(self, kind: str, digest: str) -> Entry | None:
        """Return the entry when all its files are whole; a damaged one is moved aside and None returned.

        Raises:
            StoreError: the entry is there but may not be read, or is damaged and cannot be moved.
        """
        entry = self._read_here(kind, digest)
        if self.mirror is None:
            return entry
        folder = self._folder(kind, digest)
        if entry is not None:
            # What went there by mistake comes back from here, unless it was made anew meanwhile.
            if self.mirror.has(kind, digest) or self.mirror.publish(kind, digest, folder):
                return entry
            self._remove_here(kind, digest)
        try:
            return self._read_here(kind, digest) if self.mirror.fetch(kind, digest, folder) else None
        except OSError as error:
            raise self._unwritable(error) from error

    def _read_here(self, kind: str, digest: str) -> Entry | None:
        folder = self._folder(kind, digest)
        try:
            return checked_entry(folder, kind, digest)
        except FileNotFoundError:
            return None
        except DamagedError:
            return self._set_aside(folder, kind, digest)
        except OSError as error:
            raise _unreadable(folder, error) from error

    def write(self, kind: str, digest: str, document: Mapping[str, Any], arrays: Arrays) -> Entry:
        """Store ``arrays`` (file stem -> tensor name -> array) and ``document`` (JSON), and return the entry.

        When another writer was first, its entry stays and is returned; this one's files are discarded.

        Raises:
            StoreError: the folder cannot be written, or the disk is full; nothing is left behind.
            ValueError: the document holds NaN or infinite numbers.
        """
        final = self._folder(kind, digest)
        # A leading dot: readers and `entries` never take it for an entry.
        unfinished = final.with_name(f".{digest}.{uuid.uuid4().hex}")
        try:
            write_entry(unfinished, kind, digest, document, arrays)
            entry = self._won_elsewhere(unfinished, kind, digest) or self._publish(unfinished, final, kind, digest)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(self._scratch_folder(kind, digest), ignore_errors=True)
        if self.mirror is not None:
            self.mirror.drop_scratch(f"{kind}-{digest}")
        return entry

    @contextmanager
    def lock(self, kind: str, digest: str) -> Iterator[None]:
        """Hold the only right to make this entry; waits for the holder, and ends with the process.

        Raises:
            StoreError: the lock file cannot be written.
        """
        name = f"{kind}-{_valid(digest)}"
        with self._lock(name), nullcontext() if self.mirror is None else self.mirror.lock(name):
            yield

    def scratch(self, kind: str, digest: str) -> Path:
        """Return a folder for unfinished work on an entry; it goes when the entry is written."""
        folder = self._scratch_folder(kind, digest)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.mirror is not None:
                self.mirror.fetch_scratch(folder.name, folder)
        except OSError as error:
            raise self._unwritable(error) from error
        return folder

    def keep_scratch(self, kind: str, digest: str) -> None:
        """Let another node go on from what is in the scratch folder now, if it can be sent."""
        if self.mirror is not None:
            with suppress(StoreError):
                self.mirror.keep_scratch(f"{kind}-{digest}", self._scratch_folder(kind, digest))

    def entries(self, kind: str) -> Iterator[Entry]:
        """Yield the entries of ``kind`` by digest without checking their arrays; broken ones are left out."""
        if self.mirror is not None:
            yield from self.mirror.entries(_valid(kind))
            return
        for folder in self._folders(kind):
            with suppress(DamagedError, OSError):
                yield read_entry(folder, kind, folder.name)

    def sizes(self, kind: str) -> dict[str, int]:
        """Return the bytes that each entry of ``kind`` takes on the disk, by digest; broken ones are there too."""
        if self.mirror is not None:
            return self.mirror.sizes(_valid(kind))
        return {folder.name: _bytes_below(folder) for folder in self._folders(kind)}

    def modified(self, kind: str, digest: str) -> float | None:
        """Return when an entry was written, in seconds since 1970; None where that is not known."""
        if self.mirror is not None:
            return self.mirror.modified(_valid(kind), _valid(digest))
        try:
            return self._folder(kind, digest).stat().st_mtime
        except FileNotFoundError:
            return None

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of entries that the store holds."""
        if self.mirror is not None:
            return self.mirror.kinds()
        if not self.root.is_dir():
            return ()
        # Other rooms keep folders of their own here (tokens); a kind is what holds an entry.
        return tuple(sorted(f.name for f in self.root.iterdir() if _NAME.fullmatch(f.name) and _holds_entries(f)))

    def verify(self) -> list[Problem]:
        """Check every file of every entry and return what does not verify; nothing is moved."""
        problems = []
        for kind in self.kinds():
            if self.mirror is not None:
                problems += [Problem(kind, digest, reason) for digest, reason in self.mirror.problems(kind).items()]
                continue
            for folder in self._folders(kind):
                try:
                    checked_entry(folder, kind, folder.name)
                except DamagedError as damage:
                    problems.append(Problem(kind, folder.name, str(damage)))
                except FileNotFoundError:
                    continue  # removed since it was listed
                except OSError as error:
                    problems.append(Problem(kind, folder.name, error.strerror or str(error)))
        return problems

    def remove(self, kind: str, digest: str) -> None:
        """Remove an entry, whole or not; a missing one is no error."""
        if self.mirror is not None:
            self.mirror.remove(_valid(kind), _valid(digest))
        self._remove_here(kind, digest)

    def _remove_here(self, kind: str, digest: str) -> None:
        folder = self._folder(kind, digest)
        # First out of sight: a reader never meets half an entry.
        condemned = folder.with_name(f".{digest}.{uuid.uuid4().hex}")
        try:
            folder.rename(condemned)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unwritable(error) from error
        shutil.rmtree(condemned, ignore_errors=True)

    def sweep(self, *, older_than_seconds: float = 86_400) -> int:
        """Remove what killed processes left: unfinished writes, scratch and damaged entries; return how many.

        Younger ones stay, because their writer may be alive on another machine.
        """
        newest = time.time() - older_than_seconds
        there = 0 if self.mirror is None else self.mirror.sweep(older_than_seconds=older_than_seconds)
        unfinished = [f for kind in self.kinds() for f in (self.root / kind).glob(".*")]
        rest = [f for part in (_SCRATCH, _DAMAGED) for f in (self.root / part).glob("*")]
        old = [folder for folder in unfinished + rest if _modified(folder) <= newest]
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
        return there + len(old)

    def check_writable(self) -> None:
        """Raise StoreError now, not after an hour of training, when the store cannot be written."""
        probe = self.root / f".probe.{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise self._unwritable(error) from error
        if self.mirror is not None:
            self.mirror.check_writable()

    def _folder(self, kind: str, digest: str) -> Path:
        return self.root / _valid(kind) / _valid(digest)

    def _scratch_folder(self, kind: str, digest: str) -> Path:
        return self.root / _SCRATCH / f"{_valid(kind)}-{_valid(digest)}"

    def _folders(self, kind: str) -> list[Path]:
        parent = self.root / _valid(kind)
        return sorted(f for f in parent.iterdir() if _NAME.fullmatch(f.name)) if parent.is_dir() else []

    def _won_elsewhere(self, unfinished: Path, kind: str, digest: str) -> Entry | None:
        """Publish the entry where this folder is a copy; return that of an earlier writer, if there is one."""
        if self.mirror is None:
            return None
        while True:
            if (winner := self.read(kind, digest)) is not None:
                return winner
            if self.mirror.publish(kind, digest, unfinished):
                return None

    def _publish(self, unfinished: Path, final: Path, kind: str, digest: str) -> Entry:
        """Rename into place, unless a whole entry of an earlier writer is there."""
        while True:
            try:
                unfinished.rename(final)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                # Damaged: `read` moves it aside, and the next rename finds the place free.
                if (winner := self.read(kind, digest)) is not None:
                    return winner
            else:
                # The names inside it need no sync of their own: an entry that a power cut took one from is damaged.
                sync(final.parent)
                return read_entry(final, kind, digest)

    def _set_aside(self, folder: Path, kind: str, digest: str) -> Entry | None:
        # One process at a time, and it looks again: another may have repaired the entry since.
        with self._lock(_DAMAGED):
            try:
                return checked_entry(folder, kind, digest)
            except FileNotFoundError:
                return None
            except DamagedError:
                target = self.root / _DAMAGED / f"{kind}-{digest}-{uuid.uuid4().hex[:8]}"
                try:
                    target.parent.mkdir(exist_ok=True)
                    folder.rename(target)
                except OSError as error:
                    raise self._unwritable(error) from error
                return None

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        path = self.root / _LOCKS / f"{name}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The fallback of filelock outlives a killed process: better an error where flock is missing.
            lock = filelock.FileLock(path, poll_interval=0.02, fallback_to_soft=False)
            lock.acquire()
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    def _unwritable(self, error: OSError) -> StoreError:
        hint = "free some space" if error.errno == errno.ENOSPC else "choose another folder with --studies-dir"
        return StoreError(f"the store {self.root} cannot be written: {error.strerror or error}", hint=hint)


def _valid(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of the store; lower case letters, digits, - and _ are")
    return name


def _holds_entries(folder: Path) -> bool:
    return folder.name not in (_DAMAGED, _LOCKS, _SCRATCH) and any(
        any(folder.glob(f"*/{p}")) for p in (INDEX, "*.safetensors")
    )


def _bytes_below(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def _modified(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _unreadable(folder: Path, error: OSError) -> StoreError:
    return StoreError(f"{folder} cannot be read: {error.strerror or error}")
