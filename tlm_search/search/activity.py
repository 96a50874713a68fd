"""What workers train at this moment: small files in a hidden folder of the study, which are never sent to a URL.

A worker writes when a phase without updates begins. Otherwise it writes at most once a second, and first after its job
has run for a second. A worker on a node that cannot see the study's folder writes nothing. No Ray here.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tlm_search.files import write_text
from tlm_search.members.trainer import FINETUNING, PRETRAINING, Step
from tlm_search.search.job import Job

_FOLDER = ".now"
EVERY_SECONDS = 1.0
FRESH_SECONDS = 60.0  # a dead worker leaves its file; readers that do not know which jobs run ignore older files


@dataclass(frozen=True)
class Activity:
    """The progress of a worker on the job with this ``title`` and ``attempt``.

    It has done ``update`` of ``updates`` of the ``phase`` of ``members`` (the first and the last of a stack, counted
    from 1), at ``tokens_per_second``. A phase without updates has only begun. In this job the worker itself
    ``pretrained`` and ``finetuned`` this many members; members from a checkpoint or the store do not count.
    """

    title: str
    attempt: str
    phase: str
    members: tuple[int, int]
    update: int
    updates: int
    tokens_per_second: float
    pretrained: float = 0.0
    finetuned: float = 0.0


def folder_of(study: Path) -> Path:
    """Return the folder into which the workers of a study write."""
    return study / _FOLDER


class Teller:
    """Writes the progress of one job to its file; ``first_seed`` is the seed of its first member."""

    def __init__(self, folder: Path, job: Job, *, first_seed: int, now: Callable[[], float] = time.monotonic) -> None:
        self._path = folder / f"{socket.gethostname()}-{os.getpid()}.json"
        self._job, self._first_seed, self._now = job, first_seed, now
        self._written = now()
        self._last: Step | None = None
        self._began, self._tokens = 0.0, 0
        self._trained: defaultdict[str, float] = defaultdict(float)

    def __call__(self, step: Step) -> None:
        """Receive the progress of a training after each of its updates."""
        now = self._now()
        last = self._last
        if last is None or (step.phase, step.seeds) != (last.phase, last.seeds):
            self._began, self._tokens = now, step.tokens
            new = 1  # earlier updates are from a checkpoint
        else:
            new = step.update - last.update
        if step.updates:
            self._trained[step.phase] += len(step.seeds) * new / step.updates
        self._last = step
        if step.updates and now - self._written < EVERY_SECONDS:
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
            pretrained=self._trained[PRETRAINING],
            finetuned=self._trained[FINETUNING],
        )
        self._write(activity)

    def end(self) -> None:
        """Remove the file and write nothing more."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self, activity: Activity) -> None:
        # A full or missing disk costs only the display. A concurrent reader sees the old file whole.
        with suppress(OSError):
            if self._path.parent.parent.is_dir():
                write_text(self._path, json.dumps(asdict(activity)))


def activities(study: Path, *, fresh: bool = False) -> list[Activity]:
    """Return the latest progress of each worker of a study by title; with ``fresh`` only recent files count."""
    found = []
    for path in folder_of(study).glob("*.json"):
        with suppress(OSError, ValueError, TypeError):  # the job ended just now
            if not fresh or time.time() - path.stat().st_mtime < FRESH_SECONDS:
                document = json.loads(path.read_text())
                first, last = document.pop("members")
                found.append(Activity(**document, members=(first, last)))
    return sorted(found, key=lambda activity: activity.title)


def forget(study: Path) -> None:
    """Remove the files of all workers, before and after a run."""
    shutil.rmtree(folder_of(study), ignore_errors=True)
