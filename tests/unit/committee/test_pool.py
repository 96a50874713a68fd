"""What may be chosen: each committee size by itself, against the constraints of the study."""

from dataclasses import replace

import builders
import pytest

from tlm_search.committee.pool import pool_of
from tlm_search.committee.select import select
from tlm_search.space.objectives import read_constraints


def pool(trials, *constraints, reference=None, **limits):
    return pool_of(trials, reference, constraints=read_constraints(list(constraints)), **limits)


def sizes(pool):
    return {candidates[0].trial.number: [c.size for c in candidates] for candidates in pool.by_trial}


def test_a_smaller_committee_of_a_trial_that_misses_a_constraint_may_be_chosen():
    large, small = builders.trial(0, heads=8, committee_size=4), builders.trial(1, heads=2, committee_size=2)
    bound = large.metrics["parameters"] / 2
    found = pool([large, small], f"parameters <= {bound}")
    assert sizes(found) == {0: [1, 2], 1: [1, 2]}
    assert found.reasons == (
        f"2 of 6 committees left out by the constraints of the study (parameters <= {bound!r}); 2 of 2 configurations "
        "can still be chosen.",
    )
    assert [c.size for c in found.best()] == [2, 2]


def test_nothing_that_is_allowed_is_said_and_nothing_is_chosen():
    trials = [builders.trial(0), builders.trial(1, heads=8)]
    selection = select(trials, None, constraints=read_constraints(["parameters <= 1"]))
    assert selection.choices == ()
    assert selection.reasons == (
        "No committee of 2 configurations meets the constraints of the study (parameters <= 1.0).",
    )


def test_what_was_not_measured_of_a_size_keeps_to_nothing():
    trial = builders.trial(0, committee_size=4)
    assert sizes(pool([trial], "latency_ms <= 1000")) == {0: [4]}
    measured = replace(trial, frontier=tuple(row.having({"latency_ms": 0.1 * row.size}) for row in trial.frontier))
    assert sizes(pool([measured], "latency_ms <= 1000")) == {0: [1, 2, 3, 4]}


@pytest.mark.parametrize("metric", ["validation_cross_entropy", "training_flops", "training_seconds"])
def test_every_other_metric_is_known_of_each_size(metric):
    trial = builders.trial(0, committee_size=4)
    assert sizes(pool([trial], f"{metric} <= 1e30")) == {0: [1, 2, 3, 4]}
    assert sizes(pool([trial], f"{metric} <= -1")) == {}


def test_the_reference_sets_the_bound_where_it_has_a_result():
    weak, strong = builders.trial(0, heads=2, committee_size=1), builders.trial(1, heads=8, committee_size=8)
    reference = builders.reference(heads=4, pretrain_size=0)
    accuracy = reference.metrics["validation_accuracy"]
    assert weak.metrics["validation_accuracy"] < accuracy < strong.metrics["validation_accuracy"]
    found = sizes(pool([weak, strong], "beats_reference", reference=reference))
    assert list(found) == [1]
    assert found[1] == [row.size for row in strong.frontier if row.figures["validation_accuracy"] >= accuracy]
    assert sizes(pool([weak, strong], "beats_reference")) == {}
    failed = replace(reference, state="failed", frontier=())  # it failed after its first members
    assert sizes(pool([weak, strong], "beats_reference", reference=failed)) == {}


def test_a_whole_committee_is_judged_by_what_the_search_saw():
    trial = builders.trial(0, committee_size=2)
    rounded = replace(
        trial,
        frontier=(*trial.frontier[:-1], trial.frontier[-1].having({"validation_accuracy": 0.666667})),
        metrics={**trial.metrics, "validation_accuracy": 2 / 3},
    )
    assert 2 in sizes(pool([rounded], f"validation_accuracy <= {2 / 3!r}"))[0]


def test_limits_are_put_on_what_the_constraints_leave():
    trials = [builders.trial(0, committee_size=4), builders.trial(1, heads=8, committee_size=1)]
    one = trials[0].metrics["parameters"] / 4
    found = pool(trials, f"parameters <= {2 * one}", max_parameters=one)
    assert trials[1].metrics["parameters"] > one
    assert sizes(found) == {0: [1]}
