"""Whether the answer's figure is that of fresh seeds, or of the very members that the search has chosen."""

from __future__ import annotations

from tlm_search.committee.candidates import Candidate, configurations
from tlm_search.committee.select import Choice
from tlm_search.report.formatting import duration, interval, percent
from tlm_search.search.confirm import FRESH_MEMBERS, confirmations, training_seconds
from tlm_search.study.record import StudyRecord


def confirmation_words(record: StudyRecord, choice: Choice) -> str | None:
    """Say what fresh seeds reach; or, where the choice is not confirmed, what its interval does not cover.

    None where there was nothing to choose between.
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
            words += f". The reference reaches {_reached(reference)} so; it had {_reached(before)}"
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
        f" {how} trains it once more with fresh seeds, about {duration(seconds)} of training; that of the study took "
        f"{duration(training_seconds(record))}."
    )


def _reached(candidate: Candidate) -> str:
    return f"{percent(candidate.test_metric)} ({interval(*candidate.test_interval)})"
