"""The confirmation of a study: its chosen committee trained once more with fresh seeds. No Ray, no Optuna.

The search takes the committee that is best on validation, and among equal ones that is the luckiest. Its members are
then tested, so their test accuracy is too high as well, and an interval that ignores the choice covers too little. No
choice has seen members with fresh seeds. A reference of one or two models is confirmed too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tlm_search.committee.pool import pool_of
from tlm_search.search.reference_tries import Notes
from tlm_search.space.settings import Value
from tlm_search.study.record import CONFIRMATION, StudyRecord, TrialRecord

FRESH_MEMBERS = 4  # trained at least; with fewer, intervals contain the truth in less than 92% of cases
FEW_MEMBERS = 2  # in a confirmed reference; with more, its own members show how much others differ
MOST_OF_STUDY = 0.1  # of the study's training seconds; a confirmation may take this much by default


@dataclass(frozen=True)
class Confirmation:
    """A committee of ``size`` members of the trial ``number`` (-1: the reference), to be trained with fresh seeds.

    ``settings`` are complete. ``seconds`` estimates the training from the recorded times of the searched members.
    """

    number: int
    size: int
    settings: Mapping[str, Value]
    seconds: float

    @property
    def note(self) -> str:
        """The attribute of the study with the result."""
        return f"{CONFIRMATION} {self.number} {self.size}"


def confirmations(record: StudyRecord) -> list[Confirmation]:
    """Return the confirmations of a study: the best committee, and a reference of few models.

    At least four members are trained, because fewer say little about others.
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
    """Return the seconds of training all members that the study trained, including tries of the reference.

    A pre-training that several members share counts for each of them, as in all records of the study.
    """
    return sum(map(_own_seconds, record.everything_searched))


def _own_seconds(trial: TrialRecord) -> float:
    members = trial.trained + trial.reused
    return trial.metrics.get("training_seconds", 0.0) * trial.trained / members if members else 0.0


class Confirmations:
    """The confirmations of a run, which are planned after the search; ``notes`` are the study's."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._left: list[Confirmation] = []
        self._running: dict[int, Confirmation] = {}
        self._deaths: dict[int, int] = {}

    @property
    def unfinished(self) -> int:
        """The number of confirmations that run or are left."""
        return len(self._left) + len(self._running)

    def plan(self, record: StudyRecord) -> list[Confirmation]:
        """Plan the confirmations that the study lacks, if the space asks for them, or by default if they are cheap."""
        left = [confirmation for confirmation in confirmations(record) if self._notes.noted(confirmation.note) is None]
        cheap = sum(entry.seconds for entry in left) <= MOST_OF_STUDY * training_seconds(record)
        self._left = left if record.space.confirm or (record.space.confirm is None and cheap) else []
        return self._left

    def begin(self) -> Confirmation | None:
        """Take the next confirmation; None if none is left."""
        if not self._left:
            return None
        confirmation = self._left.pop(0)
        self._running[confirmation.number] = confirmation
        return confirmation

    def put_back(self, number: int) -> None:
        """Make an interrupted confirmation the next one again."""
        self._left.insert(0, self._running.pop(number))

    def deaths(self, number: int) -> int:
        """Count one more dead worker of a confirmation; return their number in this run."""
        self._deaths[number] = self._deaths.get(number, 0) + 1
        return self._deaths[number]

    def end(self, number: int, attributes: Mapping[str, Any] | None) -> None:
        """Note the result of a confirmation. None means that it failed; the next run tries it again."""
        confirmation = self._running.pop(number)
        if attributes is not None:
            of = {"trial": confirmation.number, "size": confirmation.size}
            self._notes.note(confirmation.note, {**of, **attributes})
