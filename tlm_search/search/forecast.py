"""How long a study takes by the clock on the wall, from the plan of its work. No Ray here."""

from __future__ import annotations

from collections.abc import Callable

from tlm_search.members.plan import Cost, Plan, different_trials
from tlm_search.search.helping import helps
from tlm_search.space.schema import Space


def wall_seconds(
    plan: Plan, space: Space, *, concurrent: int, seconds: Callable[[Cost], float] = lambda cost: cost.seconds
) -> dict[str, float]:
    """Return the time ``at_least``, ``expected`` and ``at_most`` where so many trials, with who helps them, fit.

    ``seconds`` tells what a cost takes alone. However much runs at once, the longest piece takes its time: a member
    where trials are helped, a trial elsewhere. The dearest is taken to be among those that are expected.
    """
    helped, reference = helps(space), plan.reference

    def piece(time: float, members: float) -> float:
        return time / max(1.0, members) if helped else time

    def longest(cost: Cost, trials: int) -> float:
        time, members = seconds(cost) - seconds(reference), cost.members - reference.members
        return max(piece(time / trials, members / trials), piece(seconds(reference), reference.members))

    dearest = longest(plan.at_most, different_trials(space))
    longest_of = {"at_least": longest(plan.at_least, 1), "expected": dearest, "at_most": dearest}
    wall = {}
    for name, at_least in longest_of.items():
        cost: Cost = getattr(plan, name)
        pieces = cost.members if helped else jobs_of(space)
        wall[name] = min(seconds(cost), max(seconds(cost) / min(concurrent, pieces), at_least))
    return wall


def jobs_of(space: Space) -> int:
    """Return how many trials a study has, with the reference."""
    return space.budget.trials + (space.reference is not None)
