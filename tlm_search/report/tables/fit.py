"""What twice the members promise: a saturating curve through a frontier, and the interval of its next doubling.

The curve is metric(k) = end - gap * k ** -rate. The variance of the mean of k independent votes has the rate 1.
Committees of correlated members saturate sooner, small committees of confident members later. The report does not show
the end of the curve, because the best rate is often the first or last one of the grid. The next doubling is close to
the measured sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlm_search.committee.candidates import candidates
from tlm_search.committee.frontier import right_shares
from tlm_search.report.evidence import Evidence
from tlm_search.report.tables.tables import label_of
from tlm_search.study.record import StudyRecord, TrialRecord

LEAST_SIZES = 4  # one more than the curve has parameters
MAX_CONFIGURATIONS = 6
RATES = np.geomspace(0.5, 3.0, 26)
RESAMPLES = 400

Curves = NDArray[np.float64]  # (curves, sizes)


def saturation_table(record: StudyRecord, trials: Sequence[TrialRecord], evidence: Evidence) -> pd.DataFrame:
    """Return the promised gain of twice as many members, for each of the first ``trials``.

    A curve is fitted to the metric on validation. ``next_gain`` is its value at twice the members minus the metric of
    all members. ``next_low`` and ``next_high`` are the 95% percentile bootstrap over validation rows: the rows are
    resampled and the curve is fitted again. The interval does not count that other members could have been trained. It
    is missing without logits.
    """
    rows: list[tuple[int | str | float | None, ...]] = []
    for trial in trials:
        if len(trial.frontier) < LEAST_SIZES or len(rows) == MAX_CONFIGURATIONS:
            continue
        reached = np.array([[candidate.validation_metric for candidate in candidates(trial)]])
        size, last = reached.shape[1], float(reached[0, -1])
        gain, (low, high) = float(next_gain(reached)[0]), _bounds(trial, evidence)
        rows.append((trial.number, label_of(record, trial), size, last, gain, low, high))
    columns = ["trial", "configuration", "members", "validation_metric", "next_gain", "next_low", "next_high"]
    return pd.DataFrame(rows, columns=columns).astype({"next_low": "float64", "next_high": "float64"})


def next_gain(reached: Curves) -> NDArray[np.float64]:
    """Return the gain from K to 2 K members of the curve through each row of ``reached`` (curves, sizes 1..K).

    The curve never exceeds 1.
    """
    gap, rate = fit(reached)
    members = reached.shape[1]
    gain = gap * (members**-rate - (2.0 * members) ** -rate)
    return np.asarray(np.minimum(gain, 1 - reached[:, -1]))


def fit(reached: Curves) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the gap and the rate of the curve that is closest to each row of ``reached`` (curves, sizes 1..K).

    Least squares by variable projection: for each rate on a grid, the other two parameters are a linear fit; the best
    rate is taken (Golub and Pereyra 1973).
    """
    sizes = np.arange(1, reached.shape[1] + 1)
    best = np.full(len(reached), np.inf)
    found = np.zeros((2, len(reached)))
    for rate in RATES:
        design = np.stack([np.ones(len(sizes)), -(sizes**-rate)], axis=1)
        parameters = np.linalg.pinv(design) @ reached.T  # (2, curves)
        error = ((design @ parameters - reached.T) ** 2).sum(axis=0)
        nearer = error < best
        best = np.where(nearer, error, best)
        found[:, nearer] = np.stack([parameters[1, nearer], np.full(int(nearer.sum()), rate)])
    return found[0], found[1]


def _bounds(trial: TrialRecord, evidence: Evidence) -> tuple[float | None, float | None]:
    votes = evidence.logits_of(trial)
    if votes is None:
        return None, None
    sizes = [scores.size for scores in trial.frontier]
    biases = [votes.bias("validation", size=size) for size in sizes]
    shares = right_shares(votes.validation, votes.validation_labels, sizes=sizes, metric=votes.metric, biases=biases)
    low, high = np.quantile(next_gain(_resamples(shares.shape[1]) @ shares.T), (0.025, 0.975))
    return float(low), float(high)


@lru_cache(maxsize=1)
def _resamples(rows: int) -> NDArray[np.float64]:
    """Return the share of each row in each resample, (resamples, rows). Multiply by it to resample a metric."""
    drawn = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)
    return np.asarray(drawn / rows)
