"""Synchronise a study's folder with the study at a URL.

The new end of the journal is sent after each trial. The URL is authoritative: a local journal that only extends the
journal at the URL continues; any other local journal is moved aside and replaced. On the machine of a live driver the
folder is ahead of the URL and is not changed.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tlm_search import files
from tlm_search.errors import StudyError
from tlm_search.files import HeldError, beside, held, put, writing
from tlm_search.remote.journal import PIECES, RemoteJournal
from tlm_search.remote.lease import Lease
from tlm_search.remote.mount import CACHE_VARIABLE, place_of, remote_at
from tlm_search.remote.remote import Remote

JOURNAL, FACTS = "journal.log", "study.json"
DRIVER_LOCK, DRIVER = "driver.lock", "driver.json"
_LEASES = ".store/locks"
_REPORTS = ("report.", "tables/", "figures/", "beside-")  # drawn again if missing
_FOR_PEOPLE = (*_REPORTS, "logs/", "artifacts/")  # sent but never fetched


class StudyCopy:
    """The local ``folder`` of a study that is at a URL. For any other folder the methods do nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._root = folder, remote_at(folder.parent)
        self._remote = None if self._root is None else self._root.below(folder.name)

    def pull(self) -> None:
        """Update the folder, unless the study's driver runs on this machine.

        Raises:
            StoreError: the URL cannot be read.
            StudyError: the folder cannot be written.
        """
        if self._remote is None or self._remote.read(FACTS) is None:
            return
        with self.lock():
            if not _is_driven(self._folder):
                _pull(self._folder, self._remote)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against other processes on this machine that update it."""
        with ExitStack() as locks:
            if self._remote is not None:
                with _writing(self._folder):
                    self._folder.mkdir(parents=True, exist_ok=True)
                    locks.enter_context(held(self._folder.with_name(f".{self._folder.name}.copy")))
            yield

    @contextmanager
    def lease(self, announce: Callable[[str], None]) -> Iterator[Sender]:
        """Hold the exclusive right to drive the study at the URL, and begin with its state at the URL.

        The caller holds the lock of the folder. A driver that sends no heartbeat for too long loses the right and is
        interrupted as by Ctrl-C.

        Raises:
            StudyError: another driver runs the study.
            StoreError: the URL cannot be used.
        """
        name = self._folder.name
        if self._root is None or self._remote is None:
            yield Sender(self._folder, None)
            return
        lease = Lease(self._root.below(_LEASES), f"driver-{name}", place=place_of(self._folder))

        def waiting(holder: str) -> None:
            announce(f"{holder} runs, or ran, the study {name} on another machine; waiting for a heartbeat")

        def lost() -> None:
            announce(f"this driver was silent for too long, and another driver runs the study {name} now; stopping")
            os.kill(os.getpid(), signal.SIGINT)

        try:
            lease.acquire(wait=False, waiting=waiting)
        except HeldError as holder:
            raise StudyError(
                f"the study {name} is being run by {holder}",
                hint="wait for it or stop it; tlm-search status shows its progress",
            ) from None
        with lease.kept(lost):
            if self._remote.read(FACTS) is None:
                # Files of a run that was killed before the study began, or while it was moved aside.
                _move(self._root, name, f".aside/{name}-{uuid.uuid4().hex[:8]}")
            else:
                _pull(self._folder, self._remote)
            yield Sender(self._folder, self._remote)

    def move(self, target: Path) -> None:
        """Copy the study at the URL to the name of the folder ``target``, then remove it under the old name.

        Raises:
            StoreError: the URL cannot be written.
        """
        if self._root is not None:
            _move(self._root, self._folder.name, target.name)
            Sender(target, self._root.below(target.name)).send()

    def send_reports(self) -> None:
        """Send the reports of the study, which any process may write.

        Raises:
            StoreError: the URL cannot be written.
        """
        if self._remote is not None:
            for name, path in sorted(_files(self._folder).items()):
                if name.startswith(_REPORTS):
                    self._remote.upload(path, name)


class Sender:
    """Sends a study to its URL, for the study's driver only. Without a URL it does nothing."""

    def __init__(self, folder: Path, remote: Remote | None) -> None:
        self._folder, self._remote = folder, remote
        self._journal = None if remote is None else RemoteJournal(remote)
        self._sent: dict[str, tuple[int, int]] = {}

    def send_journal(self) -> None:
        """Send the new end of the journal.

        Raises:
            StoreError: the URL cannot be written.
            StudyError: another driver has appended to the journal.
        """
        journal = self._folder / JOURNAL
        if self._journal is None or not journal.is_file():
            return
        with journal.open("rb") as file:
            file.seek(self._journal.end)
            new = file.read()
        if new and not self._journal.append(new):
            raise StudyError(
                f"another driver has taken over the study {self._folder.name}",
                hint="tlm-search status shows its progress",
            )

    def send(self) -> None:
        """Send the new end of the journal, and all other files except the reports.

        Raises:
            StoreError: the URL cannot be written.
            StudyError: another driver has appended to the journal.
        """
        if self._remote is None:
            return
        self.send_journal()
        found = _files(self._folder)
        names = [name for name in found if _travels(name) and not name.startswith(_REPORTS)]
        # Send FACTS last, because a folder with this file counts as a study.
        for name in sorted(names, key=lambda name: (name == FACTS, name)):
            state = found[name].stat()
            version = (state.st_mtime_ns, state.st_size)
            if self._sent.get(name) != version:
                self._remote.upload(found[name], name)
                self._sent[name] = version


def known_studies(studies_dir: Path) -> tuple[str, ...]:
    """Return the names of the studies at the URL of the copy ``studies_dir``; empty if it is not a copy."""
    remote = remote_at(studies_dir)
    names = () if remote is None else remote.folders()
    return tuple(name for name in names if name and not name.startswith("."))


def unwritable(folder: Path, error: OSError) -> StudyError:
    """Return the error for a folder that cannot be written."""
    otherwise = "choose another --studies-dir; then run the same command again, which continues"
    return files.unwritable(StudyError, f"the study folder {folder}", error, otherwise=otherwise)


def _move(root: Remote, name: str, new_name: str) -> None:
    objects = sorted(root.below(name).list(), key=lambda name: name == FACTS)
    for found in objects:
        root.copy(f"{name}/{found}", f"{new_name}/{found}")
    root.below(name).remove(*reversed(objects))


def _pull(folder: Path, remote: Remote) -> None:
    there = RemoteJournal(remote)
    journal = folder / JOURNAL
    here = journal.read_bytes() if journal.is_file() else b""
    agree = there.agrees_with(here)
    is_copy = agree and there.end > 0 and (folder / FACTS).is_file()
    if is_copy and len(here) >= there.end:
        return
    new = there.read(len(here) if is_copy else 0)
    with _writing(folder):
        _fetch_files(folder, remote)
        if is_copy:
            _append(journal, new)
        elif there.end:
            with beside(journal) as replacement:
                _append(replacement, new)
                if here and not agree:
                    journal.rename(journal.with_name(f"{JOURNAL}.{uuid.uuid4().hex[:8]}.aside"))
                put(replacement, journal)


def _append(journal: Path, data: bytes) -> None:
    with journal.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _fetch_files(folder: Path, remote: Remote) -> None:
    names = [name for name in remote.list() if _travels(name) and not name.startswith((f"{PIECES}/", *_FOR_PEOPLE))]
    for name in sorted(names, key=lambda name: name == FACTS):
        remote.fetch(name, folder)


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _travels(name: str) -> bool:
    parts = Path(name).parts
    return not parts[0].startswith((DRIVER_LOCK, DRIVER, JOURNAL)) and not any(part.startswith(".") for part in parts)


def _is_driven(folder: Path) -> bool:
    try:
        with held(folder / DRIVER_LOCK, wait=False):
            return False
    except HeldError:
        return True


def _writing(folder: Path) -> AbstractContextManager[None]:
    return writing(StudyError, f"the copy {folder}", otherwise=f"choose another folder with {CACHE_VARIABLE}")
