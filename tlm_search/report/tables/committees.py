"""Committees of the members of a study: other votes, mixed configurations, and selections from all members."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlm_search.committee.combine import fit_weights, majority, mean_logits, weighted_vote
from tlm_search.committee.interval import accuracy_interval
from tlm_search.committee.logits import MemberLogits, Split
from tlm_search.committee.vote import soft_vote
from tlm_search.report.evidence import Evidence
from tlm_search.report.tables.mixed import (
    GREEDY,
    MOST_CONFIGURATIONS,
    SMALLEST_WEIGHT,
    WEIGHTED,
    MixedCommittee,
    joined,
    mixed_committees,
)
from tlm_search.report.tables.ranking import eligible
from tlm_search.report.tables.tables import label_of
from tlm_search.study.record import StudyRecord

COLUMNS = (
    *("committee", "vote", "members", "pool", "validation_accuracy"),
    *("test_accuracy", "test_accuracy_low", "test_accuracy_high"),
)

Logits = NDArray[np.floating]
Vote = Callable[[Logits], NDArray[np.float64]]
Row = tuple[Any, ...]


def committees_table(
    record: StudyRecord, evidence: Evidence, mixed: Mapping[str, MixedCommittee] | None = None
) -> pd.DataFrame:
    """Return a row for each committee: its kind, its vote, its members, their pool, and its accuracies.

    The members of the best eligible configuration vote in four ways: by the mean of probabilities, by the mean of
    logits, by majority, and by weights fitted on validation. The best configurations together give three kinds of
    mixed committees: one member of each (the mean over such committees), all their members, and selections from these
    on validation, greedy with replacement or by fitted weights. Pass the selections as ``mixed`` if you have them.

    ``members`` counts each member once. No choice uses test rows. Fitted and greedy committees use validation rows, so
    their ``validation_accuracy`` is too high. ``test_accuracy_low`` and ``test_accuracy_high`` are the 95% interval
    over test rows for these members.
    """
    mixed = mixed_committees(record, evidence) if mixed is None else mixed
    trials = eligible(record)[:MOST_CONFIGURATIONS]
    found = [(trial, votes) for trial in trials if (votes := evidence.logits_of(trial)) is not None]
    rows: list[Row] = []
    if found:
        best, votes = found[0]
        rows += [(label_of(record, best), *row) for row in _votes_of_one(votes)]
        if len(found) > 1:
            rows += _of_several([votes for _, votes in found], mixed)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _votes_of_one(votes: MemberLogits) -> Iterator[Row]:
    members = len(votes.test)
    if members < 2:
        return
    for name, vote in (("mean of probabilities", soft_vote), ("mean of logits", mean_logits), ("majority", majority)):
        yield (name, members, members, *_judged(votes, vote))
    yield ("weights fitted on validation", *_weighted(votes, fit_weights(*votes.of("validation"))))


def _of_several(all_votes: Sequence[MemberLogits], mixed: Mapping[str, MixedCommittee]) -> Iterator[Row]:
    kinds, each = len(all_votes), min(len(votes.test) for votes in all_votes)
    pool = joined(all_votes)
    of_each = [
        joined([replace(own, validation=own.validation[[i]], test=own.test[[i]]) for own in all_votes])
        for i in range(each)
    ]
    validation = np.mean([_right(votes, "validation", soft_vote) for votes in of_each], axis=0)
    test = np.mean([_right(votes, "test", soft_vote) for votes in of_each], axis=0)
    accuracies = (float(validation.mean()), float(test.mean()), *accuracy_interval(test))
    name = f"mixed: one member of each of {kinds} configurations, mean of {each}"
    yield (name, "mean of probabilities", kinds, len(pool.test), *accuracies)
    everyone = len(pool.test)
    # Show this vote as a baseline for the choices below, whose pool is larger than any committee of one configuration.
    name = f"all members of {kinds} configurations"
    yield (name, "mean of probabilities", everyone, everyone, *_judged(pool, soft_vote))
    name = f"chosen from {name}"
    for vote, how in (("greedy with replacement", GREEDY), ("weights fitted on validation", WEIGHTED)):
        yield (name, vote, len(mixed[how].members), everyone, *_judged(mixed[how].votes, soft_vote))


def _weighted(votes: MemberLogits, weights: NDArray[np.float64]) -> Row:
    accuracies = _judged(votes, lambda logits: weighted_vote(logits, weights))
    return (int((weights > SMALLEST_WEIGHT).sum()), len(weights), *accuracies)


def _judged(votes: MemberLogits, vote: Vote) -> tuple[float, ...]:
    validation, test = _right(votes, "validation", vote), _right(votes, "test", vote)
    return float(validation.mean()), float(test.mean()), *accuracy_interval(test)


def _right(votes: MemberLogits, split: Split, vote: Vote) -> NDArray[np.float64]:
    logits, labels = votes.of(split)
    return np.asarray(vote(logits).argmax(axis=-1) == labels, dtype=np.float64)
