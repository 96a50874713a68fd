"""The frontier: the metrics of committees of each size 1..K, from the logits of K members.

The accuracy of size k is the mean over subsets of k members, so it does not depend on which members came first. If
there are few subsets, all of them are used. Otherwise a sample is used in which every member occurs equally often; the
sample depends only on K and k.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.calibration import BIASED, Bias, fit_bias
from tlm_search.committee.interval import Spread, accuracy_interval, member_spread
from tlm_search.committee.metrics import ACCURACY, Metric, Named, interval_keys, most_texts, texts_that_count
from tlm_search.committee.scores import CommitteeScores
from tlm_search.committee.vote import (
    CALIBRATION_BINS,
    SMALLEST_PROBABILITY,
    Floats,
    Integers,
    calibration_bin,
    soft_vote,
    softmax,
)

MAX_SUBSETS = 32
Biases = Sequence[NDArray[np.float64] | None]  # of each size, (rows or 1, classes)
BLOCK = 100_000  # votes (committees x rows) that are scored at once, so that the arrays fit into the processor's cache


@dataclass(frozen=True)
class _Scores:
    """Metrics of committees by name: ``values`` (committees,) and the ``contributions`` of rows (committees, rows)."""

    values: Mapping[str, NDArray[np.float64]]
    contributions: Mapping[str, NDArray[np.float64]]


def frontier(
    validation_logits: Floats,
    test_logits: Floats,
    validation_labels: Integers,
    test_labels: Integers,
    *,
    metric: Metric = ACCURACY,
) -> tuple[CommitteeScores, ...]:
    """Return the scores of the committees of each size 1..K.

    Logits have the shape (members, rows, classes), with the same members in both splits. The figures are

    - with the prefix ``validation_`` or ``test_``, the means over the subsets of ``accuracy``, ``balanced_accuracy``,
      ``macro_f1``, ``cross_entropy``, ``calibration_error`` and the metrics of a positive label;
    - the 95% intervals of accuracy, the task's metric and those of a positive label, on both splits;
    - ``subset_low`` and ``subset_high``, which contain the test metric of 95% of the subsets.

    The bias (see ``fit_bias``) is fitted to the first members of the trial, which are exported, and all committees of
    the size name labels with it. Cross-entropy and calibration error are those of the vote without bias.

    The interval is about a committee of this size with newly trained members on new examples. It is
    ``accuracy_interval`` with the variance over members V(k). V(1) is the variance of the mean of K single members,
    V(K) the jackknife variance of the whole committee (K committees that each lack one member). Between them V is
    linear in 1/k, because one member's share of a vote is 1/k. With K = 1 the interval counts only the examples.

    Raises:
        ValueError: the shapes do not match.
    """
    _check(validation_logits, test_logits, validation_labels, test_labels)
    members = len(test_logits)
    weights = [_subsets(members, size) for size in range(1, members + 1)]
    names = metric.with_interval
    biases = [
        first_bias(validation_logits, validation_labels, size=1 + member, metric=metric) for member in range(members)
    ]
    splits = {
        split: (_scores(logits, weights, labels, metric, names, biases=_on(biases, split)), labels)
        for split, logits, labels in (
            ("validation", validation_logits, validation_labels),
            ("test", test_logits, test_labels),
        )
    }
    found = []
    for size in range(1, members + 1):
        figures: dict[str, float] = {}
        for split, (scores, labels) in splits.items():
            at = scores[size - 1]
            figures |= {f"{split}_{name}": float(values.mean()) for name, values in at.values.items()}
            for name in names:
                bounds = _interval(
                    [score.contributions[name] for score in scores], size, replace(metric, name=name), labels
                )
                figures |= zip(interval_keys(split, name), bounds, strict=True)
        of_subsets, bias = splits["test"][0][size - 1].values[metric.name], biases[size - 1]
        low, high = np.quantile(of_subsets, (0.025, 0.975))
        figures |= {"subset_low": float(low), "subset_high": float(high)}
        added = () if bias is None else tuple(bias.of_labels.tolist())
        found.append(CommitteeScores(size, len(of_subsets), figures, metric.name, added))
    return tuple(found)


def first_bias(logits: Floats, labels: Integers, *, size: int, metric: Metric) -> Bias | None:
    """Return the bias of committees of ``size``, fitted to the votes of the first ``size`` members on validation."""
    return None if metric.name not in BIASED else fit_bias(soft_vote(logits[:size]), labels, metric)


def alone_on_validation(logits: Floats, labels: Integers, metric: Metric) -> float:
    """Return the validation metric of one member with these logits (rows, classes), as ``frontier`` computes it."""
    bias = first_bias(logits[None], labels, size=1, metric=metric)
    added = None if bias is None else bias.on("validation")
    return float(right_share(logits[None], labels, size=1, metric=metric, bias=added).mean())


def right_share(
    logits: Floats,
    labels: Integers,
    *,
    size: int,
    metric: Metric = ACCURACY,
    bias: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return for each row the share of the committees of ``size`` that are right, (rows,).

    For another ``metric`` than accuracy, return the mean contribution of the row. ``logits`` (members, rows, classes)
    are those of all members. The committees are those of ``frontier``, so the mean over rows is the metric that
    ``frontier`` returns for this size. A ``bias`` (rows or 1, classes) is added before labels are named.
    """
    return np.asarray(right_shares(logits, labels, sizes=[size], metric=metric, biases=[bias])[0])


def right_shares(
    logits: Floats,
    labels: Integers,
    *,
    sizes: Sequence[int],
    metric: Metric = ACCURACY,
    biases: Biases = (),
) -> NDArray[np.float64]:
    """Return ``right_share`` of several sizes, (sizes, rows), in one pass over the members."""
    weights = [_subsets(len(logits), size) for size in sizes]
    scores = _scores(logits, weights, labels, metric, (metric.name,), biases=biases)
    return np.stack([score.contributions[metric.name].mean(axis=0) for score in scores])


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


def _subsets(members: int, size: int) -> NDArray[np.float64]:
    """Return the weights of the members in each committee, (committees, members): 1 / size or 0."""
    if math.comb(members, size) <= max(MAX_SUBSETS, members):
        chosen = [list(subset) for subset in combinations(range(members), size)]
    else:
        # Windows of shuffled circles: every member is in equally many windows of a circle, so none weighs more.
        random = np.random.default_rng((0, members, size))
        circles = [random.permutation(members) for _ in range(math.ceil(MAX_SUBSETS / members))]
        chosen = [list(np.roll(circle, -start)[:size]) for circle in circles for start in range(members)]
    weights = np.zeros((len(chosen), members))
    for row, subset in zip(weights, chosen, strict=True):
        row[subset] = 1 / size
    return weights


def _on(biases: Sequence[Bias | None], split: str) -> Biases:
    return [None if bias is None else bias.on(split) for bias in biases]


def _scores(
    logits: Floats,
    weights: list[NDArray[np.float64]],
    labels: Integers,
    metric: Metric,
    names: Sequence[str],
    *,
    biases: Biases = (),
) -> list[_Scores]:
    """Score the committees of each size.

    ``weights`` has one array for each size. ``names`` are the metrics whose contributions are returned.
    """
    rows = logits.shape[1]
    by_class = np.ascontiguousarray(softmax(logits).transpose(2, 0, 1))  # (classes, members, rows)
    of_label = by_class[labels, :, np.arange(rows)].T  # (members, rows)
    step = max(BLOCK // rows, 1)
    # Sizes with biases are scored one by one, the others together.
    groups: list[tuple[NDArray[np.float64], NDArray[np.float64] | None]] = [(np.concatenate(weights), None)]
    if any(bias is not None for bias in biases):
        groups = list(zip(weights, biases, strict=True))
    blocks = [
        _score_block(by_class, of_label, group[start : start + step], labels, metric, names, bias=bias)
        for group, bias in groups
        for start in range(0, len(group), step)
    ]
    values, contributions = (
        {name: np.concatenate([getattr(block, kind)[name] for block in blocks]) for name in getattr(blocks[0], kind)}
        for kind in ("values", "contributions")
    )
    return [
        _Scores(*({name: array[bounds] for name, array in arrays.items()} for arrays in (values, contributions)))
        for bounds in _bounds(weights)
    ]


def _bounds(weights: list[NDArray[np.float64]]) -> Iterator[slice]:
    start = 0
    for array in weights:
        yield slice(start, start + len(array))
        start += len(array)


def _score_block(
    by_class: NDArray[np.float64],
    of_label: NDArray[np.float64],
    weights: NDArray[np.float64],
    labels: Integers,
    metric: Metric,
    names: Sequence[str],
    *,
    bias: NDArray[np.float64] | None,
) -> _Scores:
    """Score a few committees in one pass over the classes, without an array of committees x rows x classes."""
    classes, _, rows = by_class.shape
    committees = len(weights)
    confidence = weights @ by_class[0]
    likeliest = np.zeros(confidence.shape, dtype=np.int32)
    predicted, factors = likeliest, None
    if bias is not None:
        predicted, factors = likeliest.copy(), np.exp(bias.T)
        largest = confidence * factors[0]
    for index in range(1, classes):
        probability = weights @ by_class[index]
        np.copyto(likeliest, index, where=probability > confidence)
        np.maximum(confidence, probability, out=confidence)
        if factors is not None:
            probability *= factors[index]
            np.copyto(predicted, index, where=probability > largest)
            np.maximum(largest, probability, out=largest)
    probability_of_label = np.maximum(weights @ of_label, SMALLEST_PROBABILITY)
    positive = None if metric.positive is None else weights @ by_class[metric.positive]
    named = Named(predicted, positive, labels, classes)
    contributions = {name: named.contributions(replace(metric, name=name)) for name in names}
    values = {name: named.values(replace(metric, name=name)) for name in metric.measured}
    bins = calibration_bin(confidence) + np.arange(committees)[:, None] * CALIBRATION_BINS
    gaps = np.bincount(
        bins.ravel(), weights=(confidence - (likeliest == labels)).ravel(), minlength=committees * CALIBRATION_BINS
    )
    values["cross_entropy"] = -np.log(probability_of_label).mean(axis=1)
    values["calibration_error"] = np.abs(gaps.reshape(committees, -1)).sum(axis=1) / rows
    return _Scores(values, contributions)


def _interval(
    contributions: list[NDArray[np.float64]], size: int, metric: Metric, labels: Integers
) -> tuple[float, float]:
    """Return the interval of a metric of committees of ``size``; ``contributions`` has those of each size 1..K."""
    members = len(contributions)
    share = contributions[size - 1].mean(axis=0)
    texts, most = texts_that_count(metric, labels), most_texts(metric, labels)
    if members == 1:
        return accuracy_interval(share, texts=texts, most_texts=most)
    alone = member_spread(contributions[0], scale=1 / (members * (members - 1)))
    whole = member_spread(contributions[members - 2], scale=(members - 1) / members)
    near = (1 / size - 1 / members) / (1 - 1 / members)  # 1 at a single member, 0 at the whole committee
    spread = Spread(
        raw=near * alone.raw + (1 - near) * whole.raw,
        noise=near * alone.noise + (1 - near) * whole.noise,
        freedom=members - 1,
    )
    return accuracy_interval(share, spread, texts=texts, most_texts=most)
