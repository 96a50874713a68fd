"""The surroundings of a trial, which are sent to Ray's workers once. No Ray here."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tlm_search
from tlm_search.committee.metrics import ACCURACY, Metric
from tlm_search.members.trainer import Trainer


@dataclass(frozen=True)
class Code:
    """The code of this package that a process runs: its ``host``, its ``folder``, its sha256."""

    host: str
    folder: str
    sha256: str

    @classmethod
    def here(cls) -> Code:
        """Return the code of this process."""
        folder, digest = Path(tlm_search.__file__).resolve().parent, hashlib.sha256()
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
        return cls(socket.gethostname(), str(folder), digest.hexdigest())

    def is_that_of(self, other: Code) -> bool:
        """Return whether two processes run the same code: the same files, or equal ones elsewhere."""
        return (self.host, self.folder) == (other.host, other.folder) or self.sha256 == other.sha256


@dataclass(frozen=True)
class Workplace:
    """What a worker needs in addition to the trial's settings: paths and facts, small enough to send.

    ``identity`` is the store's name. ``prunes`` says whether trials may stop before their last members.
    ``make_trainer`` takes the ``gpus`` of a worker. If the studies are at a ``url``, which may contain a secret, the
    paths are those of the driver's machine, and a worker has its own copies. ``metric`` is the task's metric. ``code``
    is that of the driver.
    """

    seed: int
    data: Mapping[str, Any]
    store: Path
    identity: str | None
    logs: Path
    prunes: bool
    make_trainer: Callable[..., Trainer]
    url: str | None = field(default=None, repr=False)
    metric: Metric = ACCURACY
    code: Code = field(default_factory=Code.here)
