"""What the driver and its workers send each other. No Optuna here, which workers do not need."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from tlm_search.space.settings import Value
from tlm_search.study.record import REFERENCE_NUMBER

ENVIRONMENT = (
    "workers need the Python packages of the driver, from the same folders: check PYTHONPATH and the working folder"
)
FRESH_SEED = 2**32  # added to the seed of a study; spaces do not allow such seeds, so no trial has these members


@dataclass(frozen=True)
class Job:
    """A trial, a try of the reference, or a confirmation that a worker runs. Only a trial has a ``number``.

    ``settings`` are complete. A worker that is ``helping`` trains members that no worker has begun. To leave some for
    it, the job trains its members in this number of ``chunks``. ``attempt`` names this attempt at the job, including
    the work of its helpers. The reference has ``reference_tries``, of which this is number ``reference_try``, from 1. A
    confirmation trains committees of the trial that it ``confirms`` (-1: the reference) with fresh seeds.
    """

    number: int | None
    settings: Mapping[str, Value]
    chunks: int = 1
    helping: bool = False
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)
    reference_try: int = 1
    reference_tries: int = 1
    confirms: int | None = None

    def seed(self, study: int) -> int:
        """Return the seed from which the job's members are numbered, for the seed ``study`` of the study."""
        return study if self.confirms is None else study + FRESH_SEED

    @property
    def title(self) -> str:
        """The job's name in messages and log files."""
        name = self._others if self.number is None else f"trial {self.number}"
        return f"helper of {name}" if self.helping else name

    @property
    def _others(self) -> str:
        if self.confirms is not None:
            whose = "the reference" if self.confirms == REFERENCE_NUMBER else f"trial {self.confirms}"
            return f"confirmation of {whose}"
        return "reference" if self.reference_tries == 1 else f"reference {self.reference_try} of {self.reference_tries}"


@dataclass(frozen=True)
class Failure:
    """The reason why a trial failed. ``of_user``: no other trial would do better (a full disk), so the study stops."""

    reason: str
    hint: str | None = None
    of_user: bool = False
