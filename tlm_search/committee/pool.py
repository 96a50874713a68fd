"""The committees that may be chosen: shallower than the reference, within the constraints and limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tlm_search.committee.candidates import Candidate, Trial, candidates, configurations, whole
from tlm_search.space.objectives import Constraint


@dataclass(frozen=True)
class Pool:
    """The committees that may be chosen, one tuple for each configuration; no tuple is empty.

    ``reasons`` are sentences about what was left out.
    """

    by_trial: tuple[tuple[Candidate, ...], ...]
    reasons: tuple[str, ...]

    def best(self) -> list[Candidate]:
        """Return the best committee of each configuration on validation, the best configuration first.

        The smaller of equal sizes is taken. Of equal configurations the one with fewer parameters comes first.
        """
        best = [max(sizes, key=lambda c: (c.validation_metric, -c.size)) for sizes in self.by_trial]
        return sorted(best, key=lambda c: (-c.validation_metric, c.parameters or 0, c.trial.number))


def pool_of(
    trials: Iterable[Trial],
    reference: Trial | None,
    *,
    constraints: Sequence[Constraint] = (),
    max_latency_ms: float | None = None,
    max_parameters: float | None = None,
) -> Pool:
    """Return the committees of the complete ``trials`` that may be chosen.

    If some configurations are as deep as the ``reference``, only shallower ones remain. ``constraints`` and the two
    limits apply to each committee size on its own: a trial can miss them while a smaller committee of it meets them. A
    committee whose metric was not measured meets no constraint on it.
    """
    everything = configurations(trials)
    rival = None if reference is None else whole(reference)
    shallow = [trial for trial in everything if rival is None or _depth(trial) < _depth(rival.trial)]
    reasons = []
    if rival is not None and shallow and len(shallow) < len(everything):
        reasons.append(
            f"{count_of(len(everything) - len(shallow), 'configuration')} left out: not shallower than the reference "
            f"(depth {_depth(rival.trial):g})."
        )
    by_trial = [tuple(candidates(trial)) for trial in shallow or everything]
    if constraints:
        goal = metrics_to_meet(reference)
        within = _not_empty(tuple(c for c in sizes if not missed(c, constraints, goal)) for sizes in by_trial)
        reasons += _constraint_reasons(constraints, before=by_trial, after=within)
        by_trial = within
    limits = {"latency_ms": max_latency_ms, "parameters": max_parameters}
    within = _not_empty(tuple(c for c in sizes if _within(c, limits)) for sizes in by_trial)
    reasons += _limit_reasons(limits, within=len(within), total=len(by_trial))
    return Pool(tuple(within), tuple(reasons))


def metrics_to_meet(reference: Trial | None) -> Mapping[str, float] | None:
    """Return the metrics of the reference; None if there is none or it has not finished."""
    return None if reference is None or whole(reference) is None else reference.metrics


def missed(
    candidate: Candidate, constraints: Iterable[Constraint], reference: Mapping[str, float] | None
) -> list[Constraint]:
    """Return the constraints that a committee misses; ``reference`` is the result of ``metrics_to_meet``."""
    metrics = candidate.measured()
    if candidate.size == len(candidate.trial.frontier):
        metrics.update(candidate.trial.metrics)  # unrounded, as the search judged them
    return [c for c in constraints if c.metric not in metrics or c.violation(metrics, reference) > 0]


def _not_empty(by_trial: Iterable[tuple[Candidate, ...]]) -> list[tuple[Candidate, ...]]:
    return [sizes for sizes in by_trial if sizes]


def _within(candidate: Candidate, limits: Mapping[str, float | None]) -> bool:
    for name, limit in limits.items():
        value = getattr(candidate, name)
        if limit is not None and (value is None or value > limit):
            return False
    return True


def _depth(trial: Trial) -> float:
    return float(trial.settings.get("depth", trial.params.get("depth", 0)))


def _constraint_reasons(
    constraints: Sequence[Constraint],
    *,
    before: Sequence[Sequence[Candidate]],
    after: Sequence[Sequence[Candidate]],
) -> list[str]:
    total, left = (sum(len(sizes) for sizes in by_trial) for by_trial in (before, after))
    words = f"the constraints of the study ({', '.join(map(str, constraints))})"
    if total and not left:
        return [f"No committee of {count_of(len(before), 'configuration')} meets {words}."]
    if left == total:
        return []
    return [
        f"{total - left} of {count_of(total, 'committee')} left out by {words}; {len(after)} of "
        f"{count_of(len(before), 'configuration')} can still be chosen."
    ]


def _limit_reasons(limits: Mapping[str, float | None], *, within: int, total: int) -> list[str]:
    words = {"latency_ms": "ms latency", "parameters": "parameters"}
    asked = [f"at most {limit:,.10g} {words[name]}" for name, limit in limits.items() if limit is not None]
    if not asked:
        return []
    return [f"{within} of {count_of(total, 'configuration')} have a committee with {' and '.join(asked)}."]


def count_of(number: int, noun: str) -> str:
    """Write 1 trial, 2 trials."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
