"""Synchronise a study's folder with the study at a URL.

The journal is sent in pieces, ``journal/<offset>``, after each trial. A piece can be created only once, so two drivers
can never both append. The URL is authoritative: a local journal that only extends the journal at the URL continues; any
other local journal is moved aside and replaced. On the machine of a live driver the folder is ahead of the URL and is
not changed.
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
from tlm_search.remote.lease import Lease
from tlm_search.remote.mount import CACHE_VARIABLE, place_of, remote_at
from tlm_search.remote.remote import Remote

JOURNAL, FACTS = "journal.log", "study.json"
DRIVER_LOCK, DRIVER = "driver.lock", "driver.json"
_PIECES = "journal"
_LEASES = ".store/locks"
_REPORTS = ("report.", "tables/", "figures/", "beside-")  # drawn again if missing
_FOR_PEOPLE = (*_REPORTS, "logs/", "artifacts/")  # sent but never fetched


def pull(folder: Path) -> None:
    """Update the copy in ``folder``, unless its driver runs here. A folder that is not a copy is not changed.

    Raises:
        StoreError: the URL cannot be read.
        StudyError: the folder cannot be written.
    """
    remote = remote_at(folder)
    if remote is None or remote.read(FACTS) is None:
        return
    with copying(folder):
        if not _is_driven(folder):
            _pull(folder, remote)


class Sender:
    """Sends a study to its URL, for the study's driver only. It does nothing if the folder is not a copy."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._remote = folder, remote_at(folder)
        self._sent = 0 if self._remote is None else _end(_pieces(self._remote))
        self._files: dict[str, tuple[int, int]] = {}

    def send_journal(self) -> None:
        """Send the new end of the journal.

        Raises:
            StoreError: the URL cannot be written.
            StudyError: another driver has appended to the journal.
        """
        journal = self._folder / JOURNAL
        if self._remote is None or not journal.is_file():
            return
        with journal.open("rb") as file:
            file.seek(self._sent)
            new = file.read()
        # The offset is this driver's own count, so that creating the piece fails if another driver has appended.
        if new and not self._remote.create(_name(self._sent), new):
            raise StudyError(
                f"another driver has taken over the study {self._folder.name}",
                hint="tlm-search status shows its progress",
            )
        self._sent += len(new)

    def send(self) -> None:
        """Send the new end of the journal, and all other files except the reports.

        Raises:
            StoreError: the URL cannot be written.
            StudyError: another driver has appended to the journal.
        """
        if self._remote is None:
            return
        self.send_journal()
        found = {path.relative_to(self._folder).as_posix(): path for path in self._folder.rglob("*") if path.is_file()}
        names = [name for name in found if _travels(name) and not name.startswith(_REPORTS)]
        # Send FACTS last, because a folder with this file counts as a study.
        for name in sorted(names, key=lambda name: (name == FACTS, name)):
            state = found[name].stat()
            version = (state.st_mtime_ns, state.st_size)
            if self._files.get(name) != version:
                self._remote.upload(found[name], name)
                self._files[name] = version


def send_reports(folder: Path) -> None:
    """Send the reports of a study, which any process may write."""
    remote = remote_at(folder)
    if remote is None:
        return
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.startswith(_REPORTS):
            remote.upload(path, name)


def known_studies(studies_dir: Path) -> tuple[str, ...]:
    """Return the names of the studies at the URL of the copy ``studies_dir``; empty if it is not a copy."""
    remote = remote_at(studies_dir)
    names = () if remote is None else remote.folders()
    return tuple(name for name in names if name and not name.startswith("."))


def rename(folder: Path, target: Path) -> None:
    """Copy the study at the URL to its new name, then remove it under the old name.

    Raises:
        StoreError: the URL cannot be written.
    """
    root = remote_at(folder.parent)
    if root is None:
        return
    _move(root, folder.name, target.name)
    Sender(target).send()


@contextmanager
def copying(folder: Path) -> Iterator[None]:
    """Lock the copy in ``folder`` against other processes on this machine."""
    if remote_at(folder) is None:
        yield
        return
    with ExitStack() as locks:
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            locks.enter_context(held(folder.with_name(f".{folder.name}.copy")))
        yield


@contextmanager
def leased(folder: Path, announce: Callable[[str], None]) -> Iterator[Sender]:
    """Hold the exclusive right to drive the study at the URL, and begin with its state at the URL.

    The caller holds the lock of the folder. A driver that sends no heartbeat for too long loses the right and is
    interrupted as by Ctrl-C.

    Raises:
        StudyError: another driver runs the study.
        StoreError: the URL cannot be used.
    """
    remote, root = remote_at(folder), remote_at(folder.parent)
    if remote is None or root is None:
        yield Sender(folder)
        return
    lease = Lease(root.below(_LEASES), f"driver-{folder.name}", place=place_of(folder))

    def waiting(holder: str) -> None:
        announce(f"{holder} runs, or ran, the study {folder.name} on another machine; waiting for a heartbeat")

    def lost() -> None:
        announce(f"this driver was silent for too long, and another driver runs the study {folder.name} now; stopping")
        os.kill(os.getpid(), signal.SIGINT)

    try:
        lease.acquire(wait=False, waiting=waiting)
    except HeldError as holder:
        raise StudyError(
            f"the study {folder.name} is being run by {holder}",
            hint="wait for it or stop it; tlm-search status shows its progress",
        ) from None
    with lease.kept(lost):
        if remote.read(FACTS) is None:
            # Files of a run that was killed before the study began, or while it was moved aside.
            _move(root, folder.name, f".aside/{folder.name}-{uuid.uuid4().hex[:8]}")
        else:
            _pull(folder, remote)
        yield Sender(folder)


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
    pieces = _pieces(remote)
    journal = folder / JOURNAL
    with _writing(folder), beside(journal) as replacement:
        whole = journal.read_bytes() if journal.is_file() else b""
        if _is_extension(whole, pieces, remote) and (folder / FACTS).is_file() and pieces:
            if len(whole) < _end(pieces):
                _fetch_files(folder, remote)
                _append(journal, len(whole), pieces, remote)
            return
        _fetch_files(folder, remote)
        if pieces:
            _append(replacement, 0, pieces, remote)
            if whole and not _is_extension(whole, pieces, remote):
                journal.rename(journal.with_name(f"{JOURNAL}.{uuid.uuid4().hex[:8]}.aside"))
            put(replacement, journal)


def _writing(folder: Path) -> AbstractContextManager[None]:
    return writing(StudyError, f"the copy {folder}", otherwise=f"choose another place with {CACHE_VARIABLE}")


def _is_extension(whole: bytes, pieces: dict[int, int], remote: Remote) -> bool:
    """Return whether the shorter of the two journals is the beginning of the longer, by their last common piece.

    Every piece contains the times of its trials, so two different histories have no piece in common.
    """
    common = [offset for offset in pieces if offset < len(whole)]
    if not common:
        return not whole or not pieces
    data = remote.read(_name(common[-1])) or b""
    here = whole[common[-1] : common[-1] + len(data)]
    return bool(data) and data.startswith(here)


def _append(journal: Path, start: int, pieces: dict[int, int], remote: Remote) -> None:
    wanted = [offset for offset, size in pieces.items() if offset + size > start]
    found = remote.read_many([_name(offset) for offset in wanted])
    if len(found) < len(wanted):
        raise StudyError(f"{remote} changed while it was read", hint="try again")
    data = b"".join(found[_name(offset)] for offset in wanted)
    with journal.open("ab") as file:
        file.write(data[start - wanted[0] :] if wanted else b"")
        file.flush()
        os.fsync(file.fileno())


def _pieces(remote: Remote) -> dict[int, int]:
    """Return the offsets and sizes of the journal's pieces, up to the first gap."""
    pieces: dict[int, int] = {}
    for name, listed in remote.list(_PIECES).items():
        offset = name.rpartition("/")[2]
        if offset.isdigit() and int(offset) == _end(pieces):
            pieces[int(offset)] = listed.size
    return pieces


def _end(pieces: dict[int, int]) -> int:
    return sum(pieces.values())


def _name(offset: int) -> str:
    return f"{_PIECES}/{offset:016d}"


def _fetch_files(folder: Path, remote: Remote) -> None:
    names = [name for name in remote.list() if _travels(name) and not name.startswith((f"{_PIECES}/", *_FOR_PEOPLE))]
    for name in sorted(names, key=lambda name: name == FACTS):
        path = remote.local(name, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside(path) as unfinished:
            if remote.download(name, unfinished):
                put(unfinished, path)


def _travels(name: str) -> bool:
    parts = Path(name).parts
    return not parts[0].startswith((DRIVER_LOCK, DRIVER, JOURNAL)) and not any(part.startswith(".") for part in parts)


def _is_driven(folder: Path) -> bool:
    try:
        with held(folder / DRIVER_LOCK, wait=False):
            return False
    except HeldError:
        return True
