"""Metrics of votes that name a class: each is a number, and a contribution of each row whose mean is that number.

The contribution of a row says how the metric would change if the row counted for more. Of accuracy it is 1 where the
vote is right and 0 elsewhere. Of a metric M of counts or ranks it is M plus M's derivative by the row's weight, times
the number of rows (the influence function). So whatever is known of a mean over rows, its variance over texts and over
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
from tlm_search.space.sections import METRICS_OF_ALL_LABELS, METRICS_OF_ONE_LABEL, TaskSection

# Of each class a and b, with which a score is (a + b) hits / (a named + b true).
_OF_NAMED_AND_TRUE = {
    "precision": (1, 0),
    "recall": (0, 1),
    "f1": (1, 1),
    "balanced_accuracy": (0, 1),
    "macro_f1": (1, 1),
}


@dataclass(frozen=True)
class Metric:
    """The metric that a task is judged by, by ``name``, and the index of the label that is ``positive`` (or None)."""

    name: str = "accuracy"
    positive: int | None = None

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of all metrics that can be measured: those of one label only where one is positive."""
        return METRICS_OF_ALL_LABELS + (() if self.positive is None else METRICS_OF_ONE_LABEL)

    @property
    def with_interval(self) -> tuple[str, ...]:
        """The names of those that are shown, and so have an interval: accuracy, the task's, and those of one label."""
        of_label = () if self.positive is None else METRICS_OF_ONE_LABEL
        return tuple(dict.fromkeys(("accuracy", self.name, *of_label)))


ACCURACY = Metric()


def metric_of(task: TaskSection, labels: Sequence[str]) -> Metric:
    """Return the metric of a task whose data have these ``labels``.

    Raises:
        DataError: the data do not have the label that is positive.
    """
    if task.positive is None:
        return Metric(task.metric)
    if task.positive not in labels:
        raise DataError(
            f"task.positive: {unknown('label', task.positive, labels)}", hint="name one of the labels of the data"
        )
    return Metric(task.metric, tuple(labels).index(task.positive))


def metric_words(name: str) -> str:
    """Return a metric's name as a sentence has it: balanced accuracy, macro F1."""
    return name.replace("_", " ").replace("f1", "F1")


def interval_keys(split: str, name: str) -> tuple[str, str]:
    """Return the keys of a frontier's record that hold the interval of a metric; those of accuracy lack its name."""
    prefix = split if name == "accuracy" else f"{split}_{name}"
    return f"{prefix}_low", f"{prefix}_high"


@dataclass(frozen=True)
class Named:
    """What committees name: ``classes`` (committees, rows), and the probability of the positive class, as large.

    ``labels`` (rows,) are the true ones, of ``number`` classes.
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
        """Return which classes the metric is the mean of, the score of each, and what that is divided by.

        Each is (committees, classes). A class that is neither named nor true has the score 0, and is in no mean.
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
        """Whether the class that is named is the true one, (committees, rows)."""
        return np.asarray(self.classes == self.labels)

    def _count(self, which: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Count the rows (those of ``which``) for which each class is named, (committees, classes)."""
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
    """Return about the most by which one row can change a metric, as a mean over the rows: 1 for accuracy."""
    return len(labels) / texts_that_count(metric, labels)


def texts_that_count(metric: Metric, labels: Integers) -> float:
    """Return how many rows a metric is the mean of, in effect: of all labels fewer where some are rare.

    For a metric of one label these are the label's rows. For balanced accuracy and macro F1 it is L^2 / sum(1 / n_l),
    with L labels of n_l rows each: a share of that many rows varies as much as the mean of L equal shares, one a label.
    """
    if metric.name == "accuracy":
        return float(len(labels))
    if metric.name in METRICS_OF_ALL_LABELS:
        counts = np.bincount(labels)
        counts = counts[counts > 0]
        return float(len(counts) ** 2 / (1 / counts).sum())
    return float(max((labels == metric.positive).sum(), 1))


def most_texts(metric: Metric, labels: Integers) -> float:
    """Return the most rows that the interval of a metric may rest on.

    Average precision near 100% varies by the few positive rows that stand low, of which most samples have none: what
    varies among the others is next to nothing. Four times the positive rows is where its intervals hold
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
        """Add up the values of the rows with at most the score of each."""
        sums = values[:, ::-1].cumsum(axis=1)[:, ::-1]
        return np.asarray(np.take_along_axis(sums, first, axis=1))

    mean = (hit * precision).sum(axis=1, keepdims=True) / total
    # A row adds to the precision of all positive rows that stand no higher, and a positive row is one more in the mean.
    added = hit * (precision - mean + from_here(hit / seen)) - from_here(hit * precision / seen)
    contributions = np.empty(scores.shape)
    np.put_along_axis(contributions, order, mean + rows / total * added, axis=1)
    return contributions
