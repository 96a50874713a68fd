"""Allow one driver for each study: a lock in the study's folder that ends with its process, and a readable journal."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from tlm_search.errors import StudyError
from tlm_search.files import Lock, write_text
from tlm_search.study.storages import mend_journal
from tlm_search.study.sync import DRIVER, DRIVER_LOCK, JOURNAL, Sender, StudyCopy, unwritable


@contextmanager
def driver_lock(folder: Path, announce: Callable[[str], None] = lambda line: None) -> Iterator[Sender]:
    """Hold the right to drive the study in ``folder``. It ends with the process, even if the process is killed.

    If a kill or a full disk cut off the last line of the journal, this line is moved aside. If the study is at a URL,
    its copy in ``folder`` is updated first. The block receives the ``Sender`` to the URL.

    Raises:
        StudyError: another process drives the study, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        copy = StudyCopy(folder)
        lock = Lock(folder / DRIVER_LOCK)
        with copy.lock():
            is_mine = lock.acquire(wait=False)
    except OSError as error:
        raise unwritable(folder, error) from error
    if not is_mine:
        raise StudyError(
            f"the study {folder.name} is being run by {_holder(folder)}",
            hint=f"wait for it or stop it; tlm-search status {folder} shows its progress",
        )
    try:
        facts = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now().isoformat(timespec="seconds"),
        }
        write_text(folder / DRIVER, json.dumps(facts) + "\n")
        mend_journal(folder / JOURNAL)
    except OSError as error:
        lock.release()
        raise unwritable(folder, error) from error
    try:
        with copy.lease(announce) as sender:
            yield sender
    finally:
        with suppress(OSError):  # the file only names the driver, and a read-only disk was reported already
            (folder / DRIVER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        facts = json.loads((folder / DRIVER).read_text())
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
