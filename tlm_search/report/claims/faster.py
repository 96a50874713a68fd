"""Estimate the latency that a committee saves, with an interval from the scatter of the study's latencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tlm_search.committee.candidates import candidates, configurations
from tlm_search.committee.effect import Effect
from tlm_search.study.record import StudyRecord

WORTH = 0.05  # of the latency: a committee that saves less is not called faster
_LEAST_SIZES = 3  # two sizes always lie on a line


def latency_saved(record: StudyRecord, ours: float, theirs: float) -> Effect | None:
    """Return the share of the latency ``theirs`` that ``ours`` saves, with its 95% interval. Both are in ms.

    The latencies of committees of 1, 2, ... members grow linearly. Their distances from the fitted line, as shares of
    it, estimate the error of one measurement. The logarithm of the ratio has the error of two, with Student's t. Return
    None if no configuration was measured at three sizes or more.
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
    """Return the distance of each latency from the straight line through all, as a share of the line."""
    sizes = np.arange(1, len(latencies) + 1)
    line = np.polyval(np.polyfit(sizes, latencies, 1), sizes)
    return np.asarray((np.asarray(latencies) - line) / line)
