"""A store at a URL: the folder here is the copy of a mirror there, which is the truth.

An entry is published there before it appears here, and what is missing here is fetched; see ``mirror``.
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
    """Return the store at ``root``: a folder, or the copy of one at a URL."""
    mirror = Mirror.of(root)
    return Store(root) if mirror is None else SharedStore(root, mirror)


class SharedStore(Store):
    """The store below ``root``, as machines see it that share ``mirror``."""

    def __init__(self, root: Path, mirror: Mirror) -> None:
        super().__init__(root)
        self.mirror = mirror

    def exists(self) -> bool:
        """Say whether there is a store at the URL."""
        return self.mirror.identity() is not None

    def identity(self) -> str | None:
        """Return the name that the store got when it was first written; None where there is no store."""
        return self.mirror.identity()

    def read(self, kind: str, digest: str) -> Entry | None:
        """Return the entry if it is there, from the copy here or as fetched."""
        entry = super().read(kind, digest)
        folder = self._folder(kind, digest)
        if entry is not None:
            # What went there by mistake comes back from here, unless it was made anew meanwhile.
            if self.mirror.has(kind, digest) or self.mirror.publish(kind, digest, folder):
                return entry
            super().remove(kind, digest)
        try:
            return super().read(kind, digest) if self.mirror.fetch(kind, digest, folder) else None
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, kind: str, digest: str, document: Mapping[str, Any], arrays: Arrays) -> Entry:
        """Publish an entry there, and store it here; of two writers on two machines, too, the first one wins."""
        entry = super().write(kind, digest, document, arrays)
        self.mirror.drop_scratch(_name(kind, digest))
        return entry

    @contextmanager
    def lock(self, kind: str, digest: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the only right of all machines to make this entry."""
        with super().lock(kind, digest, wait=wait), self.mirror.lock(_name(kind, digest), wait=wait):
            yield

    def scratch(self, kind: str, digest: str) -> Path:
        """Return the folder for unfinished work, with what another machine left of it."""
        folder = super().scratch(kind, digest)
        try:
            self.mirror.fetch_scratch(_name(kind, digest), folder)
        except OSError as error:
            raise self._unwritable(error) from error
        return folder

    def keep_scratch(self, kind: str, digest: str) -> None:
        """Let another node go on from what is in the scratch folder now, if it can be sent."""
        with suppress(StoreError):
            self.mirror.keep_scratch(_name(kind, digest), self._scratch_folder(kind, digest))

    def entries(self, kind: str) -> Iterator[Entry]:
        """Yield the entries there by digest; their arrays need not be here."""
        return self.mirror.entries(valid_name(kind))

    def sizes(self, kind: str) -> dict[str, int]:
        """Return the bytes that each entry takes there, by digest."""
        return self.mirror.sizes(valid_name(kind))

    def modified(self, kind: str, digest: str) -> float | None:
        """Return when an entry was written, by the server's clock; None where it does not tell."""
        return self.mirror.modified(valid_name(kind), valid_name(digest))

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of entries that are there."""
        return self.mirror.kinds()

    def remove(self, kind: str, digest: str) -> None:
        """Remove an entry, there and here."""
        self.mirror.remove(valid_name(kind), valid_name(digest))
        super().remove(kind, digest)

    def sweep(self, *, older_than_seconds: float = 86_400) -> int:
        """Remove what killed processes left, there and here; return how many."""
        there = self.mirror.sweep(older_than_seconds=older_than_seconds)
        return there + super().sweep(older_than_seconds=older_than_seconds)

    def check_writable(self) -> None:
        """Raise StoreError now when the folder or the URL cannot be written."""
        super().check_writable()
        self.mirror.check_writable()

    def _problems(self, kind: str) -> dict[str, str]:
        return self.mirror.problems(kind)

    def _publish(self, unfinished: Path, final: Path, kind: str, digest: str) -> Entry:
        """Publish there first; an entry of an earlier writer stays, and is returned."""
        while True:
            if (winner := self.read(kind, digest)) is not None:
                return winner
            if self.mirror.publish(kind, digest, unfinished):
                return super()._publish(unfinished, final, kind, digest)


def _name(kind: str, digest: str) -> str:
    return f"{kind}-{digest}"
