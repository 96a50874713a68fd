"""The committees of a study: each configuration at each size.

A configuration is a trial's settings without the committee size. Its trial with the most members represents it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tlm_search.committee.metrics import interval_keys
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
    def frontier(self) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102


AnyTrial = TypeVar("AnyTrial", bound=Trial)


@dataclass(frozen=True)
class Candidate:
    """A committee of ``size`` members of one configuration.

    ``validation_metric`` and ``test_metric`` are values of the task's ``metric`` with their 95% intervals.
    ``parameters``, ``training_flops`` and ``training_seconds`` are those of the whole committee. Costs that were not
    measured are None. ``row`` is the committee's record in the frontier.
    """

    trial: Trial
    size: int
    metric: str
    validation_metric: float
    validation_interval: tuple[float, float]
    test_metric: float
    test_interval: tuple[float, float]
    latency_ms: float | None
    parameters: float | None
    training_flops: float | None
    training_seconds: float | None
    row: Mapping[str, Any]

    @property
    def validation_accuracy(self) -> float:
        """The accuracy on validation, also if the task has another metric."""
        return float(self.row["validation_accuracy"])

    @property
    def test_accuracy(self) -> float:
        """The accuracy on test, also if the task has another metric."""
        return float(self.row["test_accuracy"])

    def on_test(self, name: str) -> tuple[float, tuple[float, float]] | None:
        """Return a metric on test by ``name`` with its 95% interval; None if it has no interval."""
        low, high = (self.row.get(key) for key in interval_keys("test", name))
        return None if low is None or high is None else (self.row[f"test_{name}"], (low, high))

    def measured(self, name: str) -> float | None:
        """Return a metric that a constraint can name; None if it was not measured."""
        value = getattr(self, name, None)
        return self.row.get(name) if value is None else value


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

    def cost(name: str, row: Mapping[str, Any]) -> float | None:
        value = metrics.get(name)
        if value is None or row["size"] == members:
            return value
        # All members cost the same. If there are further costs, the record of each size has its own.
        return float(row.get(name, value * row["size"] / members))

    def candidate(row: Mapping[str, Any]) -> Candidate:
        name = row.get("metric", "accuracy")
        validation, test = (tuple(row[key] for key in interval_keys(split, name)) for split in ("validation", "test"))
        return Candidate(
            trial=trial,
            size=row["size"],
            metric=name,
            validation_metric=row[f"validation_{name}"],
            validation_interval=(validation[0], validation[1]),
            test_metric=row[f"test_{name}"],
            test_interval=(test[0], test[1]),
            # Latency is not proportional to the size, so it is never computed from that of another size.
            latency_ms=metrics.get("latency_ms") if row["size"] == members else row.get("latency_ms"),
            parameters=cost("parameters", row),
            training_flops=cost("training_flops", row),
            training_seconds=cost("training_seconds", row),
            row=row,
        )

    return [candidate(row) for row in trial.frontier]


def whole(trial: Trial) -> Candidate | None:
    """Return the committee of all members of a trial; None if the trial has no result."""
    return candidates(trial)[-1] if trial.state == "complete" and trial.frontier else None
