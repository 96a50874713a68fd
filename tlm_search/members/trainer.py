"""What trains members: the protocol of a trainer, and what it returns and tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tlm_search.data.prepared import PreparedData
from tlm_search.members.spec import MemberSpec
from tlm_search.store.local import Arrays, Store

KIND, LINEAR = "members", "linear"  # of entries of the store: members, and the linear models of hybrids
COUNTING, PRETRAINING, FINETUNING = "counting words", "pre-training", "fine-tuning"  # as people are told of them
MICRO_BATCHES = 4  # into which each batch is split after the memory was too small for a whole one


@dataclass(frozen=True)
class TrainedMember:
    """A member that was just trained, as the store keeps it; ``tokens`` were processed for it now."""

    spec: MemberSpec
    document: Mapping[str, Any]
    arrays: Arrays
    tokens: int


@dataclass(frozen=True)
class Step:
    """How far one training of the members with these ``seeds`` is: ``update`` of ``updates``, ``tokens`` up to now.

    Without updates its ``phase`` only begins.
    """

    phase: str
    seeds: Sequence[int]
    update: int
    updates: int
    tokens: int


Tell = Callable[[Step], None]


def silent(step: Step) -> None:
    """Report nothing."""


class Trainer(Protocol):
    """Whatever turns specs into members: the real engine, a simulation, or a class of the user behind `OwnMembers`.

    ``tell`` hears of each update. ``identity`` is in the digest of a member; it is empty for those of this package.
    """

    tell: Tell

    @property
    def identity(self) -> str: ...  # noqa: D102

    def stack(self, spec: MemberSpec) -> int:
        """Return how many members such as ``spec`` are trained at once."""
        ...

    def peak_gb(self) -> float:
        """Return the most memory that training took so far, in GB: of the process, or of the GPU; 0 is unknown."""
        ...

    def train(self, specs: Sequence[MemberSpec], *, store: Store, data: PreparedData) -> tuple[TrainedMember, ...]:
        """Train the members of ``specs``, which differ only in their seeds.

        Raises:
            TrainingError: a member could not be trained.
        """
        ...

    def fit_linear(self, spec: MemberSpec, *, store: Store, data: PreparedData) -> tuple[Mapping[str, Any], Arrays]:
        """Return the document and the arrays of the linear model of a hybrid, as the store keeps them."""
        ...

    def labels(self, data: PreparedData) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the true labels of the validation and of the test split."""
        ...

    def corpus_fingerprint(self, data: PreparedData, documents: int) -> str:
        """Name the first ``documents`` texts of the corpus by their tokens."""
        ...

    def latency_ms(self, spec: MemberSpec, *, members: int, store: Store) -> float:
        """Return the median milliseconds that ``members`` such as ``spec`` together take for a text of full length.

        Of hybrids the linear model, which the store has, answers once.
        """
        ...
