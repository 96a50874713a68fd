"""A store at a URL: an authoritative mirror, and a folder on this machine as its copy.

A new entry is published to the mirror before it appears in the folder. Entries that the folder lacks are fetched. See
``mirror``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tlm_search.errors import StoreError
from tlm_search.store.entry import Arrays, Entry
from tlm_search.store.local import Store, valid_name
from tlm_search.store.mirror import Mirror


def open_store(root: Path) -> Store:
    """Return the store at ``root``: a plain folder, or the copy of a store at a URL."""
    mirror = Mirror.of(root)
    return Store(root) if mirror is None else SharedStore(root, mirror)


class SharedStore(Store):
    """The store below ``root``, shared by all machines that use the same ``mirror``."""

    def __init__(self, root: Path, mirror: Mirror) -> None:
        super().__init__(root)
        self.mirror = mirror

    def exists(self) -> bool:
        """Return whether the URL has a store."""
        return self.mirror.identity() is not None

    def identity(self) -> str | None:
        """Return the name that the store got when it was first written, or None if it does not exist."""
        return self.mirror.identity()

    def read(self, kind: str, digest: str) -> Entry | None:
        """Return the entry from the copy on this machine, or fetch it. Return None if it does not exist."""
        entry = super().read(kind, digest)
        folder = self._folder(kind, digest)
        if entry is not None:
            # If the mirror lost the entry by mistake, publish it again, unless another writer has replaced it.
            if self.mirror.has(kind, digest) or self.mirror.publish(kind, digest, folder):
                return entry
            super().remove(kind, digest)
        try:
            return super().read(kind, digest) if self.mirror.fetch(kind, digest, folder) else None
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, kind: str, digest: str, document: Mapping[str, Any], arrays: Arrays) -> Entry:
        """Publish an entry and store it on this machine. The first writer on any machine wins."""
        entry = super().write(kind, digest, document, arrays)
        self.mirror.drop_scratch(_name(kind, digest))
        return entry

    @contextmanager
    def lock(self, kind: str, digest: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the exclusive right among all machines to create this entry."""
        with super().lock(kind, digest, wait=wait), self.mirror.lock(_name(kind, digest), wait=wait):
            yield

    def scratch(self, kind: str, digest: str) -> Path:
        """Return the folder for unfinished work, with the unfinished work of another machine."""
        folder = super().scratch(kind, digest)
        try:
            self.mirror.fetch_scratch(_name(kind, digest), folder)
        except OSError as error:
            raise self._unwritable(error) from error
        return folder

    def keep_scratch(self, kind: str, digest: str) -> None:
        """Send the scratch folder to the mirror, so that another node can continue; a failure to send is ignored."""
        with suppress(StoreError):
            self.mirror.keep_scratch(_name(kind, digest), self._scratch_folder(kind, digest))

    def entries(self, kind: str) -> Iterator[Entry]:
        """Yield the entries of the mirror by digest, whether or not their arrays are on this machine."""
        return self.mirror.entries(valid_name(kind))

    def sizes(self, kind: str) -> dict[str, int]:
        """Return the bytes of each entry in the mirror by digest."""
        return self.mirror.sizes(valid_name(kind))

    def modified(self, kind: str, digest: str) -> float | None:
        """Return when an entry was written, by the server's clock, or None if the server does not say."""
        return self.mirror.modified(valid_name(kind), valid_name(digest))

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of entries in the mirror."""
        return self.mirror.kinds()

    def remove(self, kind: str, digest: str) -> None:
        """Remove an entry from the mirror and from this machine."""
        self.mirror.remove(valid_name(kind), valid_name(digest))
        super().remove(kind, digest)

    def sweep(self, *, older_than_seconds: float = 86_400) -> int:
        """Remove leftovers of killed processes, in the mirror and on this machine; return their number."""
        there = self.mirror.sweep(older_than_seconds=older_than_seconds)
        return there + super().sweep(older_than_seconds=older_than_seconds)

    def check_writable(self) -> None:
        """Check before any training that the folder and the URL can be written.

        Raises:
            StoreError: the folder or the URL cannot be written.
        """
        super().check_writable()
        self.mirror.check_writable()

    def _problems(self, kind: str) -> dict[str, str]:
        return self.mirror.problems(kind)

    def _publish(self, unfinished: Path, final: Path, kind: str, digest: str) -> Entry:
        """Publish the entry to the mirror first. If another writer was first, return its entry."""
        while True:
            if (winner := self.read(kind, digest)) is not None:
                return winner
            if self.mirror.publish(kind, digest, unfinished):
                return super()._publish(unfinished, final, kind, digest)


def _name(kind: str, digest: str) -> str:
    return f"{kind}-{digest}"
