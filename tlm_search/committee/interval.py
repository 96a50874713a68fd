"""How sure an accuracy is: intervals that count the finite test set and the choice of members."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from tlm_search.committee.vote import Floats, Integers

NORMAL_QUANTILE = 1.959963984540054  # 97.5%
SMALLEST_FREEDOM = 2.0
RESAMPLES = 5_000

Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Spread:
    """A component of variance as estimated, before its own noise was subtracted (``raw``) and after (``variance``)."""

    variance: float
    raw: float
    freedom: int


def member_spread(right: NDArray[np.float64], *, scale: float) -> Spread:
    """Return the variance that the choice of members adds to a mean accuracy.

    ``right`` has one row per member (a member alone, or the committee without it) and one column per example: 1 where
    right. ``scale`` turns the sum of squared deviations of the row means into a variance: 1 / (K (K - 1)) for the mean
    of K members, (K - 1) / K for the jackknife of a committee. All rows see the same examples, so a part of the sum is
    the noise of those examples, which the examples' own variance counts already; its estimate, the variance over
    examples of the deviations divided by their number, is subtracted.

    Source: Efron and Stein 1981, "The jackknife estimate of variance"; the subtraction is the expected mean square of a
    two-way layout (Searle, Casella and McCulloch 1992, chapter 4).
    """
    members, examples = right.shape
    deviations = right - right.mean(axis=0)
    raw = scale * float((deviations.mean(axis=1) ** 2).sum())
    noise = scale * float(deviations.var(axis=1).sum()) / max(examples - 1, 1)
    return Spread(variance=max(raw - noise, 0.0), raw=raw, freedom=members - 1)


def accuracy_interval(share: NDArray[np.float64], members: Spread | None = None) -> tuple[float, float]:
    """Return the 95% interval of the accuracy that other examples and other members of the same kind would show.

    ``share`` holds, for each example, the share of committees that are right. The variance of its mean is

        V = var(share) / n  +  V_members

    by the law of total variance: the first term is the variance over examples for the members at hand, the second the
    variance over members of the accuracy on all possible examples (None: one member, which tells nothing about others).
    The interval is Wilson's score interval with the effective number of examples p (1 - p) / V and the quantile of
    Student's t, so that it stays within 0..1 and is not empty at 0 or 1.

    Two members that differ much say little about others: there the interval holds the truth in 86 to 90 of 100 cases,
    because the quantile is that of two degrees of freedom at least (benchmarks/coverage.py).

    Sources: Brown, Cai and DasGupta 2001 (Wilson's interval); Korn and Graubard 1998 (effective sample size);
    Satterthwaite 1946 (degrees of freedom of a sum of variances).
    """
    examples = len(share)
    mean = float(share.mean())
    by_example = float(share.var()) / max(examples - 1, 1)
    by_member = 0.0 if members is None else members.variance
    variance = by_example + by_member
    binomial = mean * (1 - mean)
    effective = float(examples) if variance <= 0 or binomial <= 0 else binomial / variance
    quantile = NORMAL_QUANTILE
    if by_member > 0 and members is not None:
        uncertainty = by_example**2 / max(examples - 1, 1) + members.raw**2 / members.freedom
        quantile = float(stdtrit(max(variance**2 / uncertainty, SMALLEST_FREEDOM), 0.975))
    return _wilson(mean, effective, quantile)


def paired_difference(a: Floats, b: Floats, labels: Integers, *, seed: int = 0) -> tuple[float, float, float]:
    """Return the accuracy of ``a`` minus that of ``b``, probabilities (rows, classes), as ``paired_interval`` does."""
    return paired_interval(a.argmax(axis=-1) == labels, b.argmax(axis=-1) == labels, seed=seed)


def paired_interval(right_a: Booleans, right_b: Booleans, *, seed: int = 0) -> tuple[float, float, float]:
    """Return the accuracy of ``a`` minus that of ``b`` on the same rows, with its 95% interval (mean, low, high).

    ``right_a`` and ``right_b`` say for each row whether ``a`` and ``b`` are right. The interval is that of the
    percentile bootstrap over rows: the numbers of rows that only ``a``, only ``b``, and both or neither get right are
    redrawn 5,000 times, which is the same as to redraw the rows. It holds for these very committees; the choice of
    members is not counted.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    rows = len(right_a)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    shares = np.array([only_a, only_b, rows - only_a - only_b]) / rows
    drawn = np.random.default_rng(seed).multinomial(rows, shares, size=RESAMPLES)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / rows, (0.025, 0.975))
    return (only_a - only_b) / rows, float(low), float(high)


def _wilson(mean: float, examples: float, quantile: float) -> tuple[float, float]:
    shrink = 1 + quantile**2 / examples
    middle = (mean + quantile**2 / (2 * examples)) / shrink
    half = quantile / shrink * (mean * (1 - mean) / examples + quantile**2 / (4 * examples**2)) ** 0.5
    return max(middle - half, 0.0), min(middle + half, 1.0)
