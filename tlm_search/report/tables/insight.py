"""Findings about the search: which settings matter, optima at an edge of the space, training that the store saved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tlm_search.committee.candidates import Candidate
from tlm_search.report.formatting import number, points
from tlm_search.report.tables.ranking import pool_of_study
from tlm_search.report.tables.tables import searched_names
from tlm_search.space.parameters import Choices, Range
from tlm_search.space.settings import setting_named
from tlm_search.study.record import StudyRecord

MIN_TRIALS = 16  # trials; fewer say nothing about importance
WORTH = 0.005  # of the metric; a smaller gain is not worth training twice the members
MAX_SLICES = 6
EDGE = 0.05  # of the range; a value this close to an end is on the edge


def boundaries_table(record: StudyRecord) -> pd.DataFrame:
    """Return for each searched number the best committee's value, and whether it is on an edge that can be moved.

    Settings that the committee's other settings make irrelevant are left out. An edge is flagged only if the setting's
    own limits allow moving it (a depth of 1 cannot become 0).
    """
    best = best_committee(record)
    rows: list[dict[str, Any]] = []
    if best is not None:
        for name in record.space.searched():
            if not record.space.is_active(name, best.trial.settings):
                continue
            value = best.size if name == "committee_size" else best.trial.settings.get(name)
            found = position_in_domain(record, name, value)
            if found is not None:
                rows.append({"setting": name, "low": found.low, "high": found.high, "best": value, "edge": found.edge})
    table = pd.DataFrame(rows, columns=["setting", "low", "high", "best", "edge"])
    return table.astype({"best": "float64"})


@dataclass(frozen=True)
class Place:
    """The position of a value in a searched domain; ``edge`` is ``lower`` or ``upper`` if that end could be moved."""

    low: float
    high: float
    edge: str


def position_in_domain(record: StudyRecord, name: str, value: Any) -> Place | None:
    """Return where ``value`` lies in the domain of a searched number; None for texts and single values."""
    domain = record.space.searched()[name]
    ends = _ends(domain)
    if ends is None or value is None or isinstance(value, str | bool):
        return None
    return Place(*ends, _side(name, float(value), *ends, log=getattr(domain, "log", False)))


def boundary_advice(table: pd.DataFrame) -> list[str]:
    """Return a sentence for each optimum on an edge."""
    return [
        f"The best committee has {name} = {number(best)}, the {edge} end of its range; "
        f"a study that searches {'below' if edge == 'lower' else 'above'} it may find a better one."
        for name, best, edge in zip(table["setting"], table["best"], table["edge"], strict=True)
        if edge
    ]


def size_advice(saturation: pd.DataFrame, best: Candidate | None) -> list[str]:
    """Say what twice the members of the best committee promise, if the lower end of the gain is at least ``WORTH``.

    Say nothing if the committee has fewer members than were trained: larger ones are not allowed or not better.
    """
    return [
        f"Twice the {row['members']} members of {row['configuration']} promise {points(row['next_gain'])} points "
        f"({points(row['next_low'])} to {points(row['next_high'])}; a curve fitted on validation)."
        for row in saturation.to_dict("records")
        if best is not None and (row["trial"], row["members"]) == (best.trial.number, best.size)
        if row["next_low"] >= WORTH
    ]


def importance_table(record: StudyRecord) -> pd.DataFrame:
    """Return the share of each searched setting in the variance of the validation metric; empty for few trials."""
    name = f"validation_{record.space.task.metric}"
    done = [trial for trial in record.in_state("complete") if name in trial.metrics]
    scores: dict[str, float] = {}
    if len(done) >= MIN_TRIALS and len({trial.metrics[name] for trial in done}) >= 3:
        from tlm_search.search.importance import importances

        scores = importances(record.space, done, name)
    return pd.DataFrame(list(scores.items()), columns=["setting", "importance"])


def best_committee(record: StudyRecord) -> Candidate | None:
    """Return the best committee of the answer; None if no committee is allowed or finished."""
    return next(iter(pool_of_study(record).best()), None)


def members_saved(record: StudyRecord) -> tuple[int, int, float]:
    """Return the numbers of members trained and reused, and an estimate of the seconds of training that reuse saved."""
    finished = [trial for trial in record.trials if trial.members]
    trained = sum(trial.trained for trial in finished)
    reused = sum(trial.reused for trial in finished)
    saved = sum(t.reused * t.metrics.get("training_seconds", 0.0) / len(t.members) for t in finished)
    return trained, reused, saved


def slice_names(record: StudyRecord, importance: pd.DataFrame) -> list[str]:
    """Return the searched settings that get a slice plot, at most ``MAX_SLICES``, the most important first."""
    ranked = list(importance["setting"])
    names = [*searched_names(record), "committee_size"]
    present = [name for name in names if name in record.space.searched()]
    return sorted(present, key=lambda name: ranked.index(name) if name in ranked else len(ranked))[:MAX_SLICES]


def _ends(domain: Choices | Range) -> tuple[float, float] | None:
    if isinstance(domain, Range):
        return float(domain.low), float(domain.high)
    values = [value for value in domain.choices if not isinstance(value, str | bool)]
    if len(values) < len(domain.choices) or len(values) < 2:
        return None
    return float(min(values)), float(max(values))


def _side(name: str, value: float, low: float, high: float, *, log: bool) -> str:
    setting = setting_named(name)
    if setting is None or low == high:
        return ""
    position = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
    if position <= EDGE and (setting.low is None or low > setting.low):
        return "lower"
    if position >= 1 - EDGE and (setting.high is None or high < setting.high):
        return "upper"
    return ""
