"""In which order a report shows configurations: first those that the answer chooses from, best on validation first."""

from __future__ import annotations

from tlm_search.committee.candidates import candidates, configurations
from tlm_search.committee.pool import Pool, pool_of
from tlm_search.study.record import StudyRecord, TrialRecord


def pool_of_study(record: StudyRecord) -> Pool:
    """Return what the answer chooses from: shallower than the reference, within the constraints of the study."""
    return pool_of(record.trials, record.reference, constraints=record.space.constraints)


def eligible(record: StudyRecord) -> list[TrialRecord]:
    """Return the configurations that the answer chooses from, the best at its best allowed size first."""
    trials = [candidate.trial for candidate in pool_of_study(record).best()]
    return [trial for trial in trials if isinstance(trial, TrialRecord)]


def ranked(record: StudyRecord) -> list[TrialRecord]:
    """Return all configurations: the eligible first, then the others by their best size."""
    first = eligible(record)
    numbers = {trial.number for trial in first}
    others = [trial for trial in configurations(record.trials) if trial.number not in numbers]
    return [*first, *sorted(others, key=lambda trial: -best_validation(trial))]


def best_validation(trial: TrialRecord) -> float:
    """Return the highest metric on validation of its committees of all sizes."""
    return max(candidate.validation_metric for candidate in candidates(trial))
