"""The store at a URL: entries as bundles, locks as leases, unfinished work as plain objects.

The mirror is authoritative for all studies that share it. The store's folder on this machine holds copies, and entries
that are about to be published. A damaged entry of the mirror counts as missing, and the next writer replaces it.
"""

from __future__ import annotations

import re
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tlm_search.errors import StoreError
from tlm_search.files import writing
from tlm_search.remote import bundle
from tlm_search.remote.lease import Lease
from tlm_search.remote.mount import place_of, remote_at
from tlm_search.remote.remote import Remote
from tlm_search.store.entry import INDEX, DamagedError, Entry, checked_entry, entry_of

_IDENTITY, _LOCKS, _SCRATCH = "identity.txt", "locks", "scratch"
_ENTRY = re.compile(r"(?P<kind>[a-z0-9][a-z0-9_-]*)/(?P<digest>[a-z0-9][a-z0-9_-]*)/[^/]+")
_KIND = re.compile(r"[a-z0-9][a-z0-9_-]*")
_OTHERS = (_LOCKS, _SCRATCH, "data")


class Mirror:
    """The store in ``remote``; the folder ``root`` is its copy."""

    def __init__(self, remote: Remote, root: Path) -> None:
        self._remote, self._root = remote, root
        self._known: dict[str, set[str]] = {}

    @classmethod
    def of(cls, root: Path) -> Mirror | None:
        """Return the mirror of the store at ``root``, or None if the store is not a copy."""
        remote = remote_at(root)
        return None if remote is None else cls(remote, root)

    def has(self, kind: str, digest: str) -> bool:
        """Return whether the mirror has the entry, whole or not.

        The mirror is listed once, because entries are removed only while no study runs.
        """
        if kind not in self._known:
            self.sizes(kind)
        return digest in self._known[kind]

    def fetch(self, kind: str, digest: str, folder: Path) -> bool:
        """Copy an entry to ``folder``; return False if it is missing or not whole.

        Raises:
            StoreError: the remote cannot be read.
            OSError: the folder cannot be written.
        """
        with suppress(bundle.BrokenError):
            if bundle.fetch(self._place(kind, digest), folder):
                self._known.setdefault(kind, set()).add(digest)
                return True
        return False

    def publish(self, kind: str, digest: str, folder: Path) -> bool:
        """Write the entry in ``folder`` to the mirror. If another writer was first, its entry stays; return False.

        Raises:
            StoreError: the remote cannot be written.
        """
        place = self._place(kind, digest)
        while not bundle.publish(place, folder):
            if self._problem(kind, digest) is None:
                return False
            bundle.remove(place)
        self._known.setdefault(kind, set()).add(digest)
        return True

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of entries in the mirror."""
        kinds = (kind for kind in self._remote.folders() if _KIND.fullmatch(kind) and kind not in _OTHERS)
        return tuple(kind for kind in kinds if self.sizes(kind))

    def sizes(self, kind: str) -> dict[str, int]:
        """Return the bytes of each entry, whole or damaged. Files without an index are not an entry yet."""
        sizes: dict[str, int] = {}
        indexed = set()
        for name, listed in self._remote.list(kind).items():
            if match := _ENTRY.fullmatch(name):
                sizes[match["digest"]] = sizes.get(match["digest"], 0) + listed.size
                indexed |= {match["digest"]} if name.endswith(f"/{bundle.INDEX}") else set()
        self._known[kind] = indexed
        return {digest: sizes[digest] for digest in sorted(indexed)}

    def modified(self, kind: str, digest: str) -> float | None:
        """Return when an entry was written, by the server's clock, or None if the server does not say."""
        times = [listed.modified for listed in self._remote.list(f"{kind}/{digest}").values()]
        return max((time for time in times if time is not None), default=None)

    def entries(self, kind: str) -> Iterator[Entry]:
        """Yield the entries by digest, whether or not their arrays are on this machine. Broken entries are skipped."""
        indexes = self._remote.read_many([f"{kind}/{digest}/{bundle.INDEX}" for digest in self.sizes(kind)])
        documents: dict[str, str] = {}
        for name, data in indexes.items():
            with suppress(bundle.BrokenError, KeyError):
                digest = name.split("/")[1]
                documents[f"{kind}/{digest}/{bundle.objects_of(bundle.files_of(data))[INDEX]}"] = digest
        for name, data in self._remote.read_many(list(documents)).items():
            with suppress(DamagedError):
                yield entry_of(data, self._root / kind / documents[name], kind, documents[name])

    def problems(self, kind: str) -> dict[str, str]:
        """Read every file of every entry, and return the damaged entries with the reason."""
        found = {digest: self._problem(kind, digest) for digest in self.sizes(kind)}
        return {digest: problem for digest, problem in found.items() if problem is not None}

    def remove(self, kind: str, digest: str) -> None:
        """Remove an entry, whole or damaged."""
        bundle.remove(self._place(kind, digest))
        self._known.get(kind, set()).discard(digest)

    @contextmanager
    def lock(self, name: str, *, wait: bool) -> Iterator[None]:
        """Hold the lease ``name``. The caller must hold the lock of the same name in the folder on this machine.

        Raises:
            HeldError: another process holds the lease, and ``wait`` is False.
            StoreError: the remote cannot be used.
        """
        lease = Lease(self._remote.below(_LOCKS), name, place=place_of(self._root))
        if wait:
            lease.acquire(wait=True)
        else:
            lease.acquire_now()
        # If the lease is lost, two nodes train the same entry. The first to finish wins, and the other uses its result.
        with lease.kept():
            yield

    def fetch_scratch(self, name: str, folder: Path) -> None:
        """Replace ``folder`` by the unfinished work of another node on an entry.

        Raises:
            OSError: the folder cannot be written.
        """
        there = self._remote.below(f"{_SCRATCH}/{name}")
        names = there.list()
        if not names:
            return
        for file in folder.iterdir():
            if file.name not in names:
                file.unlink()
        here = {file.name for file in folder.iterdir()}
        for found in names:
            if found not in here:
                there.fetch(found, folder)

    def keep_scratch(self, name: str, folder: Path) -> None:
        """Replace the unfinished work in the mirror by the contents of ``folder``."""
        there = self._remote.below(f"{_SCRATCH}/{name}")
        before = there.list()
        files = {file.name: file for file in folder.iterdir() if not file.name.startswith(".")}
        for new in files.keys() - before.keys():
            there.upload(files[new], new)
        there.remove(*(before.keys() - files.keys()))

    def drop_scratch(self, name: str) -> None:
        """Remove the unfinished work on a finished entry."""
        there = self._remote.below(f"{_SCRATCH}/{name}")
        there.remove(*there.list())

    def sweep(self, *, older_than_seconds: float) -> int:
        """Remove old unfinished work, and unused files and locks; return their number."""
        newest = time.time() - older_than_seconds
        old = {name for name, listed in self._remote.list().items() if listed.modified and listed.modified <= newest}
        needed: set[str] = set()
        entries = [match for name in old if (match := _ENTRY.fullmatch(name)) and match["kind"] not in _OTHERS]
        for place in {f"{match['kind']}/{match['digest']}" for match in entries}:
            index = self._remote.read(f"{place}/{bundle.INDEX}")
            with suppress(bundle.BrokenError):
                objects = bundle.objects_of(bundle.files_of(index)).values() if index else ()
                needed |= {f"{place}/{name}" for name in (bundle.INDEX, *objects)}
        unneeded = {match.string for match in entries if bundle.is_object(match.string)} - needed
        leftovers = unneeded | {name for name in old if name.startswith((f"{_LOCKS}/", f"{_SCRATCH}/"))}
        self._remote.remove(*sorted(leftovers))
        return len(leftovers)

    def check_writable(self) -> None:
        """Check that the mirror can be written and that it keeps two writers apart.

        Raises:
            StoreError: the mirror cannot be written, or a second writer overwrites the first.
        """
        probe = f".probe.{uuid.uuid4().hex}"
        try:
            if not self._remote.create(probe, b"first") or self._remote.create(probe, b"second"):
                raise StoreError(
                    f"{self._remote} lets a second writer overwrite the object of the first",
                    hint="use a server with conditional writes (S3's If-None-Match), or a shared folder",
                )
        finally:
            self._remote.remove(probe)
        self._remote.create(_IDENTITY, uuid.uuid4().hex.encode())

    def identity(self) -> str | None:
        """Return the name that the store got when it was first written, or None if it does not exist."""
        identity = self._remote.read(_IDENTITY)
        return None if identity is None else identity.decode()

    def _place(self, kind: str, digest: str) -> Remote:
        return self._remote.below(f"{kind}/{digest}")

    def _problem(self, kind: str, digest: str) -> str | None:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / digest
            try:
                with writing(StoreError, folder, otherwise="choose another folder with TMPDIR"):
                    if not bundle.fetch(self._place(kind, digest), copy):
                        return f"{bundle.INDEX} is missing"
                    checked_entry(copy, kind, digest)
            except (bundle.BrokenError, DamagedError) as problem:
                return str(problem)
        return None
