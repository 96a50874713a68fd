"""What the store adds to a study's trials: logits for paired comparisons, and losses of pre-training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.candidates import Trial, configurations
from tlm_search.committee.logits import MemberLogits
from tlm_search.committee.metrics import metric_of
from tlm_search.data.overlap import count_task, count_tokens, token_share, type_share
from tlm_search.data.prepare import changed_sources
from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import open_tokenizer
from tlm_search.errors import StoreError
from tlm_search.members.baseline import KIND as BASELINES
from tlm_search.members.trainer import KIND
from tlm_search.store.local import Entry, Store
from tlm_search.study.record import BaselineRecord, StudyRecord, TrialRecord

MAX_TRIED = 20  # configurations whose first member is read for the provenance
MAX_COUNTED = 100_000_000  # tokens; counting more makes the reader of a report wait
MAX_CACHED = 12  # committees whose logits are held in memory

Labels = tuple[NDArray[np.integer], NDArray[np.integer]]


@dataclass(frozen=True)
class Evidence:
    """Reads the members of the trials of ``record`` from ``store``. Missing members never raise an error."""

    record: StudyRecord
    store: Store | None

    def logits_of(self, trial: Trial) -> MemberLogits | None:
        """Return the logits of all members of ``trial``; None if a member or the labels are missing.

        The last ``MAX_CACHED`` results are cached, because a report asks for the same few again and again.
        """
        if not isinstance(trial, TrialRecord):
            return None
        cache = self._cached_logits
        kind = BASELINES if isinstance(trial, BaselineRecord) else KIND
        votes = cache.pop(trial.members) if trial.members in cache else self._read_logits(trial, kind)
        cache[trial.members] = votes
        if len(cache) > MAX_CACHED:
            del cache[next(iter(cache))]
        return votes

    def changed_sources(self) -> list[str]:
        """Return the sources of the data that have changed since the study began."""
        return [] if self.store is None else changed_sources(self.record.data, self.store.root)

    def pretraining_loss(self, trial: TrialRecord) -> float | None:
        """Return the last masked-language-model loss, in nats, of the first member; None without pre-training."""
        entry = self._member(trial.members[0]) if trial.members else None
        course = None if entry is None else entry.document.get("pretraining")
        losses = [] if course is None else course.get("losses", [])
        return float(losses[-1][1]) if losses else None

    def test_texts(self, rows: Iterable[int]) -> dict[int, str]:
        """Return these test texts as members saw them: the stored tokens, decoded. Empty if the tokens are missing.

        Where configurations have different lengths, the texts are those of the greatest length.
        """
        if self._data is None or not self.record.space.reads_data:
            return {}
        try:
            data = max(self._data.all(), key=lambda each: each.length)
            tokens, tokenizer = TokenArray.open(data.folder("test")), open_tokenizer(data.folder("tokenizer"))
            return {row: tokenizer.decode([int(token) for token in tokens[row]]) for row in rows}
        except Exception:  # tokenizers raises no narrower error, and texts are optional
            return {}

    def overlaps(self, sizes: Iterable[int]) -> dict[int, tuple[float, float]]:
        """Return for each number of first documents the shares of the task's types and tokens that they contain.

        Where configurations have different tokenizers, the tokens are those of the study's first tokenizer.
        It is empty if the tokens are missing or more than ``MAX_COUNTED``.
        """
        data = self._data
        if data is None or data.corpus is None or not self.record.space.reads_data:
            return {}
        try:
            corpus = TokenArray.open(data.folder("corpus"))
            task = [TokenArray.open(data.folder(split)) for split in ("train", "validation", "test")]
        except StoreError:
            return {}
        wanted = sorted({size for size in sizes if 0 < size <= len(corpus)})
        if not wanted or int(corpus.offsets[wanted[-1]]) > MAX_COUNTED:
            return {}
        of_task = count_task(task, vocabulary=data.vocabulary, special=data.special)
        found = {}
        for size in wanted:
            seen = count_tokens(corpus.prefix(size).ids, vocabulary=data.vocabulary, special=data.special.values())
            found[size] = (type_share(of_task, seen), token_share(of_task, seen))
        return found

    def provenance(self) -> Mapping[str, Any]:
        """Return versions, revision and machine, from the first member that can be read."""
        for trial in configurations(self.record.trials)[:MAX_TRIED]:
            entry = self._member(trial.members[0]) if trial.members else None
            if entry is not None:
                return {
                    key: entry.document[key] for key in ("versions", "revision", "machine") if key in entry.document
                }
        return {}

    def _read_logits(self, trial: TrialRecord, kind: str) -> MemberLogits | None:
        if self._labels is None or not trial.members:
            return None
        logits = []
        for digest in trial.members:
            entry = self._member(digest, kind)
            if entry is None:
                return None
            logits.append(entry.arrays("logits"))
        validation, test = (np.stack([arrays[split] for arrays in logits]) for split in ("validation", "test"))
        validation_labels, test_labels = self._labels
        if (validation.shape[1], test.shape[1]) != (len(validation_labels), len(test_labels)):
            return None
        metric = metric_of(self.record.space.task, self.record.labels)
        biases = {scores.size: scores.bias for scores in trial.frontier if scores.bias}
        return MemberLogits(validation, test, validation_labels, test_labels, metric, biases)

    @cached_property
    def _cached_logits(self) -> dict[tuple[str, ...], MemberLogits | None]:
        return {}

    @cached_property
    def _data(self) -> PreparedData | None:
        if self.store is None or not self.record.data:
            return None
        try:
            return PreparedData.from_document(self.record.data, self.store.root)
        except (TypeError, KeyError):  # written by another version
            return None

    @cached_property
    def _labels(self) -> Labels | None:
        data = self._data
        if data is None:
            return None
        try:
            return data.true_labels("validation"), data.true_labels("test")
        except (OSError, ValueError):  # the data were removed
            return None

    def _member(self, digest: str, kind: str = KIND) -> Entry | None:
        if self.store is None:
            return None
        try:
            return self.store.read(kind, digest)
        except (StoreError, ValueError):
            return None
