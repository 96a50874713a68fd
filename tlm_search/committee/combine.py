"""Other ways to combine members: mean logits, majority, fitted weights, greedy selection from a pool.

Logits have the shape (members, rows, classes). A vote returns scores (rows, classes); the class with the largest score
is the answer. Weights are one number for each member, 0 or more, and add up to 1. Fit them on validation and apply
them to test with ``weighted_vote``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.vote import SMALLEST_PROBABILITY, Floats, Integers, softmax

ROUNDS = 200  # of expectation and maximisation; the likelihood is flat long before
STEPS = 40  # of greedy selection
_DIGITS = 12  # of cross-entropies; later digits depend on the order of the sums

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Greedy:
    """How often each member of the pool was taken, and the accuracy after each step up to the best one."""

    times: NDArray[np.int64]
    accuracies: tuple[float, ...]

    @property
    def weights(self) -> Weights:
        """The share of each member in the vote."""
        return np.asarray(self.times / self.times.sum())


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
    said = np.take_along_axis(softmax(logits), np.asarray(labels)[None, :, None], axis=-1)[..., 0]  # (members, rows)
    said = np.maximum(said, SMALLEST_PROBABILITY)
    weights = np.full(len(said), 1 / len(said))
    for _ in range(ROUNDS):
        parts = weights[:, None] * said
        weights = (parts / parts.sum(axis=0)).mean(axis=1)
    return np.asarray(weights / weights.sum())


def greedy(logits: Floats, labels: Integers, *, steps: int = STEPS) -> Greedy:
    """Select members one by one, with repetition, and return the selection of the best step.

    Each step takes the member with which the vote of those taken so far is most accurate. Cross-entropy breaks ties.
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
    for step in range(1, steps + 1):
        scores = [_score(total + member, labels, rows, size=step) for member in pool]
        best = max(range(len(pool)), key=lambda member: scores[member])
        taken.append(order[best])
        reached.append(scores[best])
        total += pool[best]
    last = max(range(len(reached)), key=lambda step: reached[step])
    times = np.bincount(taken[: last + 1], minlength=len(pool))
    return Greedy(times, tuple(accuracy for accuracy, _ in reached[: last + 1]))


def _score(total: Floats, labels: Integers, rows: NDArray[np.intp], *, size: int) -> tuple[float, float]:
    """Return the accuracy and the negative cross-entropy of a vote with the probabilities ``total`` / ``size``."""
    said = np.maximum(total[rows, labels] / size, SMALLEST_PROBABILITY)
    return float((total.argmax(axis=-1) == labels).mean()), round(float(np.log(said).mean()), _DIGITS)
