"""Clocks that stand in for what keeps checkpoints, and note when the updates of a training end."""

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
    """Stands in for what keeps checkpoints, and notes when each update ends.

    The ``warmup`` updates, and the one after them, are not counted.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter, *, warmup: int = 0) -> None:
        self.now, self.warmup = now, warmup
        self.ends: list[float] = []

    @property
    def updates(self) -> int:
        """How many updates count."""
        return len(self.ends) - 1 - self.warmup

    @property
    def seconds(self) -> float:
        """How long they took together."""
        return self.ends[-1] - self.ends[self.warmup]

    def seconds_per_update(self) -> float:
        """Return the mean of those that count."""
        return self.seconds / self.updates

    def start_seconds(self) -> float:
        """Return what the training took beyond its updates; on a CPU that is next to nothing, and not measured."""
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
    """Lets the GPU note when updates end: the host, which is some updates ahead, need not wait for it."""

    def __init__(self, *, warmup: int = GPU_WARMUP) -> None:
        super().__init__(warmup=warmup)
        self._events: list[torch.cuda.Event] = []
        self._begin: torch.cuda.Event | None = None

    @property
    def seconds(self) -> float:
        """How long they took together."""
        return _seconds(self._events[self.warmup], self._events[-1])

    def seconds_per_update(self) -> float:
        """Return the median of those that count: a few among them record graphs, as the first of any training do."""
        counted = self._events[self.warmup :]
        return statistics.median(_seconds(one, other) for one, other in pairwise(counted))

    def start_seconds(self) -> float:
        """Return what all updates up to now took beyond their usual time: most of it records graphs."""
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
