"""The protocol of a trainer, its results and its reports of progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tlm_search.data.prepared import PreparedData
from tlm_search.members.spec import MemberSpec
from tlm_search.store.local import Arrays, Store

KIND, LINEAR = "members", "linear"  # kinds of store entries: members, and the linear models of hybrids
COUNTING, PRETRAINING, FINETUNING = "counting words", "pre-training", "fine-tuning"  # as progress names them
MICRO_BATCHES = 4  # parts of each batch after memory ran out


@dataclass(frozen=True)
class TrainedMember:
    """A newly trained member in the form of the store; ``tokens`` is the number of tokens processed for it."""

    spec: MemberSpec
    document: Mapping[str, Any]
    arrays: Arrays
    tokens: int


@dataclass(frozen=True)
class Step:
    """The progress of training the members with ``seeds``: ``update`` of ``updates``, and ``tokens`` so far.

    With ``updates`` 0 the ``phase`` has just begun.
    """

    phase: str
    seeds: Sequence[int]
    update: int
    updates: int
    tokens: int


Tell = Callable[[Step], None]


def silent(step: Step) -> None:
    """Ignore a step: the default of ``tell``, for a caller that wants no progress."""


class Trainer(Protocol):
    """Turns specs into members: the real engine, a simulation, or a class of the user behind `OwnMembers`.

    ``tell`` is called with each update. ``identity`` is part of a member's digest, and empty for trainers of this
    package. Memory and latency are questions to the trainer, because only it knows the device.
    """

    tell: Tell

    @property
    def identity(self) -> str: ...  # noqa: D102

    def stack(self, spec: MemberSpec) -> int:
        """Return how many members like ``spec`` are trained at once."""
        ...

    def peak_gb(self) -> float:
        """Return the peak memory of training so far in GB, of the process or the GPU; 0 if unknown."""
        ...

    def train(self, specs: Sequence[MemberSpec], *, store: Store, data: PreparedData) -> tuple[TrainedMember, ...]:
        """Train the members of ``specs``, which differ only in their seeds.

        Raises:
            TrainingError: a member could not be trained.
        """
        ...

    def fit_linear(self, spec: MemberSpec, *, store: Store, data: PreparedData) -> tuple[Mapping[str, Any], Arrays]:
        """Return the document and the arrays of a hybrid's linear model for the store."""
        ...

    def latency_ms(self, spec: MemberSpec, *, members: int, store: Store) -> float:
        """Return the median milliseconds that a committee of ``members`` like ``spec`` takes for a text of full length.

        The linear model of hybrids, which the store has, answers once.
        """
        ...
