"""The costs of a committee, and the Pareto fronts of metric and cost."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from tlm_search.committee.candidates import Candidate
from tlm_search.data.prepared import facts_of
from tlm_search.model.architecture import Architecture
from tlm_search.study.record import BaselineRecord, StudyRecord

COSTS = ("latency_ms", "serving_flops", "parameters", "training_flops", "training_seconds")


def costs_of(record: StudyRecord, candidate: Candidate) -> dict[str, float | None]:
    """Return each of ``COSTS`` of a committee; unknown costs are None."""
    return {
        "latency_ms": candidate.latency_ms,
        "serving_flops": _serving_flops(record, candidate),
        "parameters": candidate.parameters,
        "training_flops": candidate.training_flops,
        "training_seconds": candidate.training_seconds,
    }


def front(table: pd.DataFrame, cost: str) -> list[bool]:
    """Return for each row whether it is on the Pareto front: no other allowed row is as good on validation and cheaper.

    ``cost`` is the column of the cost. Rows of the reference and the baseline, rows that are not allowed, and rows with
    an unknown cost are on no front.
    """
    on_front = [False] * len(table)
    candidates_only = table[(table["trial"] >= 0) & table["allowed"] & table[cost].notna()]
    best = float("-inf")
    for index, reached in _by_cost(candidates_only, cost):
        if reached > best:
            best = reached
            on_front[index] = True
    return on_front


def _serving_flops(record: StudyRecord, candidate: Candidate) -> float | None:
    """Return the floating-point operations of all members for one text of full length."""
    if isinstance(candidate.trial, BaselineRecord) or record.space.is_own_trainer:
        return None
    try:
        facts = facts_of(record.data, candidate.trial.settings)
        architecture = Architecture.of(
            candidate.trial.settings, vocabulary=int(facts["vocabulary"]), positions=int(facts["length"])
        )
    except KeyError:  # the data of the study are not prepared yet
        return None
    pooling = str(candidate.trial.settings["pooling"])
    return candidate.size * architecture.serving_flops(architecture.positions, pooling=pooling)


def _by_cost(table: pd.DataFrame, cost: str) -> Iterator[tuple[int, float]]:
    ordered = table.sort_values([cost, "validation_metric"], ascending=[True, False], kind="stable")
    for index, reached in zip(ordered.index, ordered["validation_metric"], strict=True):
        yield int(index), float(reached)
