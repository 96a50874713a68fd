"""What larger committees promise: a saturating curve through a frontier, and how sure its next doubling is.

metric(k) = end - gap * k ** -rate. For the variance of a mean of k independent votes the rate is 1; correlated
members saturate sooner, small committees of confident members later. Where the curve ends is not told: the rate often
lies at an end of its grid. The next doubling is near what was seen.
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

LEAST_SIZES = 4  # three parameters, and one more
MAX_CONFIGURATIONS = 6
RATES = np.geomspace(0.5, 3.0, 26)
RESAMPLES = 400

Curves = NDArray[np.float64]  # (curves, sizes)


def saturation_table(record: StudyRecord, trials: Sequence[TrialRecord], evidence: Evidence) -> pd.DataFrame:
    """Return what twice as many members of each of the first ``trials`` promise, by the curve fitted on validation.

    ``next_gain`` is the metric on validation that the curve promises for twice the members, minus that of all members;
    ``next_low`` and ``next_high`` are its 95% percentile bootstrap over the validation rows: the rows are redrawn and
    the curve is fitted anew. They say nothing about other members. Without logits they are missing.
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
    """Return what the curve through each row of ``reached`` (curves, sizes 1..K) gains from K to 2 K members.

    Nothing above 1 is promised.
    """
    gap, rate = fit(reached)
    members = reached.shape[1]
    gain = gap * (members**-rate - (2.0 * members) ** -rate)
    return np.asarray(np.minimum(gain, 1 - reached[:, -1]))


def fit(reached: Curves) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return gap and rate of the curve nearest to each row of ``reached`` (curves, sizes 1..K).

    Least squares, by variable projection: for each rate on a grid the other two parameters are a linear fit, and the
    best rate is taken (Golub and Pereyra 1973).
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
    sizes = [row["size"] for row in trial.frontier]
    biases = [votes.bias("validation", size=size) for size in sizes]
    shares = right_shares(votes.validation, votes.validation_labels, sizes=sizes, metric=votes.metric, biases=biases)
    low, high = np.quantile(next_gain(_resamples(shares.shape[1]) @ shares.T), (0.025, 0.975))
    return float(low), float(high)


@lru_cache(maxsize=1)
def _resamples(rows: int) -> NDArray[np.float64]:
    """Return how often each row is drawn, as a share, so that a resample is one product: (resamples, rows)."""
    drawn = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)
    return np.asarray(drawn / rows)
