"""How far a study is: numbers that a display reads while the driver changes them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tlm_search.search.record import IMPORTED_FROM
from tlm_search.space.objectives import Objective

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Best:
    """The best trial that keeps to the constraints; the higher its ``rank``, the better its first objective."""

    trial: int
    rank: float
    metrics: Mapping[str, float]


@dataclass
class Progress:
    """The state of a run. Members and tokens count this run; trials also what the study held before it.

    ``metric`` is what the task is judged by. ``reference`` has the metrics of the chosen reference;
    ``reference_done`` counts the finished ones of ``reference_tries``.
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
    reference_running: int = 0
    reference_done: int = 0
    reference_tries: int = 0
    started: float = field(default_factory=time.monotonic)
    finished_before: int = 0
    first_job: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on, by second since the first trial began."""
        return self.tokens / self._working_seconds if self.tokens else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last trial, if the next ones take as long as those of this run; None before the first."""
        done = self.finished - self.finished_before
        if not done:
            return None
        return self._working_seconds / done * max(0, self.total - self.finished)

    @property
    def _working_seconds(self) -> float:
        return max(1e-9, time.monotonic() - (self.first_job or self.started))


def progress_of(
    trials: Iterable[FrozenTrial], objective: Objective, reference: Mapping[str, Any] | None, *, total: int
) -> Progress:
    """Return the state in which a run finds its study."""
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
        finished_before=counts.total(),
        complete=counts["COMPLETE"],
        pruned=counts["PRUNED"],
        failed=counts["FAIL"],
        best=best,
        # One that failed after its first rung has metrics too, of a part of its committee.
        reference=None if reference is None or "error" in reference else reference["metrics"],
    )
