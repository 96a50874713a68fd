"""The progress of a run: numbers that a display reads while the driver changes them."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tlm_search.cost.remaining import Left, Outlook, Taken
from tlm_search.members.trainer import PRETRAINING
from tlm_search.search.activity import EVERY_SECONDS, Activity
from tlm_search.space.objectives import Objective
from tlm_search.space.settings import Value
from tlm_search.study.record import IMPORTED_FROM

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_REMEMBERED = 50  # the jobs that ended last; earlier jobs found less in the store, so they took longer


@dataclass(frozen=True)
class Best:
    """The best trial that meets the constraints; the higher its ``rank``, the better its first objective."""

    trial: int
    rank: float
    metrics: Mapping[str, float]


@dataclass
class Running:
    """A job of a worker; ``voting`` of its ``members`` vote already.

    ``began`` is the time of the worker's first report: the seconds before it, ``start``, do not measure its speed.
    Without a report it is the time at which the job was handed out. ``fresh`` is the share of the voting members that
    were trained for this job; the others were in the store. ``seen`` is the worker's latest report.
    """

    title: str
    attempt: str
    settings: Mapping[str, Value]
    reference: bool
    began: float
    voting: int = 0
    fresh: float = 1.0
    start: float = 0.0
    seen: Activity | None = None
    activities: Sequence[Activity] = ()

    @property
    def members(self) -> int:
        """The number of members of its committee."""
        return int(self.settings["committee_size"])


@dataclass
class Progress:
    """The state of a run. Members and tokens are those of this run; trials include those that the study had before it.

    ``metric`` is the metric of the task. ``reference`` has the metrics of the chosen reference, ``baseline`` those of
    the linear model. ``reference_done`` of ``reference_tries`` have ended. ``jobs`` run now, ``ended`` are those that
    ended last. ``slots`` is the number of jobs that can run at once, 0 while unknown. The clock is ``now``.
    """

    total: int
    metric: str = "accuracy"
    finished: int = 0
    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    trained: int = 0
    reused: int = 0
    tokens: int = 0
    best: Best | None = None
    reference: Mapping[str, float] | None = None
    baseline: Mapping[str, float] | None = None
    reference_running: int = 0
    reference_done: int = 0
    reference_tries: int = 0
    now: Callable[[], float] = time.monotonic
    started: float = field(default=-1.0)
    first_job: float | None = None
    slots: int = 1
    jobs: dict[str, Running] = field(default_factory=dict)
    ended: deque[Taken] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    outlook: Outlook = field(default_factory=Outlook)

    def __post_init__(self) -> None:
        if self.started < 0:
            self.started = self.now()

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return self.now() - self.started

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second of all workers now; the mean since the first job began if no worker has reported."""
        told = [activity.tokens_per_second for job in list(self.jobs.values()) for activity in job.activities]
        if told or not self.tokens:
            return sum(told)
        return self.tokens / max(1e-9, self.now() - (self.first_job or self.started))

    @property
    def left(self) -> Left | None:
        """The time left until the last trial; None until a worker trains, because Ray's start takes time too."""
        if not self.slots or not self._trains:
            return None
        trials = self.total - self.finished - self.running
        tries = self.reference_tries - self.reference_done - self.reference_running
        return self.outlook.left(self._all_taken(), trials=max(0, trials), tries=max(0, tries), slots=self.slots)

    @property
    def _trains(self) -> bool:
        """Whether a job of this run has ended, has votes, or reported what it trains."""
        return bool(self.ended) or any(job.voting or job.activities for job in list(self.jobs.values()))

    def remaining(self, job: Running) -> float | None:
        """Return the seconds that a job still takes; None while they are unknown."""
        return self.outlook.rest(self._taken(job), self._all_taken())

    def look(self, told: Sequence[Activity]) -> None:
        """Receive the workers' reports; ignore those on jobs that have ended."""
        for job in list(self.jobs.values()):
            job.activities = [activity for activity in told if activity.attempt == job.attempt]
            own = [told for told in job.activities if told.title == job.title and told.updates]  # not of helpers
            if own and job.seen is None:
                began = max(job.began, self.now() - EVERY_SECONDS)  # the first report comes after a second
                job.start, job.began = began - job.began, began
            job.seen = own[-1] if own else job.seen

    def end(self, key: str, *, tells: bool) -> None:
        """Forget a job. ``tells``: its time says how long other jobs take, because it neither failed nor died."""
        job = self.jobs.pop(key)
        if tells:
            self.ended.append(self._taken(job, over=True))

    def _all_taken(self) -> list[Taken]:
        return [*self.ended, *(self._taken(job) for job in list(self.jobs.values()))]

    def _taken(self, job: Running, *, over: bool = False) -> Taken:
        done = job.voting / job.members
        worked = done * job.fresh
        if (seen := job.seen) is not None:
            first, last = seen.members
            pretrains = seen.phase == PRETRAINING
            phase_done = seen.update / seen.updates
            at = self.outlook.done(job.settings, phase_done, first=first, last=last, pretrains=pretrains)
            worked = self.outlook.worked(job.settings, pretrained=seen.pretrained, finetuned=seen.finetuned)
            # It has trained since its last report.
            worked, done = min(1.0, worked + max(0.0, done - at)), max(done, at)
        if not over:
            done = min(done, 0.99)
        return Taken(job.settings, job.reference, self.now() - job.began, done, worked, job.start, over)


def progress_of(
    trials: Iterable[FrozenTrial], objective: Objective, reference: Mapping[str, Any] | None, *, total: int
) -> Progress:
    """Return the progress at the start of a run, from the study's ``trials`` and ``reference``."""
    counts: Counter[str] = Counter()
    best: Best | None = None
    sign = 1 if objective.direction == "maximize" else -1
    for trial in trials:
        if not trial.state.is_finished() or trial.user_attrs.get("interrupted") or IMPORTED_FROM in trial.user_attrs:
            continue
        counts[trial.state.name] += 1
        feasible = all(violation <= 0 for violation in trial.constraints.values())
        if trial.state.name == "COMPLETE" and feasible:
            this = Best(trial.number, sign * trial.values[0], trial.user_attrs.get("metrics", {}))
            best = this if best is None or this.rank > best.rank else best
    return Progress(
        total=total,
        finished=counts.total(),
        complete=counts["COMPLETE"],
        pruned=counts["PRUNED"],
        failed=counts["FAIL"],
        best=best,
        # A reference that failed after its first rung has metrics too, of a part of its committee.
        reference=None if reference is None or "error" in reference else reference["metrics"],
    )


def duration(seconds: float) -> str:
    """Write a time as 45 s, 3:20 min or 2:05 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def rough_duration(seconds: float) -> str:
    """Write an estimated time with about two digits: 4.2 s, 95 s, 12 min, 3.4 h."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{seconds:.{0 if seconds >= 10 else 1}f} s"
