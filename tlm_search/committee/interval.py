"""Confidence intervals of an accuracy that count the finite test set and the choice of members."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMAL_QUANTILE = 1.959963984540054  # 97.5%
SMALLEST_FREEDOM = 2.0
PRIOR_SCALE = 0.03  # of accuracy, a common difference between members that differ only in their seed
PRIOR_POINTS = 400
RESAMPLES = 5_000
MOST_VALUES = 500  # bins of values that are redrawn; merging neighbours changes the variance by less than a millionth


@dataclass(frozen=True)
class Spread:
    """The variance that the choice of members adds to a mean accuracy.

    ``raw`` is the observed mean square with ``freedom`` degrees of freedom (members - 1). ``noise`` is the part of it
    that the examples alone are expected to cause.
    """

    raw: float
    noise: float
    freedom: int

    @property
    def variance(self) -> float:
        """The estimate: ``raw`` minus ``noise``, at least 0."""
        return max(self.raw - self.noise, 0.0)


def member_spread(right: NDArray[np.float64], *, scale: float) -> Spread:
    """Return the variance that the choice of members adds to a mean accuracy.

    ``right`` (members, examples) is 1 where a member alone, or the committee without it, is right. ``scale`` turns the
    sum of squared deviations of the row means into a variance: 1 / (K (K - 1)) for the mean of K members, (K - 1) / K
    for the jackknife of a committee. Part of the sum is noise of the examples, which the variance over examples counts
    already. ``noise`` estimates it as the variance of the deviations over examples divided by the number of examples.

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
    """Return the 95% interval of the accuracy on other examples with other members of the same kind.

    ``share`` (examples,) is the share of committees that are right on each example, or the example's contribution to
    another metric (see ``metrics``). ``texts`` is the effective number of examples of such a metric, ``most_texts`` an
    upper bound on the number that the interval uses. The variance of the mean is, by the law of total variance,

        V = var(share) / n  +  V_members

    The first term is the variance over examples for these members. The second is the variance over members of the
    accuracy on all possible examples. It is left out if ``members`` is None, because one member says nothing about
    others. The interval is Wilson's score interval with p (1 - p) / V as the effective number of examples and the
    quantile of Student's t. It stays within 0..1. At p = 0 or 1 the effective number is ``texts``, so the interval has
    a width there too.

    Two members estimate V_members with one degree of freedom. In one of ten studies they happen to agree, and an
    estimate near 0 would make the interval far too narrow. Their standard deviation therefore has a half-Cauchy prior
    with the scale ``PRIOR_SCALE``, and the interval is that of the mixture over its posterior.
    ``benchmarks/coverage.py`` measures the coverage.

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
        from scipy.special import stdtrit  # here, because the import takes 0.3 s and the driver does not need it

        uncertainty = by_example**2 / max(examples - 1, 1) + members.raw**2 / members.freedom
        quantile = float(stdtrit(max(variance**2 / uncertainty, SMALLEST_FREEDOM), 0.975))
    binomial = mean * (1 - mean)
    effective = float(texts or examples) if variance <= 0 or binomial <= 0 else binomial / variance
    return _wilson(mean, min(effective, most_texts), quantile)


def paired_interval(a: NDArray[Any], b: NDArray[Any], *, largest: float = 1.0) -> tuple[float, float, float]:
    """Return the accuracy of ``a`` minus that of ``b`` on the same rows, with its 95% interval: (mean, low, high).

    ``a`` and ``b`` (rows,) say whether a committee is right, or which share of several committees is, or the row's
    contribution to another metric. ``largest`` bounds the difference on one row. The interval is that of the percentile
    bootstrap over rows (``redrawn``). It is about these members; it does not count that others could have been trained.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    differences = np.subtract(a, b, dtype=np.float64)
    draws = redrawn(differences, np.random.default_rng(0), largest=largest)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(differences.mean()), float(low), float(high)


def redrawn(
    differences: NDArray[np.float64], random: np.random.Generator, *, largest: float = 1.0
) -> NDArray[np.float64]:
    """Return the means of 5,000 resamples of the rows' ``differences``, each between -``largest`` and ``largest``.

    One row of either extreme is added first. A small sample seldom contains the few rows on which two committees
    differ, and without any of them the resamples would have no spread. The numbers of rows with each value are redrawn,
    which is equivalent to redrawing the rows and faster.

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
    """Return the half width of the 95% interval of a single model around the mean of such models, texts aside.

    ``models.raw`` is the mean square of single models around the mean of their kind. Their standard deviation has the
    prior of ``accuracy_interval``, which matters little with many degrees of freedom.
    """
    return _half_width_by_prior(0.0, models, models=1)


def widened(mean: float, low: float, high: float, *, half_width: float) -> tuple[float, float]:
    """Return the interval of a metric with an additional independent error of this half width, within 0..1.

    The squares of the distances from the mean add up.

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures".
    """
    return max(mean - math.hypot(mean - low, half_width), 0.0), min(mean + math.hypot(high - mean, half_width), 1.0)


def _half_width_by_prior(by_example: float, members: Spread, *, models: int) -> float:
    """Return h such that the truth lies within h of the mean with 95% of the posterior.

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
