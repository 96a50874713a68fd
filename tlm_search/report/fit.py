"""How much larger committees could reach: a saturating curve through a frontier, and how sure its end is.

accuracy(k) = asymptote - gap * k ** -rate. For the variance of a mean of k independent votes the rate is 1; correlated
members saturate sooner, small committees of confident members later.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlm_search.committee.frontier import right_shares
from tlm_search.report.evidence import Evidence
from tlm_search.report.tables import label_of
from tlm_search.search.record import StudyRecord, TrialRecord

LEAST_SIZES = 4  # three parameters, and one more
MAX_CONFIGURATIONS = 6
RATES = np.geomspace(0.5, 3.0, 26)
RESAMPLES = 400

Curves = NDArray[np.float64]  # (curves, sizes)


def saturation_table(record: StudyRecord, trials: Sequence[TrialRecord], evidence: Evidence) -> pd.DataFrame:
    """Return the fitted curve of each of the first ``trials``: asymptote, gap and rate, all of test accuracy.

    ``low`` and ``high`` are the 95% percentile bootstrap of the asymptote over the test rows: the rows are redrawn and
    the curve is fitted anew. They say nothing about other members. Without logits they are missing. ``next_gain`` is
    the accuracy that the curve promises for twice the members, minus that of all members.
    """
    rows: list[tuple[int | str | float | None, ...]] = []
    for trial in trials:
        if len(trial.frontier) < LEAST_SIZES or len(rows) == MAX_CONFIGURATIONS:
            continue
        reached = np.array([[row["test_accuracy"] for row in trial.frontier]])
        asymptote, gap, rate = (float(part[0]) for part in fit(reached))
        low, high = _bounds(trial, evidence)
        size = len(trial.frontier)
        gain = gap * (size**-rate - (2 * size) ** -rate)
        rows.append(
            (trial.number, label_of(record, trial), size, float(reached[0, -1]), asymptote, low, high, gap, rate, gain)
        )
    columns = [
        "trial",
        "configuration",
        "members",
        "test_accuracy",
        "asymptote",
        "low",
        "high",
        "gap",
        "rate",
        "next_gain",
    ]
    return pd.DataFrame(rows, columns=columns).astype({"low": "float64", "high": "float64"})


def fit(reached: Curves) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return asymptote, gap and rate of the curve nearest to each row of ``reached`` (curves, sizes 1..K).

    Least squares, by variable projection: for each rate on a grid the other two are a linear fit, and the best rate is
    taken (Golub and Pereyra 1973). An asymptote above 1 is cut to 1.
    """
    sizes = np.arange(1, reached.shape[1] + 1)
    best = np.full(len(reached), np.inf)
    found = np.zeros((3, len(reached)))
    for rate in RATES:
        design = np.stack([np.ones(len(sizes)), -(sizes**-rate)], axis=1)
        parameters = np.linalg.pinv(design) @ reached.T  # (2, curves)
        error = ((design @ parameters - reached.T) ** 2).sum(axis=0)
        nearer = error < best
        best = np.where(nearer, error, best)
        found[:, nearer] = np.stack([*parameters[:, nearer], np.full(int(nearer.sum()), rate)])
    return np.minimum(found[0], 1.0), found[1], found[2]


def _bounds(trial: TrialRecord, evidence: Evidence) -> tuple[float | None, float | None]:
    votes = evidence.votes_of(trial)
    if votes is None:
        return None, None
    sizes = [row["size"] for row in trial.frontier]
    shares = right_shares(votes.test, votes.test_labels, sizes=sizes)
    asymptotes, _, _ = fit(_resamples(shares.shape[1]) @ shares.T)
    low, high = np.quantile(asymptotes, (0.025, 0.975))
    return float(low), float(high)


@lru_cache(maxsize=1)
def _resamples(rows: int) -> NDArray[np.float64]:
    """Return how often each row is drawn, as a share, so that a resample is one product: (resamples, rows)."""
    drawn = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)
    return np.asarray(drawn / rows)
