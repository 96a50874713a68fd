"""Checkpoints of a long training, in a single file with its sha256 in its name.

A checkpoint holds the weights, the optimiser's moments, the order of the texts and all random states. On a CPU a
training that continues from a checkpoint ends with the same bits as an uninterrupted training. A GPU sums gradients in
a different order each time, so results differ as between any two runs. A damaged file is ignored. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tlm_search.files import beside, put
from tlm_search.training.batches import BatchSampler

_PATTERN = "checkpoint-*.safetensors"
_ORDER = "order"
_MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")  # of AdamW and Muon


@dataclass
class Snapshot:
    """The state that ``engine.train`` changes from update to update."""

    weights: Mapping[str, Tensor]
    parameters: Mapping[str, Tensor]
    optimiser: torch.optim.Optimizer
    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0


class Checkpointer(Protocol):
    """Saves and restores a training; ``engine.train`` calls it after each update."""

    def restore(self, snapshot: Snapshot) -> None:
        """Set ``snapshot`` to the saved state if it exists."""
        ...

    def is_due(self) -> bool:
        """Return whether it is time to save."""
        ...

    def save(self, snapshot: Snapshot) -> None:
        """Save the snapshot."""
        ...


# Creates the checkpointer of a training from its sources of random numbers: sampler and dropout generators.
MakeCheckpointer = Callable[[BatchSampler, Sequence[torch.Generator]], Checkpointer]


class Checkpoint:
    """The checkpoint of a training below ``folder``, written about every ``seconds``.

    ``key`` names the training; checkpoints of other trainings are ignored. ``facts`` are stored with it, see
    ``saved_facts``. The training draws random numbers from ``sampler`` and the generators ``dropouts``; ``restore``
    sets their states. ``saved`` is called after each new checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        *,
        key: Sequence[str],
        facts: Mapping[str, str],
        seconds: float,
        sampler: BatchSampler,
        dropouts: Sequence[torch.Generator] = (),
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.key, self.facts, self.seconds = folder, list(key), dict(facts), seconds
        self.sampler, self.dropouts, self.saved = sampler, dropouts, saved
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Return whether ``seconds`` have passed since the last checkpoint."""
        return time.monotonic() - self._last >= self.seconds

    def save(self, snapshot: Snapshot) -> None:
        """Replace the checkpoint by ``snapshot``. If the disk is full, training continues without a new checkpoint."""
        states = {name: snapshot.optimiser.state[value] for name, value in snapshot.parameters.items()}
        tensors = {
            **{f"weights.{name}": value for name, value in snapshot.weights.items()},
            **{
                f"{moment}.{name}": state[moment]
                for name, state in states.items()
                for moment in _MOMENTS
                if moment in state
            },
            **{f"dropout.{index}": generator.get_state() for index, generator in enumerate(self.dropouts)},
            "losses": torch.stack(snapshot.losses),
            _ORDER: torch.from_numpy(self.sampler.order),
        }
        facts = {
            "key": self.key,
            **self.facts,
            "seconds": snapshot.seconds,
            "epoch": self.sampler.epoch,
            "next": self.sampler.next,
            "generators": [generator.bit_generator.state for generator in self.sampler.generators],
        }
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with suppress(OSError, SafetensorError):
            self._replace(contiguous, {"facts": json.dumps(facts)})
            self.saved()
        self._last = time.monotonic()

    def restore(self, snapshot: Snapshot) -> None:
        """Set ``snapshot``, sampler and generators to the saved state if it exists."""
        for path in self.folder.glob(_PATTERN):
            with suppress(OSError, SafetensorError):
                if _sha256(path) == path.stem.removeprefix("checkpoint-"):
                    facts = _facts(path)
                    if facts["key"] == self.key:
                        self._set(snapshot, load_file(path), facts)
                        return

    def _set(self, snapshot: Snapshot, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        snapshot.losses[:] = list(tensors["losses"].to(next(iter(snapshot.weights.values())).device))
        snapshot.seconds = facts["seconds"]
        with torch.no_grad():
            for name, value in snapshot.weights.items():
                value.copy_(tensors[f"weights.{name}"])
        for name, value in snapshot.parameters.items():
            kept = {moment: tensors.get(f"{moment}.{name}") for moment in _MOMENTS}
            # Copy the moments, because they are mapped from the file, which the next checkpoint removes.
            moments = {moment: state.to(value.device, copy=True) for moment, state in kept.items() if state is not None}
            step = {"step": torch.tensor(float(len(snapshot.losses)), device=value.device)}
            snapshot.optimiser.state[value] = {**(step if "exp_avg" in moments else {}), **moments}
        for index, dropout in enumerate(self.dropouts):
            dropout.set_state(tensors[f"dropout.{index}"])
        for order, state in zip(self.sampler.generators, facts["generators"], strict=True):
            order.bit_generator.state = state
        self.sampler.epoch, self.sampler.next = facts["epoch"], facts["next"]
        self.sampler.order = np.array(tensors[_ORDER].numpy())

    def _replace(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        older = list(self.folder.glob(_PATTERN))
        with beside(self.folder / "checkpoint") as unfinished:
            # Write the tensors directly, because a copy in memory would be as large as the training.
            save_file(tensors, unfinished, metadata)
            new = self.folder / f"checkpoint-{_sha256(unfinished)}.safetensors"
            put(unfinished, new)
        for path in older:
            if path != new:
                path.unlink(missing_ok=True)


def saved_facts(folder: Path) -> dict[str, Any]:
    """Return the facts of the checkpoint in ``folder``, or an empty mapping. Only the header is read."""
    for path in folder.glob(_PATTERN):
        with suppress(OSError, ValueError, KeyError):
            return _facts(path)
    return {}


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        facts: dict[str, Any] = json.loads(json.loads(file.read(size))["__metadata__"]["facts"])
    return facts


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
