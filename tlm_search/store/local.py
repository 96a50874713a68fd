"""The store: content-addressed folders of trained weights and logits, so that nothing is trained twice. No torch here.

An entry is a folder ``<root>/<kind>/<digest>`` with ``entry.json`` and a safetensors file for each stem. The writer
finishes and syncs a sibling folder, then renames it, so a reader sees a whole entry or nothing. ``entry.json`` holds
the sha256 of every file and of itself. A damaged entry is moved to ``<root>/damaged`` and counts as missing; training
its member again repairs it. ``tlm_search.store.shared.open_store`` opens a store in a folder or at a URL.
"""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlm_search.errors import StoreError
from tlm_search.files import TAKEN, beside, held, put, unwritable
from tlm_search.remote.mount import name_once
from tlm_search.store.entry import INDEX, Arrays, DamagedError, Entry, checked_entry, read_entry, write_entry

__all__ = ["Arrays", "Entry", "Problem", "Store"]

_DAMAGED, _LOCKS, _SCRATCH, _IDENTITY = "damaged", "locks", "scratch", "identity.txt"
# Names that this program gives. Files of users and of the file system have other names.
_UNFINISHED = re.compile(r"\.[0-9a-f]{8,}\.[0-9a-f]{12,32}(\.tmp)?")
_LEFT = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{8,}(-[0-9a-f]{8})?")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Problem:
    """A damaged entry, with the reason."""

    kind: str
    digest: str
    reason: str


class Store:
    """The store below ``root``. Nothing is created before the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def exists(self) -> bool:
        """Return whether the store exists, even if it is empty."""
        return self.root.is_dir()

    def identity(self) -> str | None:
        """Return the name that the first ``check_writable`` gave the store, or None before that.

        The name is the same on every machine that sees the store.

        Raises:
            StoreError: the name cannot be read.
        """
        try:
            return (self.root / _IDENTITY).read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(self.root, error) from error

    def read(self, kind: str, digest: str) -> Entry | None:
        """Return the entry if all its files are whole, or None. A damaged entry is moved aside.

        Raises:
            StoreError: the entry cannot be read, or it is damaged and cannot be moved.
        """
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

        If another writer was first, its entry stays and is returned, and the new files are discarded.

        Raises:
            StoreError: the folder cannot be written or the disk is full. No unfinished files remain.
            ValueError: the document contains NaN or infinite numbers.
        """
        final = self._folder(kind, digest)
        try:
            with beside(final) as unfinished:
                write_entry(unfinished, kind, digest, document, arrays)
                entry = self._publish(unfinished, final, kind, digest)
        except OSError as error:
            raise self._unwritable(error) from error
        shutil.rmtree(self._scratch_folder(kind, digest), ignore_errors=True)
        return entry

    @contextmanager
    def lock(self, kind: str, digest: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the exclusive right to create this entry. The right ends with the process.

        Raises:
            HeldError: another process holds the right, and ``wait`` is False.
            StoreError: the lock file cannot be written.
        """
        with self._lock(f"{kind}-{valid_name(digest)}", wait=wait):
            yield

    def scratch(self, kind: str, digest: str) -> Path:
        """Return a folder for unfinished work on an entry. Writing the entry removes it."""
        folder = self._scratch_folder(kind, digest)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        return folder

    def keep_scratch(self, kind: str, digest: str) -> None:
        """Make the scratch folder available to other nodes. A store in a shared folder does nothing here."""

    def entries(self, kind: str) -> Iterator[Entry]:
        """Yield the entries of ``kind`` by digest without checking their arrays. Broken entries are skipped."""
        for folder in self._folders(kind):
            with suppress(DamagedError, OSError):
                yield read_entry(folder, kind, folder.name)

    def own(self, kind: str) -> set[str]:
        """Return the digests of the entries that are real folders with a valid ``entry.json``, not links."""
        return {entry.digest for entry in self.entries(kind) if not entry.folder.is_symlink()}

    def sizes(self, kind: str) -> dict[str, int]:
        """Return the bytes on disk of each entry of ``kind`` by digest, including broken entries."""
        return {folder.name: _bytes_below(folder) for folder in self._folders(kind)}

    def modified(self, kind: str, digest: str) -> float | None:
        """Return when an entry was written, in seconds since 1970, or None if unknown."""
        try:
            return self._folder(kind, digest).stat().st_mtime
        except FileNotFoundError:
            return None

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of entries in the store."""
        if not self.root.is_dir():
            return ()
        # The folder has other contents too, such as tokens. A kind is a folder with an entry.
        return tuple(sorted(f.name for f in self.root.iterdir() if _NAME.fullmatch(f.name) and _holds_entries(f)))

    def verify(self) -> list[Problem]:
        """Check every file of every entry and return the damaged entries. Nothing is moved."""
        return [
            Problem(kind, digest, reason) for kind in self.kinds() for digest, reason in self._problems(kind).items()
        ]

    def remove(self, kind: str, digest: str) -> None:
        """Remove an entry, whole or damaged. A missing entry is ignored."""
        folder = self._folder(kind, digest)
        # Rename it first, so that no reader sees half an entry.
        condemned = folder.with_name(f".{digest}.{uuid.uuid4().hex}")
        try:
            folder.rename(condemned)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unwritable(error) from error
        shutil.rmtree(condemned, ignore_errors=True)

    def sweep(self, *, older_than_seconds: float = 86_400) -> int:
        """Remove unfinished writes, scratch folders and damaged entries of killed processes; return their number.

        Younger folders stay, because their writer may be alive on another machine.
        """
        newest = time.time() - older_than_seconds
        unfinished = [
            f for kind in self.kinds() for f in (self.root / kind).glob(".*") if _UNFINISHED.fullmatch(f.name)
        ]
        rest = [f for part in (_SCRATCH, _DAMAGED) for f in (self.root / part).glob("*") if _LEFT.fullmatch(f.name)]
        old = [folder for folder in unfinished + rest if _modified(folder) <= newest]
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
        return len(old)

    def check_writable(self) -> None:
        """Check before any training that the store can be written, and give it a name if it has none.

        Raises:
            StoreError: the folder cannot be written.
        """
        probe = self.root / f".probe.{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
            name_once(self.root / _IDENTITY)
        except OSError as error:
            raise self._unwritable(error) from error

    def _folder(self, kind: str, digest: str) -> Path:
        return self.root / valid_name(kind) / valid_name(digest)

    def _scratch_folder(self, kind: str, digest: str) -> Path:
        return self.root / _SCRATCH / f"{valid_name(kind)}-{valid_name(digest)}"

    def _folders(self, kind: str) -> list[Path]:
        parent = self.root / valid_name(kind)
        return sorted(f for f in parent.iterdir() if _NAME.fullmatch(f.name)) if parent.is_dir() else []

    def _problems(self, kind: str) -> dict[str, str]:
        problems = {}
        for folder in self._folders(kind):
            try:
                checked_entry(folder, kind, folder.name)
            except DamagedError as damage:
                problems[folder.name] = str(damage)
            except FileNotFoundError:
                continue  # removed after it was listed
            except OSError as error:
                problems[folder.name] = error.strerror or str(error)
        return problems

    def _publish(self, unfinished: Path, final: Path, kind: str, digest: str) -> Entry:
        """Rename the folder into place, unless another writer's whole entry already exists."""
        while True:
            try:
                put(unfinished, final)
            except OSError as error:
                if error.errno not in TAKEN:
                    raise
                # If the entry is damaged, `read` moves it aside, and the next rename succeeds.
                if (winner := self.read(kind, digest)) is not None:
                    return winner
            else:
                return read_entry(final, kind, digest)

    def _set_aside(self, folder: Path, kind: str, digest: str) -> Entry | None:
        # One process at a time, and it reads again, because another process may have repaired the entry.
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
    def _lock(self, name: str, *, wait: bool = True) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self.root / _LOCKS / f"{name}.lock", wait=wait))
            except OSError as error:
                raise self._unwritable(error) from error
            yield

    def _unwritable(self, error: OSError) -> StoreError:
        return unwritable(StoreError, f"the store {self.root}", error)


def valid_name(name: str) -> str:
    """Return ``name``, a kind or digest, if it is safe as the name of a folder.

    Raises:
        StoreError: it has characters other than lower-case letters, digits, - and _.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(f"{name!r} is not a name in the store; allowed: lower case letters, digits, - and _")
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
