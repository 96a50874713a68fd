"""Where a trial works: what travels to Ray's workers once. No Ray here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlm_search.members.train import Trainer


@dataclass(frozen=True)
class Workplace:
    """What a worker needs besides the trial's settings: paths and facts, small enough to travel."""

    seed: int
    data: Mapping[str, Any]
    store: Path
    logs: Path
    make_trainer: Callable[[], Trainer]
