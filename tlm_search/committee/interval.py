"""How sure an accuracy is: intervals that count the finite test set and the choice of members."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMAL_QUANTILE = 1.959963984540054  # 97.5%
SMALLEST_FREEDOM = 2.0
PRIOR_SCALE = 0.03  # accuracy by which members that differ in their seed alone commonly differ
PRIOR_POINTS = 400
RESAMPLES = 5_000
MOST_VALUES = 500  # different ones that are redrawn; what is lost between neighbours is no millionth of the variance


@dataclass(frozen=True)
class Spread:
    """What the choice of members adds to the variance of a mean accuracy.

    ``raw`` is the mean square as it was seen, with ``freedom`` degrees of freedom (members - 1), ``noise`` the part of
    it that is expected from the examples alone.
    """

    raw: float
    noise: float
    freedom: int

    @property
    def variance(self) -> float:
        """The estimate: what is left of ``raw`` without the noise."""
        return max(self.raw - self.noise, 0.0)


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
    return Spread(raw=raw, noise=noise, freedom=members - 1)


def accuracy_interval(
    share: NDArray[np.float64],
    members: Spread | None = None,
    *,
    texts: float | None = None,
    most_texts: float = math.inf,
) -> tuple[float, float]:
    """Return the 95% interval of the accuracy that other examples and other members of the same kind would show.

    ``share`` holds, for each example, the share of committees that are right, or the example's contribution to another
    metric (see ``metrics``). ``texts`` is the number of examples that such a metric rests on, in effect, ``most_texts``
    the most that the interval takes for them. The variance of the mean is

        V = var(share) / n  +  V_members

    by the law of total variance: the first term is the variance over examples for the members at hand, the second the
    variance over members of the accuracy on all possible examples (None: one member, which tells nothing about others).
    The interval is Wilson's score interval with the effective number of examples p (1 - p) / V and the quantile of
    Student's t, so that it stays within 0..1 and is not empty at 0 or 1, where that number is ``texts``.

    Two members estimate V_members with a single degree of freedom: in one study of ten they happen to agree, and an
    estimate near 0 would make the interval far too narrow. There the standard deviation of members has a prior, a
    half-Cauchy distribution with scale ``PRIOR_SCALE``, and the interval is that of the mixture over its posterior.
    ``benchmarks/coverage.py`` measures what comes of it.

    Sources: Brown, Cai and DasGupta 2001 (Wilson's interval); Korn and Graubard 1998 (effective sample size);
    Satterthwaite 1946 (degrees of freedom of a sum of variances); Gelman 2006, "Prior distributions for variance
    parameters in hierarchical models" (few groups).
    """
    examples = len(share)
    mean = min(max(float(share.mean()), 0.0), 1.0)
    by_example = float(share.var()) / max(examples - 1, 1)
    variance, quantile = by_example, NORMAL_QUANTILE
    if members is not None and members.freedom == 1:
        half = _half_width_by_prior(by_example, members, models=members.freedom + 1)
        variance = (half / NORMAL_QUANTILE) ** 2
    elif members is not None and members.variance > 0:
        variance = by_example + members.variance
        from scipy.special import stdtrit  # takes a third of a second, which the driver of a study does not need

        uncertainty = by_example**2 / max(examples - 1, 1) + members.raw**2 / members.freedom
        quantile = float(stdtrit(max(variance**2 / uncertainty, SMALLEST_FREEDOM), 0.975))
    binomial = mean * (1 - mean)
    effective = float(texts or examples) if variance <= 0 or binomial <= 0 else binomial / variance
    return _wilson(mean, min(effective, most_texts), quantile)


def paired_interval(
    a: NDArray[Any], b: NDArray[Any], *, seed: int = 0, largest: float = 1.0
) -> tuple[float, float, float]:
    """Return the accuracy of ``a`` minus that of ``b`` on the same rows, with its 95% interval (mean, low, high).

    ``a`` and ``b`` hold for each row whether the committee is right, or the share of several committees that are, or
    its contribution to another metric, where one row shows a difference of ``largest`` at most. The interval is that of
    the percentile bootstrap over rows, ``redrawn``. It holds for these very members; that others could have been
    trained is not counted.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    differences = np.subtract(a, b, dtype=np.float64)
    draws = redrawn(differences, np.random.default_rng(seed), largest=largest)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(differences.mean()), float(low), float(high)


def redrawn(
    differences: NDArray[np.float64], random: np.random.Generator, *, largest: float = 1.0
) -> NDArray[np.float64]:
    """Return the means of 5,000 resamples of the rows' ``differences``, between -``largest`` and ``largest`` each.

    One row of either extreme is added before: few rows seldom show the few on which two committees differ, and where
    none of them does a resample of what was seen has no spread at all. How many rows have each of the few different
    values is redrawn, which is the same as to redraw the rows.

    Source: Bonett and Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", which adds one to the rows on which only either is right.
    """
    values, counts = np.unique(np.round(np.append(differences, (-largest, largest)), 9), return_counts=True)
    if len(values) > MOST_VALUES:
        bins = np.floor((values - values[0]) / (values[-1] - values[0]) * (MOST_VALUES - 1)).astype(np.int64)
        sums, merged = np.bincount(bins, weights=values * counts), np.bincount(bins, weights=counts)
        values, counts = sums[merged > 0] / merged[merged > 0], merged[merged > 0]
    rows = int(counts.sum())
    return np.asarray(random.multinomial(rows, counts / rows, size=RESAMPLES) @ values / rows)


def seed_half_width(models: Spread) -> float:
    """Return h: with 95% of the posterior a single model lies within h of the mean of such models, texts aside.

    ``models.raw`` is the mean square of single models around the mean of their kind. The prior on their standard
    deviation is that of ``accuracy_interval``; with many degrees of freedom it plays no part.
    """
    return _half_width_by_prior(0.0, models, models=1)


def widened(mean: float, low: float, high: float, *, half_width: float) -> tuple[float, float]:
    """Return the interval of a metric with another, independent source of error of this half width, within 0..1.

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures" (the distances of the limits
    from the mean add by their squares).
    """
    return max(mean - math.hypot(mean - low, half_width), 0.0), min(mean + math.hypot(high - mean, half_width), 1.0)


def _half_width_by_prior(by_example: float, members: Spread, *, models: int) -> float:
    """Return h such that the truth lies within h of the mean with 95% of the posterior, on both sides together.

    ``members`` is the spread of the mean of ``models`` models.
    """
    from scipy.special import ndtr

    quantiles = (np.arange(PRIOR_POINTS) + 0.5) / PRIOR_POINTS
    of_members = (PRIOR_SCALE * np.tan(np.pi / 2 * quantiles)) ** 2 / models
    expected = members.noise + of_members
    log_likelihood = -members.freedom / 2 * (np.log(expected) + members.raw / expected)
    weights = np.exp(log_likelihood - log_likelihood.max())
    weights /= weights.sum()
    deviation = np.sqrt(by_example + of_members)
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        outside = 2 * float(weights @ ndtr(-middle / deviation))
        low, high = (middle, high) if outside > 0.05 else (low, middle)
    return high


def _wilson(mean: float, examples: float, quantile: float) -> tuple[float, float]:
    shrink = 1 + quantile**2 / examples
    middle = (mean + quantile**2 / (2 * examples)) / shrink
    half = quantile / shrink * (mean * (1 - mean) / examples + quantile**2 / (4 * examples**2)) ** 0.5
    return max(middle - half, 0.0), min(middle + half, 1.0)
