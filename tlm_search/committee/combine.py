"""Other ways to combine members: mean logits, majority, fitted weights, greedy selection from a pool.

Logits have the shape (members, rows, classes). A vote returns scores (rows, classes); the class with the largest score
is the answer. Weights are one number for each member, 0 or more, and add up to 1. Fit them on validation and apply
them to test with ``weighted_vote``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.vote import SMALLEST_PROBABILITY, Floats, Integers, softmax

ROUNDS = 200  # of expectation and maximisation; the likelihood stops rising long before
STEPS = 40  # of greedy selection
_DIGITS = 12  # of cross-entropies; later digits depend on the order of the sums

Weights = NDArray[np.float64]


def mean_logits(logits: Floats) -> NDArray[np.float64]:
    """Return the softmax of the mean logits, which is the normalised geometric mean of the members' probabilities."""
    return softmax(np.asarray(logits, dtype=np.float64).mean(axis=0))


def majority(logits: Floats) -> NDArray[np.float64]:
    """Return the share of members that name each class, plus a small term by which the soft vote breaks ties."""
    members, _, classes = logits.shape
    votes = (logits.argmax(axis=-1)[..., None] == np.arange(classes)).sum(axis=0)
    # One vote outweighs any difference of mean probabilities, which is below 1.
    return np.asarray((votes + softmax(logits).mean(axis=0)) / (members + 1))


def weighted_vote(logits: Floats, weights: Weights) -> NDArray[np.float64]:
    """Return the mean of the members' probabilities with these weights."""
    return np.asarray(np.tensordot(weights, softmax(logits), axes=1))


def fit_weights(logits: Floats, labels: Integers) -> Weights:
    """Return the weights whose vote has the least cross-entropy on ``labels``.

    The members are the components of a mixture, the weights its proportions. The problem is convex. Expectation and
    maximisation starts from equal weights and never lets the cross-entropy rise. Pass logits and labels of validation.

    Source: Dempster, Laird and Rubin 1977, section 4.3 (mixtures); Breiman 1996, "Stacked regressions" (the use).
    """
    of_label = np.take_along_axis(softmax(logits), np.asarray(labels)[None, :, None], axis=-1)[..., 0]
    of_label = np.maximum(of_label, SMALLEST_PROBABILITY)  # (members, rows)
    weights = np.full(len(of_label), 1 / len(of_label))
    for _ in range(ROUNDS):
        parts = weights[:, None] * of_label
        weights = (parts / parts.sum(axis=0)).mean(axis=1)
    return np.asarray(weights / weights.sum())


def greedy(logits: Floats, labels: Integers) -> Weights:
    """Select members one by one, with repetition, and return the share of each in the selection of the best step.

    Each step adds the member with which the vote is most accurate. Cross-entropy breaks ties.
    The first step takes the best single member, so the result is never worse on ``labels`` than that. The order of the
    members does not matter. Pass logits and labels of validation.

    Source: Caruana, Niculescu-Mizil, Crew and Ksikes 2004, "Ensemble selection from libraries of models".
    """
    probabilities = softmax(logits)
    # Sort the members, so that rounding and ties do not depend on the order in which they came.
    order = sorted(range(len(probabilities)), key=lambda member: probabilities[member].tobytes())
    pool = np.ascontiguousarray(probabilities[order])
    rows = np.arange(len(labels))
    total = np.zeros(pool.shape[1:])
    taken: list[int] = []
    reached: list[tuple[float, float]] = []
    for step in range(1, STEPS + 1):
        scores = [_score(total + member, labels, rows, size=step) for member in pool]
        best = max(range(len(pool)), key=lambda member: scores[member])
        taken.append(order[best])
        reached.append(scores[best])
        total += pool[best]
    last = max(range(len(reached)), key=lambda step: reached[step])
    return np.asarray(np.bincount(taken[: last + 1], minlength=len(pool)) / (last + 1))


def _score(total: Floats, labels: Integers, rows: NDArray[np.intp], *, size: int) -> tuple[float, float]:
    """Return the accuracy and the negative cross-entropy of a vote with the probabilities ``total`` / ``size``."""
    of_label = np.maximum(total[rows, labels] / size, SMALLEST_PROBABILITY)
    return float((total.argmax(axis=-1) == labels).mean()), round(float(np.log(of_label).mean()), _DIGITS)
