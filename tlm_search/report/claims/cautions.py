"""Cautions for a reader who compares committees with the reference.

They name changed data, nuisance settings at an end of their range, and a reference that is worse than the linear model.
``trials_of_each`` gives the number of trials of each side, ``confirmation_words`` says what fresh seeds reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from tlm_search.committee.candidates import Candidate, configurations, whole
from tlm_search.committee.choice import Choice
from tlm_search.data.prepare import changed_words
from tlm_search.report.formatting import describe, duration, interval, number, percent, plural
from tlm_search.report.tables.insight import best_committee, position_in_domain
from tlm_search.search.confirm import FRESH_MEMBERS, confirmations, training_seconds
from tlm_search.study.record import StudyRecord

Side = Literal["committee", "reference"]
_NAMES: Mapping[Side, str] = {"committee": "The best committee", "reference": "The reference"}
_FURTHER = {"lower": "lower", "upper": "higher"}


@dataclass(frozen=True)
class Caution:
    """A reason to be careful with a comparison, in ``words``. ``kind`` is one of three.

    ``edge``: the nuisance ``setting`` chosen for a ``side`` is at an end of its range. ``below_baseline``: the
    reference is worse than the linear model on test. ``data``: sources have changed, which concerns both sides.
    """

    kind: Literal["data", "edge", "below_baseline"]
    side: Side | None
    words: str
    setting: str = ""


def cautions(record: StudyRecord, changed: Sequence[str] = ()) -> tuple[Caution, ...]:
    """Return the cautions about ``changed`` sources, a reference below the linear model, and edges of both sides."""
    found = [Caution("data", None, changed_words(changed))] if changed else []
    found += _below_baseline(record)
    best = best_committee(record)
    if best is not None:
        nuisance = [name for name, domain in record.space.searched().items() if domain.role == "nuisance"]
        active = [name for name in nuisance if record.space.is_active(name, best.trial.settings)]
        found += _edges(record, "committee", best.trial.settings, active)
    reference = record.reference
    if reference is not None and reference.state == "complete":
        found += _edges(record, "reference", reference.settings, record.space.reference_nuisance())
    return tuple(found)


def trials_of_each(record: StudyRecord) -> str | None:
    """Say how many trials each side had, because the side with more is tuned better; None without a reference."""
    if record.reference is None or record.reference.state != "complete":
        return None
    finished = sum(len(record.in_state(state)) for state in ("complete", "pruned", "failed"))
    return f"The committees had {plural(finished, 'trial')}, the reference {len(record.reference_tries) or 1}."


def reference_tries_table(record: StudyRecord) -> pd.DataFrame:
    """Return the tries of the reference: their nuisance settings and metrics, and which one was chosen."""
    names = list(record.space.reference_nuisance())
    metrics = dict.fromkeys((record.space.task.metric, "accuracy"))
    reached = [f"{split}_{metric}" for metric in metrics for split in ("validation", "test")]
    chosen = None if record.reference is None else record.reference.settings
    rows: list[dict[str, Any]] = [
        {
            "try": index,
            "chosen": "yes" if tried.settings == chosen and tried.state == "complete" else "",
            **{name: tried.settings.get(name) for name in names},
            **{name: tried.metrics.get(name) for name in reached},
            "error": tried.error,
        }
        for index, tried in enumerate(record.reference_tries, start=1)
    ]
    columns = ["try", "chosen", *names, *reached, "error"]
    return pd.DataFrame(rows, columns=columns)


def _below_baseline(record: StudyRecord) -> Iterator[Caution]:
    reference = None if record.reference is None else whole(record.reference)
    baseline = None if record.baseline is None else whole(record.baseline)
    if reference is not None and baseline is not None and reference.test_metric < baseline.test_metric:
        words = (
            f"The reference is below the linear model, {percent(reference.test_metric)} on test against "
            f"{percent(baseline.test_metric)}: matching it shows little. It may need other settings, more "
            "training or more trials."
        )
        yield Caution("below_baseline", "reference", words)


def _edges(record: StudyRecord, side: Side, settings: Mapping[str, Any], names: Iterable[str]) -> Iterator[Caution]:
    for name in names:
        found = position_in_domain(record, name, settings.get(name))
        if found is None or not found.edge:
            continue
        words = (
            f"{_NAMES[side]} has {describe(settings, [name])}, at the {found.edge} end of what was searched "
            f"({number(found.low)} to {number(found.high)}): a {_FURTHER[found.edge]} value may be better."
        )
        yield Caution("edge", side, words, name)


def confirmation_words(record: StudyRecord, choice: Choice) -> str | None:
    """Say what fresh seeds reach; if there are none, say what the interval of the choice does not count.

    Return None if there was only one configuration.
    """
    chosen = choice.candidate
    if choice.in_search is not None:
        mean = f", the mean of {FRESH_MEMBERS} models" if chosen.size == 1 else ""
        words = (
            f"Trained once more with fresh seeds, which nothing has chosen, it reaches {_reached(chosen)} on test"
            f"{mean}; in the search it had {_reached(choice.in_search.candidate)}"
        )
        reference, before = choice.reference, choice.in_search.reference
        if reference is not None and before is not None and reference != before:
            words += f". The reference, with fresh seeds too, reaches {_reached(reference)}; it had {_reached(before)}"
        return f"{words}."
    tried = len(configurations(record.trials))
    if tried < 2:
        return None
    counted = "other texts and other members" if chosen.size > 1 or record.counts_seeds else "other texts"
    return (
        f"The interval of {percent(chosen.test_metric)} counts {counted}, but not that this is the best of "
        f"{tried} configurations: the figure may be too high.{_how_to_confirm(record, choice)}"
    )


def _how_to_confirm(record: StudyRecord, choice: Choice) -> str:
    wanted = confirmations(record)
    if not wanted or (wanted[0].number, wanted[0].size) != (choice.candidate.trial.number, choice.candidate.size):
        return ""
    seconds = sum(entry.seconds for entry in wanted)
    how = "The next run" if record.space.confirm == 1 else "With `confirm: 1` in the space a run"
    return (
        f" {how} trains it once more with fresh seeds, which takes about {duration(seconds)}; the study took "
        f"{duration(training_seconds(record))} of training."
    )


def _reached(candidate: Candidate) -> str:
    return f"{percent(candidate.test_metric)} ({interval(*candidate.test_interval)})"
