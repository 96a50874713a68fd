"""Committees beyond the mean of probabilities: other votes, weights fitted on validation, greedy choice from a pool.

Logits have the shape (members, rows, classes). A vote returns scores (rows, classes), the largest of which is the class
that is named. Weights are one number for each member, 0 or more, with the sum 1; ``weighted_vote`` applies them to any
split, so that what was fitted on validation is judged on test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.vote import SMALLEST_PROBABILITY, Floats, Integers, softmax

ROUNDS = 200  # of expectation and maximisation; the likelihood has then long been flat
STEPS = 40  # of greedy selection
_DIGITS = 12  # cross-entropies that differ by less are equal: sums in another order round otherwise

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Greedy:
    """How often each member of the pool was taken, and the validation accuracy after each step up to the best."""

    times: NDArray[np.int64]
    accuracies: tuple[float, ...]

    @property
    def weights(self) -> Weights:
        """The share of each member in the vote."""
        return np.asarray(self.times / self.times.sum())


def mean_logits(logits: Floats) -> NDArray[np.float64]:
    """Return the softmax of the mean logits: the normalised geometric mean of the members' probabilities."""
    return softmax(np.asarray(logits, dtype=np.float64).mean(axis=0))


def majority(logits: Floats) -> NDArray[np.float64]:
    """Return about the share of members that name each class; of classes with as many, the soft vote decides."""
    members, _, classes = logits.shape
    votes = (logits.argmax(axis=-1)[..., None] == np.arange(classes)).sum(axis=0)
    # A whole vote counts more than any difference of mean probabilities, which is below 1.
    return np.asarray((votes + softmax(logits).mean(axis=0)) / (members + 1))


def weighted_vote(logits: Floats, weights: Weights) -> NDArray[np.float64]:
    """Return the mean of the members' probabilities with these weights."""
    return np.asarray(np.tensordot(weights, softmax(logits), axes=1))


def fit_weights(logits: Floats, labels: Integers) -> Weights:
    """Return the weights whose vote has the least cross-entropy on ``labels``; give the logits of validation.

    The problem is convex; expectation and maximisation solves it (the members are the components of a mixture whose
    shares are sought), starting from equal weights, and never lets the cross-entropy rise.

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
    """Choose members one after the other, each as often as it helps, and keep the best step; give logits of validation.

    Each step takes the member that makes the vote of those taken so far most accurate; of equal ones that with the
    least cross-entropy. The first step takes the best single member, so the result is never worse on ``labels`` than
    that. The order of the members does not matter.

    Source: Caruana, Niculescu-Mizil, Crew and Ksikes 2004, "Ensemble selection from libraries of models".
    """
    probabilities = softmax(logits)
    # In an order of their own, sums are rounded alike and ties fall alike, in whatever order the members came.
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
    """Return accuracy and the negative of cross-entropy of a vote whose probabilities are ``total`` / ``size``."""
    said = np.maximum(total[rows, labels] / size, SMALLEST_PROBABILITY)
    return float((total.argmax(axis=-1) == labels).mean()), round(float(np.log(said).mean()), _DIGITS)
