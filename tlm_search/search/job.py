"""What travels between the driver and what runs its trials. Without Optuna, which workers have no use for."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from tlm_search.space.settings import Value


@dataclass(frozen=True)
class Job:
    """What to run next: complete settings; ``number`` is None for the reference.

    Who is ``helping`` only trains members of it that nobody has begun; so that there are some, it is done in ``parts``.
    ``attempt`` names this one try at it, with all who help.
    """

    number: int | None
    settings: Mapping[str, Value]
    parts: int = 1
    helping: bool = False
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def title(self) -> str:
        """The job's name in messages and log files."""
        name = "reference" if self.number is None else f"trial {self.number}"
        return f"helper of {name}" if self.helping else name


@dataclass(frozen=True)
class Failure:
    """Why a trial failed. ``of_user``: no other trial would do better (a full disk), so the study stops."""

    reason: str
    hint: str | None = None
    of_user: bool = False
