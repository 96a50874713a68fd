"""Where a trial works: what travels to Ray's workers once. No Ray here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlm_search.members.store import Store
from tlm_search.members.train import Trainer
from tlm_search.remote.mount import remote_at


@dataclass(frozen=True)
class Home:
    """Where the studies are, if at a URL, and the name that their store has there; the URL may hold a secret."""

    url: str = field(repr=False)
    identity: str

    @classmethod
    def of(cls, store: Store) -> Home | None:
        """Return that of ``store``; None where it is a folder that all nodes share."""
        remote = remote_at(store.root.parent)
        identity = store.identity()
        return None if remote is None or identity is None else cls(remote.url, identity)


@dataclass(frozen=True)
class Workplace:
    """What a worker needs besides the trial's settings: paths and facts, small enough to travel.

    ``make_trainer`` takes the ``gpus`` of a worker. With a ``home`` the paths are those of the driver's machine; a
    worker has copies of its own.
    """

    seed: int
    data: Mapping[str, Any]
    store: Path
    logs: Path
    make_trainer: Callable[..., Trainer]
    home: Home | None = None
