"""Estimate the wall-clock time of a study from its plan. No Ray here."""

from __future__ import annotations

import math
from collections.abc import Callable

from tlm_search.cost.plan import Cost, Plan, different_trials
from tlm_search.space.schema import Space


def wall_seconds(
    plan: Plan,
    space: Space,
    *,
    concurrent: int,
    stacked: int = 1,
    seconds: Callable[[Cost], float] = lambda cost: cost.seconds,
) -> dict[str, float]:
    """Return the wall time ``at_least``, ``expected`` and ``at_most`` if ``concurrent`` trials or helpers run at once.

    ``seconds`` returns the time of a cost that runs alone. A study never takes less than its longest indivisible job.
    If idle workers help, such a job is a stack of at most ``stacked`` members. Otherwise it is a trial or a try of the
    reference. The expected trials are assumed to include the most expensive trial.
    """
    reference, jobs = plan.reference, jobs_of(space)
    one_try = reference if plan.costliest_try is None else plan.costliest_try
    chunks = chunks_of(space, slots=concurrent, jobs=jobs)

    def stacks(members: float) -> int:
        together = min(stacked, math.ceil(members / chunks))
        return math.ceil(members / max(1, together)) if helps(space) and members else 1

    def longest(cost: Cost, trials: int) -> float:
        time, members = seconds(cost) - seconds(reference), cost.members - reference.members
        return max(time / trials / stacks(members / trials), seconds(one_try) / stacks(one_try.members))

    costliest = longest(plan.at_most, different_trials(space))
    longest_of = {"at_least": longest(plan.at_least, 1), "expected": costliest, "at_most": costliest}
    wall = {}
    for name, at_least in longest_of.items():
        cost: Cost = getattr(plan, name)
        at_once = min(concurrent, jobs * stacks(cost.members / jobs))
        wall[name] = min(seconds(cost), max(seconds(cost) / at_once, at_least))
    return wall


def jobs_of(space: Space) -> int:
    """Return the number of trials of a study, including tries of the reference."""
    return space.budget.trials + len(space.reference_tries())


def helps(space: Space) -> bool:
    """Return whether idle workers help with trials of ``space``.

    They do not help if a pruner may stop a trial before its last members, or on GPUs, because there a trial trains its
    members together.
    """
    return space.pruner.name == "none" and not space.resources.gpus_per_trial


def chunks_of(space: Space, *, slots: int, jobs: int) -> int:
    """Return the number of chunks into which each of the last ``jobs`` is split if ``slots`` workers run at once."""
    return max(1, slots // jobs) if helps(space) else 1
