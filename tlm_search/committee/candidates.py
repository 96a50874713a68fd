"""The committees of a study: each configuration at each size.

A configuration is a trial's settings without the committee size. Its trial with the most members represents it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tlm_search.committee.scores import CommitteeScores, Interval
from tlm_search.digest import canonical_json


class Trial(Protocol):
    """The attributes that a choice reads of a trial, such as ``tlm_search.study.record.TrialRecord``."""

    @property
    def number(self) -> int: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def params(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def metrics(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def frontier(self) -> Sequence[CommitteeScores]: ...  # noqa: D102


AnyTrial = TypeVar("AnyTrial", bound=Trial)
COSTS = ("latency_ms", "parameters", "training_flops", "training_seconds")


@dataclass(frozen=True)
class Candidate:
    """A committee of one configuration with its ``scores``.

    ``parameters``, ``training_flops`` and ``training_seconds`` are those of the whole committee. Costs that were not
    measured are None.
    """

    trial: Trial
    scores: CommitteeScores
    latency_ms: float | None
    parameters: float | None
    training_flops: float | None
    training_seconds: float | None

    @property
    def size(self) -> int:
        """The number of members."""
        return self.scores.size

    @property
    def metric(self) -> str:
        """The name of the task's metric."""
        return self.scores.metric

    @property
    def validation_metric(self) -> float:
        """The task's metric on validation."""
        return self.scores.mean("validation", self.metric)

    @property
    def validation_interval(self) -> Interval:
        """The 95% interval of ``validation_metric``."""
        return self.scores.interval("validation", self.metric)

    @property
    def test_metric(self) -> float:
        """The task's metric on test."""
        return self.scores.mean("test", self.metric)

    @property
    def test_interval(self) -> Interval:
        """The 95% interval of ``test_metric``."""
        return self.scores.interval("test", self.metric)

    @property
    def validation_accuracy(self) -> float:
        """The accuracy on validation, also if the task has another metric."""
        return self.scores.mean("validation", "accuracy")

    @property
    def test_accuracy(self) -> float:
        """The accuracy on test, also if the task has another metric."""
        return self.scores.mean("test", "accuracy")

    def on_test(self, name: str) -> tuple[float, Interval] | None:
        """Return a metric on test by ``name`` with its 95% interval; None if it has no interval."""
        if not self.scores.has_interval("test", name):
            return None
        return self.scores.mean("test", name), self.scores.interval("test", name)

    def measured(self) -> dict[str, float]:
        """Return the metrics that a constraint can name, as far as they were measured."""
        costs = {name: cost for name in COSTS if (cost := getattr(self, name)) is not None}
        return {**self.scores.figures, **costs}


def configurations(trials: Iterable[AnyTrial]) -> list[AnyTrial]:
    """Return one complete trial for each configuration: the one with the most members."""
    largest: dict[str, AnyTrial] = {}
    for trial in trials:
        if trial.state != "complete" or not trial.frontier:
            continue
        key = configuration_key(trial)
        if key not in largest or len(trial.frontier) > len(largest[key].frontier):
            largest[key] = trial
    return sorted(largest.values(), key=lambda trial: trial.number)


def configuration_key(trial: Trial) -> str:
    """Return a key that is equal for trials that differ only in the committee size."""
    settings = trial.settings or trial.params
    return canonical_json({name: value for name, value in settings.items() if name != "committee_size"})


def candidates(trial: Trial) -> list[Candidate]:
    """Return the committees of each size 1..K of a trial."""
    members = len(trial.frontier)
    metrics = trial.metrics

    def cost(name: str, scores: CommitteeScores) -> float | None:
        of_all = metrics.get(name)
        if of_all is None or scores.size == members:
            return of_all
        # All members cost the same. If there are further costs, each size has its own.
        return scores.figures.get(name, of_all * scores.size / members)

    return [
        Candidate(
            trial=trial,
            scores=scores,
            # Latency is not proportional to the size, so it is never computed from that of another size.
            latency_ms=(metrics if scores.size == members else scores.figures).get("latency_ms"),
            parameters=cost("parameters", scores),
            training_flops=cost("training_flops", scores),
            training_seconds=cost("training_seconds", scores),
        )
        for scores in trial.frontier
    ]


def whole(trial: Trial) -> Candidate | None:
    """Return the committee of all members of a trial; None if the trial has no result."""
    return candidates(trial)[-1] if trial.state == "complete" and trial.frontier else None
