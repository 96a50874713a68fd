"""Predicted time: no more runs at once than there is, and nothing ends before its longest piece."""

from typing import Any

import pytest
from driven import space_of

from tlm_search.cost.plan import DataSizes, plan
from tlm_search.cost.wall_time import wall_seconds
from tlm_search.space.schema import Space

SIZES = DataSizes(vocabulary=100, length=8, labels=4, train_rows=40)
SIXTEEN: dict[str, Any] = {"depth": 1, "heads": 1, "pretrain_size": 0, "committee_size": 16}


class Clock:
    """A fine-tuning takes 60 s for each layer; measuring latencies takes no time."""

    def pretraining(self, spec: Any, members: int) -> float:
        return 0.0

    def finetuning(self, spec: Any, members: int) -> float:
        return 60.0 * float(spec.architecture.depth) * members

    def latencies(self, size: int) -> float:
        return 0.0


def expected(concurrent: int, space: Space) -> float:
    return wall_seconds(plan(space, SIZES, Clock()), space, concurrent=concurrent)["expected"]


def one_trial(**sections: Any) -> Space:
    return space_of(search=SIXTEEN, budget={"trials": 1}, **sections)


@pytest.mark.parametrize(("cores", "minutes"), [(1, 16), (4, 4), (64, 1)])
def test_a_trial_whose_members_are_trained_at_once_takes_as_long_as_the_cores_allow(cores: int, minutes: int) -> None:
    assert expected(cores, one_trial()) == 60 * minutes


@pytest.mark.parametrize(("cores", "minutes"), [(1, 16), (2, 8), (4, 4), (64, 1)])
def test_a_trial_that_stacks_its_members_is_cut_into_parts_for_the_cores(cores: int, minutes: int) -> None:
    costs = plan(one_trial(), SIZES, Clock())
    assert wall_seconds(costs, one_trial(), concurrent=cores, stacked=8)["expected"] == 60 * minutes


@pytest.mark.parametrize(
    ("cores", "one_by_one", "stacked"),
    [
        (2, 8 * 3 / 2, 8 * 3 / 2),
        (4, 8 * 3 / 4, 8),  # each trial is one stack, so the fourth core has nothing to do
        (16, 8 * 3 / 16, 2),  # five parts each, with at most two members
    ],
)
def test_cores_take_no_less_than_a_stack(cores: int, one_by_one: float, stacked: float) -> None:
    """Three trials of eight members, which take a minute each."""
    space = space_of(search={**SIXTEEN, "heads": {"choices": [1, 2, 4]}, "committee_size": 8}, budget={"trials": 3})
    costs = plan(space, SIZES, Clock())
    wall = {stack: wall_seconds(costs, space, concurrent=cores, stacked=stack)["at_most"] for stack in (1, 8)}
    assert wall == {1: 60 * one_by_one, 8: 60 * stacked}


@pytest.mark.parametrize("alone", [{"pruner": "median"}, {"resources": {"gpus_per_trial": 1}}])
def test_where_nobody_helps_a_trial_takes_its_time(alone: dict[str, Any]) -> None:
    assert expected(64, one_trial(**alone)) == 16 * 60


def test_the_reference_takes_its_time_too() -> None:
    assert expected(64, one_trial(reference={"depth": 6, "committee_size": 2})) == 6 * 60
    assert expected(64, one_trial(reference={"depth": 12, "committee_size": 2}, pruner="median")) == 24 * 60


def test_many_trials_fill_the_machine_whether_they_are_helped_or_not() -> None:
    search = {**SIXTEEN, "finetune_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    for pruner in ("none", "median"):
        assert expected(8, space_of(search=search, budget={"trials": 64}, pruner=pruner)) == 64 * 16 * 60 / 8


def test_the_three_times_are_in_order_and_none_is_longer_than_its_work() -> None:
    search = {**SIXTEEN, "depth": {"choices": [1, 4]}, "committee_size": {"choices": [1, 16]}}
    space = space_of(search=search, budget={"trials": 1}, pruner="median")
    costs = plan(space, SIZES, Clock())
    wall = wall_seconds(costs, space, concurrent=64)
    assert wall["at_least"] <= wall["expected"] <= wall["at_most"] == 16 * 4 * 60
    assert wall["expected"] == costs.expected.seconds


def test_the_tries_of_the_reference_run_side_by_side() -> None:
    rate = {"low": 1e-4, "high": 1e-2, "log": True, "role": "nuisance"}
    search = {**SIXTEEN, "committee_size": 1, "finetune_learning_rate": rate}
    reference = {"depth": 6, "finetune_learning_rate": 1e-3, "trials": 4}
    space = space_of(search=search, budget={"trials": 1}, reference=reference)
    assert expected(1, space) == (4 * 6 + 1) * 60
    assert expected(64, space) == 6 * 60
