"""Group the configurations of a study by architecture and size of pre-training, which the claims compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.candidates import Trial, candidates, configurations
from tlm_search.committee.metrics import contributions_of_votes, largest_contribution
from tlm_search.committee.vote import softmax
from tlm_search.digest import canonical_json
from tlm_search.report.evidence import Evidence
from tlm_search.report.formatting import describe, pretraining_words
from tlm_search.report.privacy import source_name
from tlm_search.space.settings import SETTINGS
from tlm_search.study.record import TrialRecord

Contributions = NDArray[np.float64]


class Families:
    """The configurations of one architecture as a family: at each size of pre-training the best on validation.

    The validation metric of single members chooses the other settings, such as learning rates, separately for each
    size. ``by_shape`` maps architectures to families; its keys are the same in every study.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.record = evidence.record
        families: dict[str, dict[int, TrialRecord]] = {}
        for trial in sorted(self._trials(), key=alone):  # the best comes last
            families.setdefault(_family(trial), {})[_pretrain_size(trial)] = trial
        self.by_shape = families

    @property
    def families(self) -> list[dict[int, TrialRecord]]:
        """All families, in no particular order."""
        return list(self.by_shape.values())

    def _trials(self) -> list[TrialRecord]:
        reference = self.record.reference
        more = [reference] if reference is not None and reference.state == "complete" and reference.frontier else []
        return [*configurations(self.record.trials), *more]

    def contributions(self, trial: Trial) -> Contributions | None:
        """Return the contribution of each test row to each member's metric, (members, rows); None without logits.

        The mean over the rows is the metric of the task. For accuracy a contribution is 1 if the member is right, else
        0.
        """
        votes = self.evidence.logits_of(trial)
        return None if votes is None else contributions_of_votes(softmax(votes.test), votes.test_labels, votes.metric)

    def largest(self, trial: Trial) -> float:
        """Return the largest contribution of a test row to the metric of a ``trial`` with logits."""
        votes = self.evidence.logits_of(trial)
        assert votes is not None
        return largest_contribution(votes.metric, votes.test_labels)

    def depth_of_reference(self) -> float:
        """Return the depth of the reference; infinite without one."""
        reference = self.record.reference
        return float("inf") if reference is None else float(reference.settings.get("depth", float("inf")))

    def words(self, trial: Trial, *, sizes: Iterable[int] = ()) -> str:
        """Write the architecture, the pre-training (of these ``sizes``, or that of the trial) and the task."""
        names = ["depth", "width", *(["convolution_layers"] if trial.settings.get("convolution_layers") else [])]
        given = list(sizes) or [_pretrain_size(trial)]
        return f"{describe(trial.settings, names)}, {pretraining_words(trial.settings, given)}; {self.task}"

    @property
    def task(self) -> str:
        """The task in words: source, labels, texts."""
        section = self.record.space.task
        rows = self.record.data.get("rows", {})
        trained = f"{rows.get('train', 0):,} training texts"
        if section.train_per_label is not None:
            trained = f"{section.train_per_label:,} texts each"
        source = source_name(section.source)
        return f"{source}: {len(self.record.labels)} labels, {trained}, {rows.get('test', 0):,} test texts"


def widest(families: Sequence[dict[int, TrialRecord]]) -> dict[int, TrialRecord] | None:
    """Return the family with the most sizes of pre-training; the best member on validation breaks ties."""
    return max(families, key=lambda f: (len(f), max(alone(trial) for trial in f.values())), default=None)


def differing(first: TrialRecord, second: TrialRecord) -> list[str]:
    """Return the settings of the architecture in which two configurations differ."""
    return [name for name in _shape_names() if first.settings.get(name) != second.settings.get(name)]


def alone(trial: TrialRecord) -> float:
    """Return the metric of a single member on validation."""
    return candidates(trial)[0].validation_metric


def _family(trial: TrialRecord) -> str:
    return canonical_json({name: trial.settings.get(name) for name in _shape_names()})


def _shape_names() -> list[str]:
    return [name for name, setting in SETTINGS.items() if setting.part in ("tokens", "architecture")]


def _pretrain_size(trial: Trial) -> int:
    return int(trial.settings.get("pretrain_size", 0))
