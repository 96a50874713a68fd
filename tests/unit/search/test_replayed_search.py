"""The benchmark of samplers and pruners, small: studies replayed on a made-up table, and the repository's table."""

import dataclasses
import importlib
import sys
from pathlib import Path

import pytest

from tlm_search.space.schema import load_space

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("search")
        for name in ("search", "table"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def shipped(benchmark):
    return benchmark.read_table(BENCHMARKS / "tabulated.csv", BENCHMARKS / "tabulated.yaml")


@pytest.fixture
def made_up(benchmark, shipped):
    """The configurations of the repository's table. Accuracy rises with width, rate and members only."""

    def row(key):
        params = shipped.params(key)
        skill = 0.2 + params["width"] / 1000 + 10 * params["finetune_learning_rate"]
        accuracies = {size: skill + size / 1000 for size in shipped.sizes}
        return dataclasses.replace(shipped.rows[key], validation=accuracies, test=accuracies)

    return dataclasses.replace(shipped, rows={key: row(key) for key in shipped.rows})


def test_the_shipped_table_has_every_configuration_and_size(shipped):
    space = load_space(BENCHMARKS / "tabulated.yaml")
    assert len(shipped.rows) == space.budget.trials
    assert list(shipped.sizes) == [1, 2, 4]
    for row in shipped.rows.values():
        assert list(row.validation) == list(row.test) == [1, 2, 4]
        assert all(0.1 < accuracy < 0.6 for accuracy in (*row.validation.values(), *row.test.values()))
        assert row.finetuning_seconds > 0
    searched = {shipped.key(space.settings(shipped.params(key))) for key in shipped.rows}
    assert searched == set(shipped.rows)


def test_a_rate_between_two_is_read_as_the_nearer(shipped):
    settings = shipped.space.settings(shipped.params(next(iter(shipped.rows))))
    assert shipped.key({**settings, "finetune_learning_rate": 1.8e-3})[-1] == 3e-3
    assert shipped.key({**settings, "finetune_learning_rate": 1.6e-3})[-1] == 1e-3


def test_members_of_a_replayed_study_are_trained_once(benchmark, made_up):
    settings = made_up.space.settings(made_up.params(next(iter(made_up.rows))))
    store = benchmark.Replay(made_up)
    first, second = list(store.rungs(settings)), list(store.rungs(settings))
    assert [(rung.size, rung.done, rung.trained, rung.reused) for rung in first] == [
        (1, False, 1, 0),
        (2, False, 2, 0),
        (4, True, 4, 0),
    ]
    assert (second[-1].trained, second[-1].reused, store.trained) == (0, 4, 4)


@pytest.mark.parametrize("pruner", ["none", "asha", "hyperband"])
def test_a_study_finds_the_best_of_a_table_that_is_easy(benchmark, made_up, pruner):
    contest = benchmark.contests(made_up)["one"]
    assert contest.top == pytest.approx(0.2 + 0.064 + 0.1 + 0.004)
    outcome = benchmark.replay(contest, benchmark.space_of(contest, "tpe", pruner, 0), trials=40)
    assert outcome.score == pytest.approx(contest.top)
    assert outcome.test == outcome.score
    assert outcome.members_to_best <= outcome.members <= 160


def test_every_question_is_answered_for_every_contender(benchmark, made_up):
    contests = benchmark.contests(made_up)
    both = [("random", "none"), ("tpe", "none")]
    others = {"two": [("nsgaii, 8 a generation", "none"), ("grid", "none")], "ranges": [("cmaes", "none")]}
    for name, contest in contests.items():
        pairs = [*both, *others.get(name, [])]
        rows = benchmark.compare(dataclasses.replace(contest, pairs=pairs), trials=4, seeds=2)
        assert [(row["sampler"], row["pruner"]) for row in rows] == pairs
        assert rows[0]["above_random"]["score"] == rows[1]["above_default"]["score"] == (0, 0, 0)
        assert all(0 < row["score"][0] <= contest.top for row in rows)
        assert "above random" in benchmark.show(rows[0])


def test_the_hypervolume_of_a_whole_table_is_one(benchmark, made_up):
    covered = benchmark.contests(made_up)["two"].score
    everything = benchmark.results(made_up, made_up.sizes)
    assert covered(everything) == pytest.approx(1)
    assert 0 < covered(everything[:3]) < 1
    assert covered([]) == 0
