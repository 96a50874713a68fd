"""What a study's store knows beyond its trials: logits for paired comparisons, and losses of pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.candidates import Trial, configurations
from tlm_search.committee.select import Votes
from tlm_search.data.prepared import PreparedData
from tlm_search.errors import StoreError
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.members.store import Entry, Store
from tlm_search.members.train import KIND
from tlm_search.search.record import StudyRecord, TrialRecord

MAX_TRIED = 20
MAX_KEPT = 12  # committees whose logits stay in memory

Labels = tuple[NDArray[np.integer], NDArray[np.integer]]


@dataclass(frozen=True)
class Evidence:
    """Reads the members of the trials of ``record`` from ``store``; what is missing there is None, never an error."""

    record: StudyRecord
    store: Store | None

    def votes_of(self, trial: Trial) -> Votes | None:
        """Return the logits of all members of ``trial``; None where a member or the labels are not at hand.

        The last ``MAX_KEPT`` are kept, because a report asks for the same few again and again.
        """
        if not isinstance(trial, TrialRecord):
            return None
        kept = self._kept
        votes = kept.pop(trial.members) if trial.members in kept else self._read_votes(trial.members)
        kept[trial.members] = votes
        if len(kept) > MAX_KEPT:
            del kept[next(iter(kept))]
        return votes

    def pretraining_loss(self, trial: TrialRecord) -> float | None:
        """Return the last masked-language-model loss, in nats, of the first member; None without pre-training."""
        entry = self._member(trial.members[0]) if trial.members else None
        course = None if entry is None else entry.document.get("pretraining")
        losses = [] if course is None else course.get("losses", [])
        return float(losses[-1][1]) if losses else None

    def provenance(self) -> Mapping[str, Any]:
        """Return versions, revision and machine as the first member that is at hand has them."""
        for trial in configurations(self.record.trials)[:MAX_TRIED]:
            entry = self._member(trial.members[0]) if trial.members else None
            if entry is not None:
                return {
                    key: entry.document[key] for key in ("versions", "revision", "machine") if key in entry.document
                }
        return {}

    def _read_votes(self, members: tuple[str, ...]) -> Votes | None:
        if self._labels is None or not members:
            return None
        logits = []
        for digest in members:
            entry = self._member(digest)
            if entry is None:
                return None
            logits.append(entry.arrays("logits"))
        validation, test = (np.stack([arrays[split] for arrays in logits]) for split in ("validation", "test"))
        validation_labels, test_labels = self._labels
        if (validation.shape[1], test.shape[1]) != (len(validation_labels), len(test_labels)):
            return None
        return Votes(validation, test, validation_labels, test_labels)

    @cached_property
    def _kept(self) -> dict[tuple[str, ...], Votes | None]:
        return {}

    @cached_property
    def _labels(self) -> Labels | None:
        if self.store is None or not self.record.data:
            return None
        try:
            data = PreparedData.from_document(self.record.data, self.store.root)
            if self.record.space.trainer == "simulated":
                return SimulatedTrainer().labels(data)
            validation, test = (np.load(data.folder(split) / "labels.npy") for split in ("validation", "test"))
        except (OSError, TypeError, KeyError, ValueError):  # facts of another version, or data that was removed
            return None
        return validation, test

    def _member(self, digest: str) -> Entry | None:
        if self.store is None:
            return None
        try:
            return self.store.read(KIND, digest)
        except (StoreError, ValueError):
            return None
