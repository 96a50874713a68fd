"""The order of configurations in a report: those that the answer may choose first, best on validation first."""

from __future__ import annotations

from tlm_search.committee.candidates import candidates, configurations
from tlm_search.committee.pool import Pool, pool_of
from tlm_search.study.record import StudyRecord, TrialRecord


def pool_of_study(record: StudyRecord) -> Pool:
    """Return the committees that the answer may choose: shallower than the reference and within the constraints."""
    return pool_of(record.trials, record.reference, constraints=record.space.constraints)


def eligible(record: StudyRecord) -> list[TrialRecord]:
    """Return the configurations that the answer may choose, sorted by their best allowed committee."""
    trials = [candidate.trial for candidate in pool_of_study(record).best()]
    return [trial for trial in trials if isinstance(trial, TrialRecord)]


def ranked(record: StudyRecord) -> list[TrialRecord]:
    """Return all configurations: the eligible ones first, then the others by their best size."""
    first = eligible(record)
    numbers = {trial.number for trial in first}
    others = [trial for trial in configurations(record.trials) if trial.number not in numbers]
    return [*first, *sorted(others, key=lambda trial: -best_validation(trial))]


def best_validation(trial: TrialRecord) -> float:
    """Return the highest metric on validation over the committee sizes of a trial."""
    return max(candidate.validation_metric for candidate in candidates(trial))
