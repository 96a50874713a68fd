"""What workers train at this moment: small files in a hidden folder of the study, which no URL is sent.

A worker writes at most once a second, and first when its job has run for a second. A worker on a node that does not see
the study's folder writes nothing. No Ray here.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tlm_search.files import write_text
from tlm_search.members.trainer import Step
from tlm_search.search.job import Job

_FOLDER = ".now"
EVERY_SECONDS = 1.0
FRESH_SECONDS = 60.0  # a dead worker leaves its file: an older one counts for nobody who does not know what runs


@dataclass(frozen=True)
class Activity:
    """How far a worker is with the job of this ``title`` and ``attempt``.

    It has done ``update`` of ``updates`` of the ``phase`` of ``members``, counted from 1 (the first and the last of
    a stack), at ``tokens_per_second``.
    """

    title: str
    attempt: str
    phase: str
    members: tuple[int, int]
    update: int
    updates: int
    tokens_per_second: float


def folder_of(study: Path) -> Path:
    """Return where the workers of a study write."""
    return study / _FOLDER


class Teller:
    """Writes how far one job is, for whoever looks; ``first_seed`` is that of its first member."""

    def __init__(self, folder: Path, job: Job, *, first_seed: int, now: Callable[[], float] = time.monotonic) -> None:
        self._path = folder / f"{socket.gethostname()}-{os.getpid()}.json"
        self._job, self._first_seed, self._now = job, first_seed, now
        self._written = now()
        self._phase: tuple[object, ...] = ()
        self._began, self._tokens = 0.0, 0

    def __call__(self, step: Step) -> None:
        """Take how far a training is, after each of its updates."""
        now = self._now()
        if (step.phase, step.seeds) != self._phase:
            self._phase, self._began, self._tokens = (step.phase, step.seeds), now, step.tokens
        if now - self._written < EVERY_SECONDS:
            return
        self._written = now
        seconds = now - self._began
        activity = Activity(
            title=self._job.title,
            attempt=self._job.attempt,
            phase=step.phase,
            members=(1 + min(step.seeds) - self._first_seed, 1 + max(step.seeds) - self._first_seed),
            update=step.update,
            updates=step.updates,
            tokens_per_second=(step.tokens - self._tokens) / seconds if seconds else 0.0,
        )
        self._write(activity)

    def end(self) -> None:
        """Tell nothing more."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self, activity: Activity) -> None:
        # A disk that is full, or not there, costs only the display. Whoever reads meanwhile sees the old file whole.
        with suppress(OSError):
            if self._path.parent.parent.is_dir():
                write_text(self._path, json.dumps(asdict(activity)))


def activities(study: Path, *, fresh: bool = False) -> list[Activity]:
    """Return what the workers of a study told last, by title; with ``fresh`` only what was told just now."""
    found = []
    for path in folder_of(study).glob("*.json"):
        with suppress(OSError, ValueError, TypeError):  # it ended just now
            if not fresh or time.time() - path.stat().st_mtime < FRESH_SECONDS:
                document = json.loads(path.read_text())
                first, last = document.pop("members")
                found.append(Activity(**document, members=(first, last)))
    return sorted(found, key=lambda activity: activity.title)


def forget(study: Path) -> None:
    """Remove what workers told, before a run and after it."""
    shutil.rmtree(folder_of(study), ignore_errors=True)
