"""The benchmark of the intervals, small: enough to see a formula that is wrong, not a percent."""

import importlib.util
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("coverage_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("name", ["usual", "unequal members"])
def test_intervals_hold_the_true_accuracy(benchmark, name):
    world = next(world for world in benchmark.WORLDS if world.name == name)
    rows = benchmark.coverage(world, simulations=120, draws=100_000)
    assert [row.size for row in rows] == list(range(1, world.members + 1))
    # 120 simulations at 95%: outside of 88% to 100% once in a thousand
    assert all(row.coverage >= 0.88 for row in rows)
    assert sum(row.coverage for row in rows) / len(rows) < 0.995
    assert all(later.truth > earlier.truth for earlier, later in itertools.pairwise(rows))


@pytest.mark.parametrize(("name", "metric"), [("rare labels", "macro_f1"), ("30 of 1,000", "f1")])
def test_intervals_hold_the_truth_of_other_metrics(benchmark, monkeypatch, name, metric):
    monkeypatch.setattr(benchmark, "COMMITTEES", 20)
    world = next(w for w in benchmark.OTHER_METRICS if (w.name, w.metric) == (name, metric))
    rows = benchmark.coverage(replace(world, members=2), simulations=60)
    # 60 simulations at 95%: below 83% once in a thousand
    assert all(row.coverage >= 0.83 for row in rows)
    assert all(later.truth > earlier.truth for earlier, later in itertools.pairwise(rows))


@pytest.mark.parametrize("texts", [40, 200])
def test_paired_intervals_hold_the_true_difference_and_few_that_are_worse_match(benchmark, texts):
    row = benchmark.paired(texts, 0.01, 0.031, simulations=200)
    assert row.coverage >= 0.9
    assert row.matched <= 0.06  # it was 27% at 40 texts before a row of each extreme was added


def test_chosen_members_are_lucky_and_fresh_ones_are_not(benchmark):
    row = benchmark.searched("alike", 10, 1, simulations=60, draws=50_000)
    assert row.search_bias > 0.015
    assert row.search_coverage < 0.8
    # 60 simulations at 95%: below 83% once in a thousand
    assert row.fresh_coverage >= 0.83
    assert abs(row.fresh_bias) < 0.01
