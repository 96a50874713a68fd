"""The soft vote and its scores, computed from stored logits with numpy.

Logits have the shape (members, rows, classes), probabilities (rows, classes), labels (rows,) as indices of classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

CALIBRATION_BINS = 15
SMALLEST_PROBABILITY = float(np.finfo(np.float64).tiny)  # keeps a score finite if a probability underflows to 0


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Return the logarithms of the softmax over the last axis; exact for logits of any size."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Return the softmax over the last axis."""
    return np.asarray(np.exp(log_softmax(logits)))


def soft_vote(logits: Floats) -> NDArray[np.float64]:
    """Return the probabilities of a committee, (rows, classes): the mean of the members' softmax outputs.

    Raises:
        ValueError: ``logits`` does not have the shape (members, rows, classes) with at least one member.
    """
    if logits.ndim != 3 or logits.shape[0] == 0:
        raise ValueError(f"logits must have the shape (members, rows, classes), one member or more; got {logits.shape}")
    return np.asarray(softmax(logits).mean(axis=0))


def accuracy(probabilities: Floats, labels: Integers) -> float:
    """Return the share of rows whose most probable class (the first of equal ones) is the label."""
    return float(np.mean(probabilities.argmax(axis=-1) == labels))


def cross_entropy(probabilities: Floats, labels: Integers) -> float:
    """Return the mean negative log-probability of the labels, in nats."""
    of_label = np.take_along_axis(probabilities, np.asarray(labels)[:, None], axis=-1)[:, 0]
    return float(-np.log(np.maximum(of_label, SMALLEST_PROBABILITY)).mean())


def macro_f1(probabilities: Floats, labels: Integers) -> float:
    """Return the mean over the classes of F1 = 2 hits / (predicted + true).

    Classes that are neither predicted nor true do not count, as in scikit-learn.
    """
    classes = probabilities.shape[-1]
    predicted = probabilities.argmax(axis=-1)
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    seen = np.bincount(predicted, minlength=classes) + np.bincount(labels, minlength=classes)
    return float(np.mean(2 * hits[seen > 0] / seen[seen > 0]))


def calibration_error(probabilities: Floats, labels: Integers) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy over 15 bins of equal width.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3; bins are open on the left.
    """
    confidence = probabilities.max(axis=-1)
    gap = confidence - (probabilities.argmax(axis=-1) == labels)
    gaps = np.bincount(calibration_bin(confidence), weights=gap, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def calibration_bin(confidence: Floats) -> NDArray[np.int64]:
    """Return the bin, 0..14, of each confidence."""
    return np.asarray(np.clip(np.ceil(confidence * CALIBRATION_BINS) - 1, 0, CALIBRATION_BINS - 1), dtype=np.int64)
