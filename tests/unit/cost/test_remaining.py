"""The time left: a guess first, then what the run's own jobs took; the interval holds the truth."""

import random
from typing import Any

import pytest
from driven import REFERENCE, space_of

from tlm_search.cost.plan import DataSizes
from tlm_search.cost.remaining import Costs, Left, Outlook, Taken, costs_of

SIZES = DataSizes(vocabulary=100, length=8, labels=4, train_rows=40)


def settings(size: int = 1, cost: float = 1.0) -> dict[str, Any]:
    return {"committee_size": size, "cost": cost}


def costs(*, trial: float = 10.0, spread: float = 0.5, reference_try: float = 40.0) -> Costs:
    return Costs(lambda given: float(given["cost"]), lambda given: 0.8, trial, spread, reference_try, known=True)


def trial(
    seconds: float,
    *,
    done: float | None = None,
    worked: float | None = None,
    cost: float = 10.0,
    reference: bool = False,
    start: float = 0.0,
) -> Taken:
    """A trial that has ended, or of which the part ``done`` is done; by default this run ``worked`` on all of it."""
    part = 1.0 if done is None else done
    own = part if worked is None else worked
    return Taken(settings(cost=cost), reference, seconds, part, own, start, over=done is None)


def left(outlook: Outlook, *jobs: Taken, trials: int = 0, tries: int = 0, slots: int = 1) -> Left:
    found = outlook.left(jobs, trials=trials, tries=tries, slots=slots)
    assert found is not None
    return found


def test_before_anything_ran_it_is_the_guess_and_as_wide() -> None:
    found = left(Outlook(costs), trials=6, tries=1, slots=2)
    assert found.seconds == (6 * 10 + 40) / 2
    assert found.high / found.low > 4


def test_without_a_guess_nothing_is_said_before_something_ended() -> None:
    outlook = Outlook()
    assert outlook.left([], trials=5, tries=0, slots=1) is None
    assert outlook.left([trial(3, done=0)], trials=5, tries=0, slots=1) is None
    assert left(outlook, trial(3), trials=5).seconds == pytest.approx(15)


def test_what_ended_tells_the_speed_and_makes_the_interval_narrow() -> None:
    outlook = Outlook(costs)
    widths = []
    for ended in (0, 1, 4, 16):
        found = left(outlook, *[trial(30)] * ended, trials=8)
        widths.append(found.high / found.low)
        assert found.seconds == pytest.approx(8 * 30 if ended else 8 * 10, rel=0.1)
    assert widths == sorted(widths, reverse=True)


def test_a_reference_under_way_tells_it_too() -> None:
    found = left(Outlook(costs), trial(20, done=0.25, cost=40, reference=True), trials=3)
    assert found.seconds == pytest.approx(60 + 3 * 10 * 2, rel=0.2)  # it takes twice as long as guessed


def test_what_a_checkpoint_held_tells_nothing_of_the_speed() -> None:
    """A worker that continues from a checkpoint seems to have done half of its job after one second."""
    resumed = trial(1, done=0.51, worked=0.01, cost=40, reference=True)
    assert left(Outlook(costs), resumed, trials=3).seconds == pytest.approx(0.49 * 40 + 3 * 10, rel=0.1)
    later = trial(20, done=0.75, worked=0.25, cost=40, reference=True)
    assert left(Outlook(costs), later).seconds == pytest.approx(20, rel=0.2)


def test_members_from_the_store_make_no_machine_faster_but_trials_cheaper() -> None:
    reused = [trial(0.5, worked=0.0)] * 6
    found = left(Outlook(costs), trial(10), *reused, trials=7)
    assert 7 * 10 / 3 < found.seconds < 7 * 10


def test_a_sampler_that_prefers_costly_trials_has_more_to_do() -> None:
    costly = [trial(30, cost=30)] * 6
    assert left(Outlook(costs), *costly, trials=5).seconds == pytest.approx(5 * 20, rel=0.1)


def test_the_first_updates_alone_do_not_double_the_time() -> None:
    slow = trial(2, done=0.05, cost=10)  # four times slower than guessed, while its worker warms up
    assert left(Outlook(costs), slow, trials=10).seconds < 2.5 * left(Outlook(costs), trials=11).seconds


def test_the_start_of_a_job_counts_for_those_to_come() -> None:
    ended = [trial(10, start=5.0)] * 12
    found = left(Outlook(costs), *ended, trials=12)
    assert found.seconds == pytest.approx(12 * (10 + 5), rel=0.2)
    assert found.seconds > 12 * 12


def test_trials_that_are_pruned_early_leave_less_to_do() -> None:
    pruned = Taken(settings(cost=10), False, 5.0, 0.25, 0.25, over=True)
    found = left(Outlook(costs), *[pruned] * 9, trials=10)
    assert found.seconds == pytest.approx(10 * 20 * (1 + 9 * 0.25) / 10, rel=0.05)


def test_nothing_ends_before_its_longest_job() -> None:
    jobs = [trial(10, done=0.1), trial(10, done=0.5)]
    assert left(Outlook(costs), *jobs, slots=2).seconds == pytest.approx(55, rel=0.3)
    assert left(Outlook(costs), trials=1, tries=1, slots=8).seconds == pytest.approx(40)
    even = [trial(10, done=0.1), trial(90, done=0.9)]
    assert left(Outlook(costs), *even, slots=2).seconds == pytest.approx(90, rel=0.1)


def test_a_job_beyond_its_expected_time_still_takes_some() -> None:
    assert left(Outlook(costs), trial(1000, done=0.0)).seconds == 1.0


def test_the_part_of_a_job_that_is_done() -> None:
    outlook = Outlook(costs)

    def done(phase_done: float, first: int, last: int, *, pretrains: bool) -> float:
        return outlook.done(settings(size=8), phase_done, first=first, last=last, pretrains=pretrains)

    assert done(0.5, 1, 8, pretrains=True) == pytest.approx(0.4)
    assert done(0.5, 1, 8, pretrains=False) == pytest.approx(0.9)
    assert done(0.0, 5, 8, pretrains=True) == pytest.approx(0.5)
    assert done(1.0, 5, 8, pretrains=False) == 1


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("ended", [0, 3, 10])
def test_the_interval_holds_the_truth_in_about_four_of_five_runs(slots: int, ended: int) -> None:
    generator, held, runs = random.Random(0), 0, 300
    for _ in range(runs):
        speed = generator.lognormvariate(0, 0.6)  # the speed of the machine, which is unknown at the start

        def drawn(count: int, speed: float = speed) -> list[Taken]:
            found = (10 * generator.uniform(0.2, 1.8) for _ in range(count))
            return [trial(cost * speed, cost=cost) for cost in found]

        before, after = drawn(ended), drawn(12)
        ends = [0.0] * slots
        for job in after:
            ends[ends.index(min(ends))] += job.seconds
        found = left(Outlook(costs), *before, trials=12, slots=slots)
        held += found.low <= max(ends) <= found.high
    assert 0.65 <= held / runs <= 0.99


def test_costs_are_those_of_the_plan() -> None:
    space = space_of(reference=REFERENCE, budget={"trials": 20}, trainer="bert")
    found = costs_of(space, SIZES)
    assert found.known
    cheap = space.settings({"depth": 1, "heads": 1, "pretrain_size": 0, "committee_size": 1})
    costly = space.settings({"depth": 2, "heads": 4, "pretrain_size": 1000, "committee_size": 4})
    assert found.of(cheap) < found.trial < found.of(costly)
    assert found.pretraining(cheap) == 0
    assert 0 < found.pretraining(costly) < 1
    assert 0 < found.spread < 2
    assert found.reference_try > found.of(cheap)
