"""Clocks that take the place of a checkpoint, and note when the updates of a training end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch

from tlm_search.training.checkpoint import Snapshot

GPU_WARMUP = 24  # updates of a GPU's training that are not counted: by then graphs of the usual shapes are recorded
MEDIAN_WARMUP = 6  # where only a median counts: by then the first is


class UpdateClock:
    """Takes the place of a checkpoint, and notes when each update ends.

    The ``warmup`` updates, and the one after them, are not counted.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter, *, warmup: int = 0) -> None:
        self.now, self.warmup = now, warmup
        self.ends: list[float] = []

    @property
    def updates(self) -> int:
        """The number of updates that count."""
        return len(self.ends) - 1 - self.warmup

    @property
    def seconds(self) -> float:
        """The seconds that they took together."""
        return self.ends[-1] - self.ends[self.warmup]

    def seconds_per_update(self) -> float:
        """Return the mean of those that count."""
        return self.seconds / self.updates

    def start_seconds(self) -> float:
        """Return the seconds beyond the updates; on a CPU almost none, so this is 0."""
        return 0.0

    def restore(self, snapshot: Snapshot) -> None:
        """Find nothing."""

    def is_due(self) -> bool:
        """Note the time; never due."""
        self.ends.append(self.now())
        return False

    def save(self, snapshot: Snapshot) -> None:
        """Do nothing."""


class GpuClock(UpdateClock):
    """Lets the GPU note when updates end, so that the host, which is some updates ahead, does not wait."""

    def __init__(self, *, warmup: int = GPU_WARMUP) -> None:
        super().__init__(warmup=warmup)
        self._events: list[torch.cuda.Event] = []
        self._begin: torch.cuda.Event | None = None

    @property
    def seconds(self) -> float:
        """The seconds that they took together."""
        return _seconds(self._events[self.warmup], self._events[-1])

    def seconds_per_update(self) -> float:
        """Return the median of those that count; a few among them record graphs and take longer."""
        counted = self._events[self.warmup :]
        return statistics.median(_seconds(one, other) for one, other in pairwise(counted))

    def start_seconds(self) -> float:
        """Return the seconds that all updates took beyond their usual time; most of them record graphs."""
        assert self._begin is not None, "a training has begun"
        everything = _seconds(self._begin, self._events[-1])
        return max(0.0, everything - len(self._events) * self.seconds_per_update())

    def restore(self, snapshot: Snapshot) -> None:
        """Find nothing; note when the training begins."""
        self._begin = _now()

    def is_due(self) -> bool:
        """Note the time, the host's too; never due."""
        self._events.append(_now())
        return super().is_due()


def _now() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda.current_stream().record_event(event)
    return event


def _seconds(one: torch.cuda.Event, other: torch.cuda.Event) -> float:
    other.synchronize()
    return float(one.elapsed_time(other)) / 1000


def clock_of(device: str, now: Callable[[], float] = time.perf_counter) -> UpdateClock:
    """Return the clock for updates on ``device``; on a CPU it reads ``now``."""
    return UpdateClock(now) if device == "cpu" else GpuClock()
