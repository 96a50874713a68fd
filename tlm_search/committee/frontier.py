"""The frontier: what a committee of each size 1..K reaches, from the logits of its K members.

The accuracy of size k is the mean over subsets of k members, so that it does not depend on which members came first.
Every subset is used where there are few; else a seeded sample in which every member sits equally often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.interval import Spread, accuracy_interval, member_spread
from tlm_search.committee.vote import (
    CALIBRATION_BINS,
    SMALLEST_PROBABILITY,
    Floats,
    Integers,
    calibration_bin,
    softmax,
)

MAX_SUBSETS = 32
BLOCK = 100_000  # votes (committees x rows) that are scored at once: the arrays stay in the processor's cache


@dataclass(frozen=True)
class _Scores:
    """Scores of committees, one entry (or row) each; ``right`` is (committees, rows), 1 where the vote is the label."""

    right: NDArray[np.float64]
    cross_entropy: NDArray[np.float64]
    macro_f1: NDArray[np.float64]
    calibration_error: NDArray[np.float64]


def frontier(
    validation_logits: Floats,
    test_logits: Floats,
    validation_labels: Integers,
    test_labels: Integers,
    *,
    seed: int = 0,
    max_subsets: int = MAX_SUBSETS,
) -> list[dict[str, Any]]:
    """Return one record for each committee size 1..K.

    Logits have the shape (members, rows, classes), the same members in both. Each record holds ``size``; for
    validation and test the mean ``accuracy`` and ``cross_entropy`` over the subsets and the 95% interval ``low``,
    ``high`` of the accuracy; for test ``macro_f1``, ``calibration_error``, and ``subset_low``, ``subset_high``, between
    which lie 95% of the subsets; and the number of ``subsets``.

    The interval is that of a committee of this size whose members are trained anew, on new examples:
    ``accuracy_interval`` with the variance over members V(k). V(1) is that of the mean of K single members, V(K) the
    jackknife of the whole committee (K committees that each lack one member); between the two V is linear in 1/k,
    because one member's part of a vote is 1/k. One member alone says nothing about other members: for K = 1 the
    interval counts the examples only.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    _check(validation_logits, test_logits, validation_labels, test_labels)
    members = len(test_logits)
    weights = [_subsets(members, size, seed=seed, most=max_subsets) for size in range(1, members + 1)]
    validation = _scores(validation_logits, weights, validation_labels)
    test = _scores(test_logits, weights, test_labels)
    rows = []
    for size, at_validation, at_test in zip(range(1, members + 1), validation, test, strict=True):
        accuracies = at_test.right.mean(axis=1)
        validation_low, validation_high = _interval(validation, size)
        test_low, test_high = _interval(test, size)
        subset_low, subset_high = np.quantile(accuracies, (0.025, 0.975))
        rows.append(
            {
                "size": size,
                "validation_accuracy": float(at_validation.right.mean(axis=1).mean()),
                "validation_low": validation_low,
                "validation_high": validation_high,
                "test_accuracy": float(accuracies.mean()),
                "test_low": test_low,
                "test_high": test_high,
                "subset_low": float(subset_low),
                "subset_high": float(subset_high),
                "subsets": len(accuracies),
                "test_cross_entropy": float(at_test.cross_entropy.mean()),
                "test_macro_f1": float(at_test.macro_f1.mean()),
                "test_calibration_error": float(at_test.calibration_error.mean()),
                "validation_cross_entropy": float(at_validation.cross_entropy.mean()),
            }
        )
    return rows


def right_share(logits: Floats, labels: Integers, *, size: int, seed: int = 0) -> NDArray[np.float64]:
    """Return for each row the share of the committees of ``size`` that are right, (rows,).

    ``logits`` (members, rows, classes) are those of all members; the committees are those of ``frontier``, so the mean
    over the rows is its accuracy of this size.
    """
    return np.asarray(right_shares(logits, labels, sizes=[size], seed=seed)[0])


def right_shares(logits: Floats, labels: Integers, *, sizes: Sequence[int], seed: int = 0) -> NDArray[np.float64]:
    """Return ``right_share`` of several sizes, (sizes, rows), in one pass over the members."""
    weights = [_subsets(len(logits), size, seed=seed, most=MAX_SUBSETS) for size in sizes]
    return np.stack([scores.right.mean(axis=0) for scores in _scores(logits, weights, labels)])


def _check(*arrays: NDArray[Any]) -> None:
    validation, test, validation_labels, test_labels = arrays
    if validation.ndim != 3 or test.ndim != 3 or len(validation) != len(test) or len(test) == 0:
        raise ValueError(
            "validation and test logits must have the shape (members, rows, classes) with the same members; "
            f"got {validation.shape} and {test.shape}"
        )
    for name, logits, labels in (("validation", validation, validation_labels), ("test", test, test_labels)):
        if labels.shape != (logits.shape[1],) or len(labels) == 0:
            raise ValueError(f"{name} has {logits.shape[1]} rows of logits but labels of the shape {labels.shape}")


def _subsets(members: int, size: int, *, seed: int, most: int) -> NDArray[np.float64]:
    """Return the weights of the members in each committee, (committees, members): 1 / size or 0."""
    if math.comb(members, size) <= max(most, members):
        chosen = [list(subset) for subset in combinations(range(members), size)]
    else:
        # Windows of shuffled circles: each circle holds every member equally often, so good members do not weigh more.
        random = np.random.default_rng((seed, members, size))
        circles = [random.permutation(members) for _ in range(math.ceil(most / members))]
        chosen = [list(np.roll(circle, -start)[:size]) for circle in circles for start in range(members)]
    weights = np.zeros((len(chosen), members))
    for row, subset in zip(weights, chosen, strict=True):
        row[subset] = 1 / size
    return weights


def _scores(logits: Floats, weights: list[NDArray[np.float64]], labels: Integers) -> list[_Scores]:
    """Score the committees of each size; ``weights`` has one array per size."""
    rows = logits.shape[1]
    by_class = np.ascontiguousarray(softmax(logits).transpose(2, 0, 1))  # (classes, members, rows)
    of_label = by_class[labels, :, np.arange(rows)].T  # (members, rows)
    stacked = np.concatenate(weights)
    step = max(BLOCK // rows, 1)
    blocks = [
        _score_block(by_class, of_label, stacked[start : start + step], labels)
        for start in range(0, len(stacked), step)
    ]
    whole = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
    return [_Scores(*(part[bounds] for part in whole)) for bounds in _bounds(weights)]


def _bounds(weights: list[NDArray[np.float64]]) -> Iterator[slice]:
    start = 0
    for array in weights:
        yield slice(start, start + len(array))
        start += len(array)


def _score_block(
    by_class: NDArray[np.float64], of_label: NDArray[np.float64], weights: NDArray[np.float64], labels: Integers
) -> tuple[NDArray[np.float64], ...]:
    """Score a few committees in one pass over the classes; no array of committees x rows x classes is made."""
    classes, _, rows = by_class.shape
    committees = len(weights)
    confidence = weights @ by_class[0]
    predicted = np.zeros(confidence.shape, dtype=np.int32)
    for index in range(1, classes):
        probability = weights @ by_class[index]
        np.copyto(predicted, index, where=probability > confidence)
        np.maximum(confidence, probability, out=confidence)
    right = predicted == labels
    said = np.maximum(weights @ of_label, SMALLEST_PROBABILITY)

    def count(which: NDArray[np.integer], of: int, values: NDArray[Any] | None = None) -> NDArray[Any]:
        """Count (or add up ``values``) by committee and by ``which`` of so many kinds."""
        place = which + np.arange(committees)[:, None] * of
        added = None if values is None else values.ravel()
        return np.bincount(place.ravel(), weights=added, minlength=committees * of).reshape(committees, of)

    hits = count(predicted, classes, right)
    seen = count(predicted, classes) + np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore"):
        by_class_f1 = np.where(seen > 0, 2 * hits / seen, 0)
    gaps = count(calibration_bin(confidence), CALIBRATION_BINS, confidence - right)
    return (
        right.astype(np.float64),
        -np.log(said).mean(axis=1),
        by_class_f1.sum(axis=1) / (seen > 0).sum(axis=1),
        np.abs(gaps).sum(axis=1) / rows,
    )


def _interval(scores: list[_Scores], size: int) -> tuple[float, float]:
    """Return the interval of the accuracy of committees of ``size``; ``scores`` has one entry per size 1..K."""
    members = len(scores)
    share = scores[size - 1].right.mean(axis=0)
    if members == 1:
        return accuracy_interval(share)
    alone = member_spread(scores[0].right, scale=1 / (members * (members - 1)))
    whole = member_spread(scores[members - 2].right, scale=(members - 1) / members)
    near = (1 / size - 1 / members) / (1 - 1 / members)  # 1 at a single member, 0 at the whole committee
    spread = Spread(
        raw=near * alone.raw + (1 - near) * whole.raw,
        noise=near * alone.noise + (1 - near) * whole.noise,
        freedom=members - 1,
    )
    return accuracy_interval(share, spread)
