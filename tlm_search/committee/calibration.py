"""Calibration of a committee: one temperature, and a bias for each label, both fitted on validation.

    calibrated(p) = softmax((log p + bias) / temperature)

The bias changes labels: it favours rare ones if the task's metric asks for it. The temperature changes probabilities
and never a label. Both are one affine step on the log-probabilities, so an answer is still their softmax and
argmax. Probabilities have the shape (rows, classes).

The bias has one parameter, its strength. More parameters would overfit the few rows of rare labels. On AG News with
shares of 60, 30, 7 and 3% one strength gained what a free bias for each label gained, or more (``studies/LOG.md``,
2026-11-30).

Sources: Guo et al. 2017, "On Calibration of Modern Neural Networks" (temperature); Menon et al. 2021, "Long-tail
learning via logit adjustment" (bias by the labels' shares).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.metrics import Metric, Named
from tlm_search.committee.vote import SMALLEST_PROBABILITY, Floats, Integers, softmax
from tlm_search.space.task import METRICS_OF_ONE_LABEL

# Metrics for which the most probable label is not the best decision. Precision alone is best if the label is hardly
# ever named, recall alone if it always is. Average precision needs no decision.
BIASED = ("balanced_accuracy", "macro_f1", "f1")
_STRENGTHS = np.linspace(-1, 2, 61)
_PLAIN = 20  # the index of the strength 0
_NEIGHBOURS = 11  # strengths over which the metric is smoothed; on few rows it is a jagged function of the strength
_LARGEST = 3.0  # log-odds that a strength of 1 adds to a label that is positive
_FOLDS = 5
_TEMPERATURES = (0.05, 20.0)
_HALVINGS = 40


@dataclass(frozen=True)
class Bias:
    """Numbers that are added to log-probabilities before the largest one decides the label.

    ``of_labels`` (classes,) was fitted on all validation rows. It is exported, and test is judged with it. ``of_rows``
    (rows, classes) holds for each validation row the bias of the fold that does not contain it. Validation is judged
    with that, because a metric on the rows of the fit would be too high.
    """

    of_labels: NDArray[np.float64]
    of_rows: NDArray[np.float64]

    def on(self, split: str) -> NDArray[np.float64]:
        """Return the bias of a split, (rows or 1, classes)."""
        return self.of_rows if split == "validation" else self.of_labels[None]


@dataclass(frozen=True)
class Calibration:
    """A ``temperature``, and a ``bias`` for each label; an empty bias adds nothing."""

    temperature: float = 1.0
    bias: Sequence[float] = ()

    def of(self, probabilities: Floats) -> NDArray[np.float64]:
        """Return the calibrated probabilities."""
        logs = _logarithms(probabilities)
        return softmax((logs + np.asarray(self.bias) if len(self.bias) else logs) / self.temperature)


UNCALIBRATED = Calibration()


def fit_calibration(probabilities: Floats, labels: Integers, bias: Sequence[float] = ()) -> Calibration:
    """Return the temperature with the least cross-entropy on validation, given the ``bias``.

    A committee that is right on all validation rows would get the temperature 0. One additional row that counts for
    all labels prevents that (Platt 1999, section 2.2).
    """
    logs = _logarithms(probabilities) + (np.asarray(bias) if len(bias) else 0.0)
    rows = len(labels)
    of_true = np.take_along_axis(logs, np.asarray(labels)[:, None], axis=1).mean()
    wanted = (rows * of_true + logs.mean()) / (rows + 1)
    low, high = np.log(_TEMPERATURES)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        expected = float((softmax(logs / np.exp(middle)) * logs).sum(axis=1).mean())
        # The cross-entropy is convex in 1 / temperature, with this difference as slope. Above 0 the vote is too sure.
        low, high = (middle, high) if expected > wanted else (low, middle)
    return Calibration(round(float(np.exp(low)), 6), tuple(map(float, bias)))


def fit_bias(probabilities: Floats, labels: Integers, metric: Metric) -> Bias | None:
    """Return the bias that raises a committee's ``metric``, fitted to its probabilities on validation.

    The bias is a strength times a direction. For a metric of one label the direction is that label. Otherwise it is,
    for each label, the logarithm of how much rarer it is than the most frequent label. The strength is the best on
    validation between -1 and 2.

    Return None if the metric has no use for a bias. Return None also if the gain on held-out rows of a five-fold
    cross-validation is not above its standard error (Breiman, Friedman, Olshen and Stone 1984, section 3.4.3).
    """
    if metric.name not in BIASED or len(labels) < _FOLDS:
        return None
    logs, direction = _logarithms(probabilities), _direction(metric, labels, probabilities.shape[1])
    named = np.stack([(logs + strength * direction).argmax(axis=1) for strength in _STRENGTHS])

    def best(rows: NDArray[np.bool_]) -> int:
        return _best(Named(named[:, rows], None, labels[rows], len(direction)).values(metric))

    fold = _folds(labels)
    indices = np.empty(len(labels), dtype=np.intp)
    for number in range(_FOLDS):
        indices[fold == number] = best(fold != number)
    held_out = named[indices, np.arange(len(labels))]
    both = Named(np.stack([named[_PLAIN], held_out]), None, labels, len(direction))
    gain, contributions = np.diff(both.values(metric)).item(), np.diff(both.contributions(metric), axis=0)
    strength = _STRENGTHS[best(fold >= 0)]
    if not strength or gain <= contributions.std() / len(labels) ** 0.5:
        return None
    return Bias(np.round(strength * direction, 6), np.outer(_STRENGTHS[indices], direction))


def _best(values: NDArray[np.float64]) -> int:
    """Return the index of the best strength, of equal ones the nearest to 0."""
    around = np.pad(values, _NEIGHBOURS // 2, mode="edge")
    smooth = np.convolve(around, np.full(_NEIGHBOURS, 1 / _NEIGHBOURS), mode="valid").round(12)
    equal = np.flatnonzero(smooth == smooth.max())
    return int(equal[np.abs(equal - _PLAIN).argmin()])


def _direction(metric: Metric, labels: Integers, classes: int) -> NDArray[np.float64]:
    if metric.name in METRICS_OF_ONE_LABEL:
        return np.where(np.arange(classes) == metric.positive, _LARGEST, 0.0)
    counts = np.bincount(labels, minlength=classes) + 1.0
    return np.asarray(np.log(counts.max() / counts))


def _folds(labels: Integers) -> NDArray[np.int64]:
    """Return a fold for each row. The rows of each label are spread over all folds."""
    order = np.lexsort((np.random.default_rng(0).permutation(len(labels)), labels))
    fold = np.empty(len(labels), dtype=np.int64)
    fold[order] = np.arange(len(labels)) % _FOLDS
    return fold


def _logarithms(probabilities: Floats) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(probabilities, SMALLEST_PROBABILITY)))
