"""The confirmation of a study: its chosen committee trained once more, with seeds that no trial has. No Ray, no Optuna.

The search takes the committee that was best on validation, and among equal ones that is the luckiest. Its very members
are then tested, so their accuracy on test is too high as well, and an interval that knows nothing of the choice covers
too little. Nothing has chosen members with fresh seeds. A reference of one or two models is confirmed too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tlm_search.committee.pool import pool_of
from tlm_search.search.reference_tries import Notes
from tlm_search.space.settings import Value
from tlm_search.study.record import CONFIRMATION, StudyRecord, TrialRecord

FRESH_MEMBERS = 4  # that are trained at least: intervals of fewer hold the truth less than 92 times in 100
FEW_MEMBERS = 2  # of a reference that is confirmed: with more its own members tell how much others differ
MOST_OF_STUDY = 0.1  # of its training seconds, that a confirmation may take where the space does not say


@dataclass(frozen=True)
class Confirmation:
    """A committee of ``size`` members of the trial ``number`` (-1: the reference), to be trained with fresh seeds.

    ``settings`` are complete. ``seconds`` are those of training, as the study recorded them for its own members.
    """

    number: int
    size: int
    settings: Mapping[str, Value]
    seconds: float

    @property
    def note(self) -> str:
        """The attribute of the study that keeps the result."""
        return f"{CONFIRMATION} {self.number} {self.size}"


def confirmations(record: StudyRecord) -> list[Confirmation]:
    """Return what confirms the choice of a study: the best committee, and a reference of few models.

    Of a smaller committee four members are trained, since fewer say little about others.
    """
    best = pool_of(record.trials, record.reference, constraints=record.space.constraints).best()
    if not best:
        return []
    chosen, members = best[0], max(best[0].size, FRESH_MEMBERS)
    settings = {**chosen.trial.settings, "committee_size": members}
    seconds = (chosen.training_seconds or 0.0) * members / chosen.size
    wanted = [Confirmation(chosen.trial.number, chosen.size, settings, seconds)]
    reference = record.reference
    if reference is not None and reference.state == "complete" and len(reference.members) <= FEW_MEMBERS:
        seconds = reference.metrics.get("training_seconds", 0.0)
        wanted.append(Confirmation(reference.number, len(reference.members), reference.settings, seconds))
    return wanted


def training_seconds(record: StudyRecord) -> float:
    """Return the seconds of training all members that the study trained itself, the tries of its reference included.

    A pre-training that several members share counts with each of them, as it does in all that the study records.
    """
    return sum(map(_own_seconds, record.everything_searched))


def _own_seconds(trial: TrialRecord) -> float:
    members = trial.trained + trial.reused
    return trial.metrics.get("training_seconds", 0.0) * trial.trained / members if members else 0.0


class Confirmations:
    """The confirmations that a run makes, once the search is over and they are planned; ``notes`` are the study's."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._left: list[Confirmation] = []
        self._running: dict[int, Confirmation] = {}
        self._deaths: dict[int, int] = {}

    @property
    def unfinished(self) -> int:
        """How many run or are left."""
        return len(self._left) + len(self._running)

    def plan(self, record: StudyRecord) -> list[Confirmation]:
        """Return what the space asks for, or what is cheap where it does not say, unless the study has it already."""
        left = [confirmation for confirmation in confirmations(record) if self._notes.noted(confirmation.note) is None]
        cheap = sum(entry.seconds for entry in left) <= MOST_OF_STUDY * training_seconds(record)
        self._left = left if record.space.confirm or (record.space.confirm is None and cheap) else []
        return self._left

    def begin(self) -> Confirmation | None:
        """Take the next one; None where none is left."""
        if not self._left:
            return None
        confirmation = self._left.pop(0)
        self._running[confirmation.number] = confirmation
        return confirmation

    def put_back(self, number: int) -> None:
        """Make one that was interrupted the next one again."""
        self._left.insert(0, self._running.pop(number))

    def deaths(self, number: int) -> int:
        """Count one more worker that died in one; return their number in this run."""
        self._deaths[number] = self._deaths.get(number, 0) + 1
        return self._deaths[number]

    def end(self, number: int, attributes: Mapping[str, Any] | None) -> None:
        """Note the result of one; None where it failed: the next run tries it again."""
        confirmation = self._running.pop(number)
        if attributes is not None:
            of = {"trial": confirmation.number, "size": confirmation.size}
            self._notes.note(confirmation.note, {**of, **attributes})
