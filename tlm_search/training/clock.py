"""Clocks in the form of a checkpointer. They record when the updates of a training end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch

from tlm_search.training.checkpoint import Snapshot

GPU_WARMUP = 24  # uncounted updates on a GPU; by then graphs of the usual shapes are recorded
MEDIAN_WARMUP = 6  # the same for a median: by then the first graph is recorded


class UpdateClock:
    """A checkpointer that saves nothing and records when each update ends.

    The ``warmup`` updates, and the first update after them, are not counted.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter, *, warmup: int = 0) -> None:
        self.now, self.warmup = now, warmup
        self.ends: list[float] = []

    @property
    def updates(self) -> int:
        """The number of counted updates."""
        return len(self.ends) - 1 - self.warmup

    @property
    def seconds(self) -> float:
        """The total seconds of the counted updates."""
        return self.ends[-1] - self.ends[self.warmup]

    def seconds_per_update(self) -> float:
        """Return the mean time of the counted updates."""
        return self.seconds / self.updates

    def start_seconds(self) -> float:
        """Return the seconds in addition to the updates. On a CPU they are few and count as 0."""
        return 0.0

    def restore(self, snapshot: Snapshot) -> None:
        """Leave ``snapshot`` unchanged, because a clock saves nothing."""

    def is_due(self) -> bool:
        """Record the time. Return False, because a clock saves nothing."""
        self.ends.append(self.now())
        return False

    def save(self, snapshot: Snapshot) -> None:
        """Never called, because ``is_due`` is always False."""


class GpuClock(UpdateClock):
    """An ``UpdateClock`` of GPU events, so that the host, which is some updates ahead, need not wait."""

    def __init__(self, *, warmup: int = GPU_WARMUP) -> None:
        super().__init__(warmup=warmup)
        self._events: list[torch.cuda.Event] = []
        self._begin: torch.cuda.Event | None = None

    @property
    def seconds(self) -> float:
        """The total seconds of the counted updates."""
        return _seconds(self._events[self.warmup], self._events[-1])

    def seconds_per_update(self) -> float:
        """Return the median time of the counted updates, because a few of them record graphs and take longer."""
        counted = self._events[self.warmup :]
        return statistics.median(_seconds(one, other) for one, other in pairwise(counted))

    def start_seconds(self) -> float:
        """Return the seconds that all updates took beyond their median time, mostly to record graphs."""
        assert self._begin is not None, "a training has begun"
        everything = _seconds(self._begin, self._events[-1])
        return max(0.0, everything - len(self._events) * self.seconds_per_update())

    def restore(self, snapshot: Snapshot) -> None:
        """Record when the training begins. Leave ``snapshot`` unchanged."""
        self._begin = _now()

    def is_due(self) -> bool:
        """Record the time of GPU and host. Return False, because a clock saves nothing."""
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
    """Return a clock for updates on ``device``. On a CPU it reads ``now``."""
    return UpdateClock(now) if device == "cpu" else GpuClock()
