"""Where a trial works: what travels to Ray's workers once. No Ray here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlm_search.committee.metrics import ACCURACY, Metric
from tlm_search.members.train import Trainer


@dataclass(frozen=True)
class Workplace:
    """What a worker needs besides the trial's settings: paths and facts, small enough to travel.

    ``identity`` is the store's name. ``prunes`` says whether trials may be stopped before their last members.
    ``make_trainer`` takes the ``gpus`` of a worker. Where the studies are at a ``url``, which may hold a secret, the
    paths are those of the driver's machine; a worker has copies of its own. ``metric`` is what the task is judged by.
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
