"""How long a study takes by the clock on the wall, from the plan of its work. No Ray here."""

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
    """Return the time ``at_least``, ``expected`` and ``at_most`` where ``concurrent`` trials or helpers fit.

    ``seconds`` gives the time of a cost alone. However much runs at once, the longest piece takes its time. Where
    trials are helped, a piece is the members that are trained as one model, at most ``stacked``; elsewhere it is a
    trial, or a try of the reference. The dearest trial is taken to be among the expected ones.
    """
    reference, jobs = plan.reference, jobs_of(space)
    one_try = reference if plan.dearest_try is None else plan.dearest_try
    chunks = chunks_of(space, slots=concurrent, jobs=jobs)

    def stacks(members: float) -> int:
        together = min(stacked, math.ceil(members / chunks))
        return math.ceil(members / max(1, together)) if helps(space) and members else 1

    def longest(cost: Cost, trials: int) -> float:
        time, members = seconds(cost) - seconds(reference), cost.members - reference.members
        return max(time / trials / stacks(members / trials), seconds(one_try) / stacks(one_try.members))

    dearest = longest(plan.at_most, different_trials(space))
    longest_of = {"at_least": longest(plan.at_least, 1), "expected": dearest, "at_most": dearest}
    wall = {}
    for name, at_least in longest_of.items():
        cost: Cost = getattr(plan, name)
        at_once = min(concurrent, jobs * stacks(cost.members / jobs))
        wall[name] = min(seconds(cost), max(seconds(cost) / at_once, at_least))
    return wall


def jobs_of(space: Space) -> int:
    """Return how many trials a study has, with those of the reference."""
    return space.budget.trials + len(space.reference_tries())


def helps(space: Space) -> bool:
    """Whether trials of ``space`` are helped: not where a pruner may stop them before their last members.

    Nor on a GPU, where a trial trains its members together.
    """
    return space.pruner.name == "none" and not space.resources.gpus_per_trial


def chunks_of(space: Space, *, slots: int, jobs: int) -> int:
    """Return how many chunks each of the last ``jobs`` is split into, when ``slots`` workers run at once."""
    return max(1, slots // jobs) if helps(space) else 1
