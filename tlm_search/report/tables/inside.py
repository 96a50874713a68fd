"""Tables about the members of a committee, from their logits: diversity, calibration, confusion, examples.

The committee is that of ``Choice``. Its members are the first ones of its trial, which ``export`` writes. All numbers
are of the test set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlm_search.committee.calibration import Calibration
from tlm_search.committee.choice import Choice
from tlm_search.committee.frontier import right_share
from tlm_search.committee.logits import SPLITS, MemberLogits, Split
from tlm_search.committee.metrics import contributions_of_votes
from tlm_search.committee.vote import (
    CALIBRATION_BINS,
    SMALLEST_PROBABILITY,
    accuracy,
    calibration_bin,
    calibration_error,
    cross_entropy,
    soft_vote,
    softmax,
)
from tlm_search.report.evidence import Evidence
from tlm_search.report.tables.tables import label_of
from tlm_search.study.record import StudyRecord, TrialRecord

MAX_CONFIGURATIONS = 6
MAX_CONFUSIONS = 10  # pairs of labels

_LABELS = ["label", "rows", "committee", "reference", "difference"]
_MEMBERS = ["trial", "configuration", "member", "digest", "metric", "validation_metric", "test_metric"]
_MEMBERS += ["validation_accuracy", "test_accuracy", "test_cross_entropy"]
_DIVERSITY = ["size", "disagreement", "member_cross_entropy", "cross_entropy", "ambiguity", "test_calibration_error"]
_CALIBRATION = ["committee", "size", "bin", "rows", "confidence", "accuracy", "calibration_error", "cross_entropy"]
_CONFUSION = ["label", "said", "committee", "reference", "share"]
_EXAMPLES = ["row", "text", "label", "committee_says", "committee_on_label", "reference_says", "reference_on_label"]


@dataclass(frozen=True)
class AnswerLogits:
    """The answers of committee and reference to the test rows.

    They are probabilities (members, rows, classes) and (rows, classes). ``logits`` are those of all members of the
    committee's trial. ``bias`` is added to the log-probabilities of committees of this size. The ``reference`` is
    calibrated.
    """

    logits: NDArray[np.floating]
    members: NDArray[np.float64]
    reference: NDArray[np.float64] | None
    labels: NDArray[np.integer]
    calibration: Calibration
    bias: NDArray[np.float64] | None

    @cached_property
    def committee(self) -> NDArray[np.float64]:
        """The committee's calibrated probabilities, (rows, classes)."""
        return self.calibration.of(self.members.mean(axis=0))


def logits_of(choice: Choice | None, evidence: Evidence) -> AnswerLogits | None:
    """Return the answers of the chosen committee and the reference; None without a choice or its logits."""
    ours = None if choice is None else evidence.logits_of(choice.candidate.trial)
    if choice is None or ours is None:
        return None
    theirs = None if choice.reference is None else evidence.logits_of(choice.reference.trial)
    size = choice.candidate.size
    return AnswerLogits(
        logits=ours.test,
        members=softmax(ours.test[:size]),
        reference=None if theirs is None else theirs.calibration(size=len(theirs.test)).of(soft_vote(theirs.test)),
        labels=ours.test_labels,
        calibration=ours.calibration(size=size),
        bias=ours.bias("test", size=size),
    )


def labels_table(record: StudyRecord, votes: AnswerLogits | None) -> pd.DataFrame:
    """Return the accuracy on each label, of the reference and as the mean over committees of the chosen size."""
    if votes is None or votes.reference is None:
        return pd.DataFrame(columns=_LABELS)
    share = right_share(votes.logits, votes.labels, size=len(votes.members), bias=votes.bias)
    right_reference = votes.reference.argmax(axis=-1) == votes.labels
    rows = []
    for index, name in enumerate(record.labels):
        of_label = votes.labels == index
        if of_label.any():
            committee, reference = float(share[of_label].mean()), float(right_reference[of_label].mean())
            rows.append((name, int(of_label.sum()), committee, reference, committee - reference))
    return pd.DataFrame(rows, columns=_LABELS)


def members_table(record: StudyRecord, trials: Sequence[TrialRecord], evidence: Evidence) -> pd.DataFrame:
    """Return the metrics of each single member of the ``trials``. Trials without logits are left out."""
    rows = []
    for trial in trials:
        votes = evidence.logits_of(trial)
        if votes is None:
            continue
        name = label_of(record, trial)
        for index in range(len(votes.test)):
            on_validation = accuracy(votes.validation[index], votes.validation_labels)
            on_test = accuracy(votes.test[index], votes.test_labels)
            entropy = float(_surprisal(softmax(votes.test[index]), votes.test_labels).mean())
            judged = (_alone(votes, split, index) for split in SPLITS)
            of = trial.number, name, index + 1, trial.members[index]
            rows.append((*of, votes.metric.name, *judged, on_validation, on_test, entropy))
    return pd.DataFrame(rows, columns=_MEMBERS)


def _alone(votes: MemberLogits, split: Split, member: int) -> float:
    """Return the metric of one member."""
    logits, labels = votes.of(split)
    return float(contributions_of_votes(softmax(logits[member : member + 1]), labels, votes.metric).mean())


def diversity_table(votes: AnswerLogits | None) -> pd.DataFrame:
    """Return for the committees of the first 1..K members how much they differ and what the vote gains.

    With p_i the probability that member i gives to the label of a row, the cross-entropy of the vote is

        -log mean_i p_i  =  mean_i -log p_i  -  log(mean_i p_i / geometric mean_i p_i)

    It is the members' mean cross-entropy minus the ``ambiguity``, which is never negative (Jensen) and 0 if all members
    agree. This is the decomposition of Krogh and Vedelsby (1995) for the log loss of a mean of probabilities, as in
    Wood et al. 2023, "A Unified Theory of Diversity in Ensemble Learning". All values are in nats, means over rows.
    ``disagreement`` is the share of rows on which two members name different labels, the mean over pairs.
    """
    rows = []
    for size in range(1, (0 if votes is None else len(votes.members)) + 1):
        assert votes is not None
        members = votes.members[:size]
        committee = members.mean(axis=0)
        alone = float(np.mean([_surprisal(member, votes.labels).mean() for member in members]))
        together = float(_surprisal(committee, votes.labels).mean())
        error = calibration_error(committee, votes.labels)
        rows.append((size, _disagreement(members), alone, together, alone - together, error))
    return pd.DataFrame(rows, columns=_DIVERSITY).astype({"disagreement": "float64"})


def calibration_table(votes: AnswerLogits | None) -> pd.DataFrame:
    """Return confidence and accuracy by bin of confidence for 1, 2, 4, ... members, before calibration.

    All members after calibration come last, then the reference after its own calibration.
    """
    rows: list[tuple[str, int, int, int, float, float, float, float]] = []
    if votes is not None:
        for size in _doublings(len(votes.members)):
            name = "1 member" if size == 1 else f"{size} members"
            rows += [(name, size, *bin_) for bin_ in _bins(votes.members[:size].mean(axis=0), votes.labels)]
        rows += [(f"{name}, calibrated", size, *bin_) for bin_ in _bins(votes.committee, votes.labels)]
        if votes.reference is not None:
            rows += [("reference, calibrated", 0, *bin_) for bin_ in _bins(votes.reference, votes.labels)]
    return pd.DataFrame(rows, columns=_CALIBRATION)


def confusion_table(record: StudyRecord, votes: AnswerLogits | None) -> pd.DataFrame:
    """Return how many rows of each label the committee and the reference take for each label.

    ``share`` is the committee's share of the rows of the label.
    """
    if votes is None:
        return pd.DataFrame(columns=_CONFUSION)
    count = len(record.labels)
    ours = _counts(votes.committee, votes.labels, count)
    theirs = None if votes.reference is None else _counts(votes.reference, votes.labels, count)
    totals = ours.sum(axis=1)
    rows = [
        (record.labels[i], record.labels[j], int(ours[i, j]), None if theirs is None else int(theirs[i, j]),
         float(ours[i, j] / totals[i]) if totals[i] else None)
        for i in range(count)
        for j in range(count)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=_CONFUSION).astype({"reference": "Int64", "share": "float64"})


def confusions_table(confusion: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of labels that the committee confuses most."""
    wrong = confusion[(confusion["label"] != confusion["said"]) & (confusion["committee"] > 0)]
    return wrong.sort_values("committee", ascending=False, kind="stable").head(MAX_CONFUSIONS)


def examples_table(record: StudyRecord, votes: AnswerLogits | None, evidence: Evidence) -> pd.DataFrame:
    """Return the test texts on which committee and reference differ most in the probability of the label.

    Those on which the committee is better come first. ``report: {examples: N}`` in the space is the number on each
    side. ``text`` is what the members saw: the stored tokens, decoded, or empty if they are missing.
    """
    if votes is None or votes.reference is None:
        return pd.DataFrame(columns=_EXAMPLES)
    committee = votes.committee
    indices = np.arange(len(votes.labels))
    ours, theirs = committee[indices, votes.labels], votes.reference[indices, votes.labels]
    order = np.argsort(theirs - ours, kind="stable")
    most = record.space.report.examples
    chosen = [int(row) for row in order[:most] if ours[row] > theirs[row]]
    chosen += [int(row) for row in order[::-1][:most] if ours[row] < theirs[row]]
    texts = evidence.test_texts(chosen)
    named, named_by_reference = committee.argmax(axis=-1), votes.reference.argmax(axis=-1)
    rows = [
        (row, texts.get(row, ""), record.labels[votes.labels[row]], record.labels[named[row]], float(ours[row]),
         record.labels[named_by_reference[row]], float(theirs[row]))
        for row in chosen
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=_EXAMPLES)


def _surprisal(probabilities: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return -log of the probability of the label, (rows,), in nats."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.maximum(of_label, SMALLEST_PROBABILITY)))


def _disagreement(members: NDArray[np.float64]) -> float | None:
    named = members.argmax(axis=-1)
    pairs = [(named[i] != named[j]).mean() for i in range(len(named)) for j in range(i)]
    return float(np.mean(pairs)) if pairs else None


def _doublings(members: int) -> list[int]:
    sizes = [2**power for power in range(members.bit_length()) if 2**power <= members]
    return sizes if sizes[-1] == members else [*sizes, members]


def _bins(
    probabilities: NDArray[np.float64], labels: NDArray[np.integer]
) -> list[tuple[int, int, float, float, float, float]]:
    confidence = probabilities.max(axis=-1)
    right = probabilities.argmax(axis=-1) == labels
    bins = calibration_bin(confidence)
    errors = calibration_error(probabilities, labels), cross_entropy(probabilities, labels)
    found = []
    for index in range(CALIBRATION_BINS):
        inside = bins == index
        if inside.any():
            found.append(
                (index, int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()), *errors)
            )
    return found


def _counts(probabilities: NDArray[np.float64], labels: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    named = probabilities.argmax(axis=-1)
    return np.asarray(np.bincount(labels * count + named, minlength=count * count).reshape(count, count))
