"""Metrics of votes, each with the contributions of the rows, whose mean is the metric.

The contribution of a row says how the metric changes if the row counts for more. For accuracy it is 1 where the vote is
right and 0 elsewhere. For a metric M of counts or ranks it is M plus the number of rows times the derivative of M by
the row's weight (the influence function). So what holds for a mean over rows, such as its variance over texts and
members and paired differences, holds for every metric here.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 22 (the infinitesimal jackknife).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.vote import Floats, Integers
from tlm_search.errors import DataError
from tlm_search.space.section import unknown
from tlm_search.space.task import METRICS_OF_ALL_LABELS, METRICS_OF_ONE_LABEL, TaskSection

# The numbers a and b with which the score of a class is (a + b) hits / (a named + b true).
_OF_NAMED_AND_TRUE = {
    "precision": (1, 0),
    "recall": (0, 1),
    "f1": (1, 1),
    "balanced_accuracy": (0, 1),
    "macro_f1": (1, 1),
}


@dataclass(frozen=True)
class Metric:
    """The ``name`` of the metric of a task, and the index of the label that is ``positive`` (or None)."""

    name: str = "accuracy"
    positive: int | None = None

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of all metrics of the task; those of one label only if a label is positive."""
        return METRICS_OF_ALL_LABELS + (() if self.positive is None else METRICS_OF_ONE_LABEL)

    @property
    def with_interval(self) -> tuple[str, ...]:
        """The names of the metrics with an interval: accuracy, the task's metric, and those of a positive label."""
        of_label = () if self.positive is None else METRICS_OF_ONE_LABEL
        return tuple(dict.fromkeys(("accuracy", self.name, *of_label)))


ACCURACY = Metric()


def metric_of(task: TaskSection, labels: Sequence[str]) -> Metric:
    """Return the metric of a task whose data have these ``labels``.

    Raises:
        DataError: the label that the space calls positive is not among them.
    """
    if task.positive is None:
        return Metric(task.metric)
    if task.positive not in labels:
        raise DataError(
            f"task.positive: {unknown('label', task.positive, labels)}", hint="name one of the labels of the data"
        )
    return Metric(task.metric, tuple(labels).index(task.positive))


def metric_words(name: str) -> str:
    """Write the name of a metric for a sentence: balanced accuracy, macro F1."""
    return name.replace("_", " ").replace("f1", "F1")


def interval_keys(split: str, name: str) -> tuple[str, str]:
    """Return the names of the ends of a metric's interval in metrics and tables."""
    return f"{split}_{name}_low", f"{split}_{name}_high"


@dataclass(frozen=True)
class Named:
    """The classes that committees name on each row.

    ``classes`` (committees, rows) are named, ``positive`` (committees, rows) are the probabilities of the positive
    class, ``labels`` (rows,) are the true classes, and ``number`` is the number of classes.
    """

    classes: NDArray[np.integer]
    positive: NDArray[np.float64] | None
    labels: Integers
    number: int

    def values(self, metric: Metric) -> NDArray[np.float64]:
        """Return the metric of each committee, (committees,)."""
        if metric.name in _OF_NAMED_AND_TRUE:
            counts, score, _ = self._by_class(metric)
            return np.asarray((counts * score).sum(axis=1) / counts.sum(axis=1))
        return np.asarray(self.contributions(metric).mean(axis=1))

    def contributions(self, metric: Metric) -> NDArray[np.float64]:
        """Return the contribution of each row to the metric of each committee, (committees, rows)."""
        if metric.name == "accuracy":
            return self.right.astype(np.float64)
        if metric.name == "average_precision":
            assert self.positive is not None
            return _contributions_to_average_precision(self.positive, self.labels == metric.positive)
        of_named, of_true = _OF_NAMED_AND_TRUE[metric.name]
        counts, score, least = self._by_class(metric)
        share = counts / counts.sum(axis=1, keepdims=True)
        by_hit, by_mention = share * (of_named + of_true) / least, share * score / least
        added = by_hit[:, self.labels] * self.right - of_true * by_mention[:, self.labels]
        if of_named:
            added -= np.take_along_axis(by_mention, self.classes, axis=1)
        return np.asarray((share * score).sum(axis=1, keepdims=True) + len(self.labels) * added)

    def _by_class(self, metric: Metric) -> tuple[NDArray[Any], ...]:
        """Return which classes the metric averages, the score of each, and the denominator of that score.

        Each array has the shape (committees, classes). A class that is neither named nor true has the score 0 and does
        not enter the mean.
        """
        of_named, of_true = _OF_NAMED_AND_TRUE[metric.name]
        weighed = of_named * self._count() + of_true * np.bincount(self.labels, minlength=self.number)
        least = np.maximum(weighed, 1.0)
        score = (of_named + of_true) * self._count(self.right) / least
        if metric.name in METRICS_OF_ONE_LABEL:
            return np.broadcast_to(np.arange(self.number) == metric.positive, weighed.shape), score, least
        return weighed > 0, score, least

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether the named class is the true one, (committees, rows)."""
        return np.asarray(self.classes == self.labels)

    def _count(self, which: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Count the rows (of ``which``) on which each class is named, (committees, classes)."""
        committees = len(self.classes)
        index = self.classes + np.arange(committees)[:, None] * self.number
        weights = None if which is None else which.ravel()
        counts = np.bincount(index.ravel(), weights=weights, minlength=committees * self.number)
        return np.asarray(counts.reshape(committees, self.number), dtype=np.float64)


def contributions_of_votes(probabilities: Floats, labels: Integers, metric: Metric) -> NDArray[np.float64]:
    """Return the contributions (votes, rows) of rows to the metric, from probabilities (votes, rows, classes)."""
    positive = None if metric.positive is None else np.asarray(probabilities[..., metric.positive], dtype=np.float64)
    return Named(probabilities.argmax(axis=-1), positive, labels, probabilities.shape[-1]).contributions(metric)


def largest_contribution(metric: Metric, labels: Integers) -> float:
    """Return about the largest contribution that a row can have: 1 for accuracy."""
    return len(labels) / texts_that_count(metric, labels)


def texts_that_count(metric: Metric, labels: Integers) -> float:
    """Return the effective number of rows of a metric.

    For accuracy these are all rows, for a metric of one label the label's rows. For balanced accuracy and macro F1 it
    is L^2 / sum(1 / n_l) with L labels of n_l rows each: a proportion of that many rows varies as much as the mean of
    L equal proportions, one for each label.
    """
    if metric.name == "accuracy":
        return float(len(labels))
    if metric.name in METRICS_OF_ALL_LABELS:
        counts = np.bincount(labels)
        counts = counts[counts > 0]
        return float(len(counts) ** 2 / (1 / counts).sum())
    return float(max((labels == metric.positive).sum(), 1))


def most_texts(metric: Metric, labels: Integers) -> float:
    """Return the largest effective number of rows that the interval of a metric may use.

    Average precision near 100% varies by the few positive rows with low scores. Most samples contain none of them, and
    the others vary hardly at all. With at most four times the positive rows its intervals hold
    (``benchmarks/coverage.py``).
    """
    return 4 * texts_that_count(metric, labels) if metric.name == "average_precision" else math.inf


def _contributions_to_average_precision(
    scores: NDArray[np.float64], positive: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the contributions of rows to the average precision, (committees, rows).

    It is the mean, over the positive rows, of the precision among the rows with at least their score. Equal scores are
    one step, as in scikit-learn.
    """
    committees, rows = scores.shape
    total = positive.sum()
    if not total:
        return np.zeros(scores.shape)
    order = np.argsort(-scores, axis=1, kind="stable")
    sorted_scores, hit = np.take_along_axis(scores, order, axis=1), positive[order].astype(np.float64)
    new = np.concatenate([np.ones((committees, 1), bool), sorted_scores[:, 1:] != sorted_scores[:, :-1]], axis=1)
    index = np.arange(rows)
    first = np.maximum.accumulate(np.where(new, index, 0), axis=1)  # of the rows with an equal score
    last_index = np.where(np.roll(new, -1, axis=1) | (index == rows - 1), index, rows)
    last = np.minimum.accumulate(last_index[:, ::-1], axis=1)[:, ::-1]
    seen = last + 1.0
    precision = np.take_along_axis(hit.cumsum(axis=1), last, axis=1) / seen

    def from_here(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up the values of all rows with at most the score of each row."""
        sums = values[:, ::-1].cumsum(axis=1)[:, ::-1]
        return np.asarray(np.take_along_axis(sums, first, axis=1))

    mean = (hit * precision).sum(axis=1, keepdims=True) / total
    # A row changes the precision of all positive rows with at most its score. A positive row also enters the mean.
    added = hit * (precision - mean + from_here(hit / seen)) - from_here(hit * precision / seen)
    contributions = np.empty(scores.shape)
    np.put_along_axis(contributions, order, mean + rows / total * added, axis=1)
    return contributions
