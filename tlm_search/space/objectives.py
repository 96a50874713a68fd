"""The objectives of a study and the constraints on its result."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import Field

from tlm_search.space.section import Problem, Section, given, refusal, refuse, unknown
from tlm_search.space.task import METRICS_OF_ALL_LABELS, METRICS_OF_ONE_LABEL, TaskSection

Metric = Literal[
    "validation_accuracy",
    "validation_balanced_accuracy",
    "validation_macro_f1",
    "validation_precision",
    "validation_recall",
    "validation_f1",
    "validation_average_precision",
    "validation_cross_entropy",
    "validation_calibration_error",
    "latency_ms",
    "parameters",
    "training_flops",
    "training_seconds",
]
Direction = Literal["maximize", "minimize"]
METRICS: tuple[Metric, ...] = get_args(Metric)
_MAXIMIZED = frozenset(f"validation_{name}" for name in (*METRICS_OF_ALL_LABELS, *METRICS_OF_ONE_LABEL))
_OF_ONE_LABEL = frozenset(f"validation_{name}" for name in METRICS_OF_ONE_LABEL)
BEATS_REFERENCE = "beats_reference"
_NO_REFERENCE_VIOLATION = 1.0  # the worst accuracy


class Objective(Section):
    """A metric and its direction."""

    metric: Metric = Field(description="metric to optimise; test metrics are for reports only")
    direction: Direction = Field(description="maximize or minimize; default: minimize costs, maximize the rest")


class Constraint(Section):
    """A bound on a metric. If ``bound`` is None, the reference's value is the bound."""

    metric: Metric
    operator: Literal["<=", ">="]
    bound: float | None

    def violation(self, metrics: Mapping[str, float], reference_metrics: Mapping[str, float] | None = None) -> float:
        """Return by how much ``metrics`` miss the bound, in units of the metric; 0 or less is feasible.

        If the reference's value is the bound, nothing is feasible without the reference's metrics.
        """
        bound = self.bound
        if bound is None:
            if reference_metrics is None:
                return _NO_REFERENCE_VIOLATION
            bound = reference_metrics[self.metric]
        excess = metrics[self.metric] - bound
        return excess if self.operator == "<=" else -excess

    def __str__(self) -> str:
        return BEATS_REFERENCE if self.bound is None else f"{self.metric} {self.operator} {self.bound!r}"


def read_objectives(raw: Any) -> tuple[Objective, ...]:
    """Read the list of objectives: each a metric's name, or ``{metric: ..., direction: ...}``."""
    if not isinstance(raw, list | tuple) or not raw:
        raise refuse([Problem((), refusal(raw, f"a list of metrics: {', '.join(METRICS)}"))])
    objectives: list[Objective] = []
    problems: list[Problem] = []
    for i, item in enumerate(raw):
        if isinstance(item, Objective):
            item = item.model_dump()
        options = {"metric": item} if isinstance(item, str) else item
        if not isinstance(options, Mapping):
            problems.append(Problem((i,), refusal(item, "a metric's name, or {metric: ..., direction: ...}")))
            continue
        problems += _problems(options, i, bare=isinstance(item, str), seen=[o.metric for o in objectives])
        if not any(problem.path[0] == i for problem in problems):
            objectives.append(Objective.model_validate({"direction": _direction(options["metric"]), **options}))
    if problems:
        raise refuse(problems)
    return tuple(objectives)


def read_constraints(raw: Any) -> tuple[Constraint, ...]:
    """Read the list of constraints, such as ``latency_ms <= 5`` and ``beats_reference``."""
    if not isinstance(raw, list | tuple):
        raise refuse([Problem((), refusal(raw, "a list such as [latency_ms <= 5, beats_reference]"))])
    constraints: list[Constraint] = []
    problems: list[Problem] = []
    for i, item in enumerate(raw):
        constraint = item if isinstance(item, Constraint) else _constraint(item)
        if isinstance(constraint, str):
            problems.append(Problem((i,), constraint))
        elif constraint in constraints:
            problems.append(Problem((i,), f"given {given(item)} twice; allowed: each constraint once"))
        else:
            constraints.append(constraint)
    if problems:
        raise refuse(problems)
    return tuple(constraints)


def default_objectives(task: TaskSection) -> tuple[Objective, ...]:
    """Return the default objective: the metric of the task."""
    return read_objectives([f"validation_{task.metric}"])


def label_problems(metrics: Sequence[str], task: TaskSection) -> list[Problem]:
    """Find metrics of a single label if the task does not say which label."""
    allowed = (
        f"with task: {{positive: LABEL}}; without, {', '.join(name for name in METRICS if name not in _OF_ONE_LABEL)}"
    )
    return [
        Problem((i,), refusal(metric, allowed))
        for i, metric in enumerate(metrics)
        if metric in _OF_ONE_LABEL and task.positive is None
    ]


def _problems(options: Mapping[str, Any], i: int, *, bare: bool, seen: list[str]) -> list[Problem]:
    path = (i,) if bare else (i, "metric")
    keys = tuple(Objective.model_fields)
    problems = [Problem((i, key), unknown("key", key, keys)) for key in options if key not in keys]
    metric = options.get("metric")
    if "metric" not in options:
        problems.append(Problem((i,), f"metric is missing; allowed: one of {', '.join(METRICS)}"))
    elif metric not in METRICS:
        problems.append(Problem(path, _unknown_metric(metric)))
    elif metric in seen:
        problems.append(Problem(path, f"given {given(metric)} twice; allowed: each metric once"))
    if options.get("direction", "maximize") not in get_args(Direction):
        problems.append(Problem((i, "direction"), refusal(options["direction"], "one of maximize, minimize")))
    return problems


def _direction(metric: str) -> Direction:
    return "maximize" if metric in _MAXIMIZED else "minimize"


def _constraint(item: Any) -> Constraint | str:
    if item == BEATS_REFERENCE:
        return Constraint(metric="validation_accuracy", operator=">=", bound=None)
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*(\S+)\s*", item) if isinstance(item, str) else None
    bound = _number(match[3]) if match else None
    if match is None or bound is None:
        return refusal(item, "METRIC <= NUMBER, METRIC >= NUMBER or beats_reference")
    if match[1] not in METRICS:
        return _unknown_metric(match[1])
    return Constraint.model_validate({"metric": match[1], "operator": match[2], "bound": bound})


def _unknown_metric(metric: Any) -> str:
    if isinstance(metric, str) and metric.startswith("test_"):
        return refusal(metric, f"{', '.join(METRICS)}; test metrics are never used to choose")
    return unknown("metric", metric, METRICS)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) != float("inf") and number == number else None
