"""How certain it is that one of two answers faster."""

from dataclasses import replace

import builders
import numpy as np
import pytest

from tlm_search.report.claims.claims import latency_saved


def study_with(*series):
    """A study whose configurations have these latencies, in ms by committee size."""
    trials = []
    for number, latencies in enumerate(series):
        trial = builders.trial(
            number, heads=(2, 4, 8)[number % 3], depth=1 + number // 3, committee_size=len(latencies)
        )
        rows = tuple(row.having({"latency_ms": ms}) for row, ms in zip(trial.frontier, latencies, strict=True))
        trials.append(replace(trial, frontier=rows, metrics={**trial.metrics, "latency_ms": latencies[-1]}))
    return builders.study(trials)


def test_latencies_on_a_line_are_exact():
    saved = latency_saved(study_with((1.0, 1.5, 2.0, 2.5)), 1.0, 2.0)
    assert (saved.mean, saved.low, saved.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_interval_grows_with_their_scatter_and_holds_the_truth_95_times_in_100():
    random = np.random.default_rng(0)
    held = []
    for _ in range(300):
        series = [np.arange(1, 9) * slope * random.lognormal(0, 0.04, 8) for slope in (0.1, 0.2)]
        saved = latency_saved(study_with(*series), *(np.array([3.0, 4.0]) * random.lognormal(0, 0.04, 2)))
        held.append(saved.low <= 0.25 <= saved.high)
    assert 0.9 <= np.mean(held) <= 0.99
    assert saved.high - saved.low > 0.05


def test_too_few_sizes_tell_nothing():
    assert latency_saved(study_with((1.0, 1.5)), 1.0, 2.0) is None
