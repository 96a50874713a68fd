"""Whether one of two answers faster: the latency saved, with an interval from the scatter of latencies themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tlm_search.committee.candidates import candidates, configurations
from tlm_search.committee.effect import Effect
from tlm_search.search.record import StudyRecord

WORTH = 0.05  # of the latency: to save less is not to be faster
_LEAST_SIZES = 3  # that tell a straight line from the error of measurement


def latency_saved(record: StudyRecord, ours: float, theirs: float) -> Effect | None:
    """Return which share of the latency ``theirs`` is saved by ``ours``, with its 95% interval.

    Latencies of committees of 1, 2, ... members grow straight, and what they lie off that line, in shares of the
    latency, is taken for the error of each measurement. The error of the logarithm of the ratio is then that of two
    measurements, with Student's t. None where no configuration was measured at three sizes or more.
    """
    series = {
        tuple(c.latency_ms for c in candidates(trial) if c.latency_ms is not None)
        for trial in configurations(record.trials)
    }
    errors = [_errors(latencies) for latencies in series if len(latencies) >= _LEAST_SIZES]
    if not errors:
        return None
    from scipy.special import stdtrit

    freedom = sum(len(shares) - 2 for shares in errors)
    deviation = (sum(float((shares**2).sum()) for shares in errors) / freedom) ** 0.5
    off = float(stdtrit(freedom, 0.975)) * deviation * 2**0.5
    ratio = ours / theirs
    return Effect(1 - ratio, 1 - ratio * np.exp(off), 1 - ratio * np.exp(-off), freedom)


def _errors(latencies: Sequence[float]) -> np.ndarray:
    """Return what each latency lies off the straight line through all, as shares of the line."""
    sizes = np.arange(1, len(latencies) + 1)
    line = np.polyval(np.polyfit(sizes, latencies, 1), sizes)
    return np.asarray((np.asarray(latencies) - line) / line)
