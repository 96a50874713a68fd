"""Helpers: workers without a trial train members of running trials, which changes no result."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driven import REFERENCE, SEARCH, Bench, Stacking, results

from tlm_search.search.driver import Driver
from tlm_search.search.job import Failure, Job
from tlm_search.search.trial import Rung, run_trial, trial_specs
from tlm_search.search.work_stealing import MOST_DEATHS, Help, help_trial

MakeBench = Callable[..., Bench]

POINT = {"depth": 1, "heads": 2, "pretrain_size": 0, "committee_size": 4}
FOUR: dict[str, Any] = {"points": [POINT]}


def at(place: Bench, job: Job) -> dict[str, Any]:
    there = {"seed": 0, "data": place.data, "store": place.store, "trainer": place.trainer}
    return {**there, "chunks": job.chunks, "attempt": job.attempt}


def rungs_of(place: Bench, job: Job, *, prunable: bool = True) -> Iterator[Rung]:
    return run_trial(job.settings, prunable=prunable, **at(place, job))


def help_of(place: Bench, job: Job) -> Iterator[Help]:
    return help_trial(job.settings, **at(place, job))


def begin(driver: Driver, key: str) -> Job:
    job = driver.next_job(key)
    assert job is not None
    return job


def test_who_has_no_trial_to_begin_helps_one_that_runs(bench: MakeBench) -> None:
    driver = bench(**FOUR).driver(1)
    trial = begin(driver, "trial")
    assert not trial.helping
    for key in ("one", "two", "three"):  # the trial itself trains the fourth member
        helper = begin(driver, key)
        assert (helper.helping, helper.settings) == (True, trial.settings)
        assert helper.title == "helper of trial 0"
        assert driver.runs(key)
        assert driver.settings_of(key) == trial.settings
    assert driver.next_job("four") is None
    assert not driver.ended


def test_those_who_have_most_left_are_helped_first_the_reference_too(bench: MakeBench) -> None:
    place = bench(reference={**REFERENCE, "committee_size": 3}, **FOUR)
    driver = place.driver(1)
    reference, trial = begin(driver, "reference"), begin(driver, "trial")
    assert driver.on_rung("trial", next(rungs_of(place, trial)))  # so that three members are left in each
    assert {begin(driver, key).number for key in ("one", "two")} == {reference.number, trial.number}


@pytest.mark.parametrize(
    "sections",
    [
        {"pruner": "median", "objectives": ["validation_accuracy"]},
        {"resources": {"gpus_per_trial": 1}},
        {"points": [{**POINT, "committee_size": 1}]},
    ],
    ids=["pruned", "on a GPU", "one member"],
)
def test_nobody_helps_where_it_might_be_in_vain(bench: MakeBench, sections: dict[str, Any]) -> None:
    driver = bench(**{**FOUR, **sections}).driver(1)
    begin(driver, "trial")
    assert driver.next_job("helper") is None


def test_a_trial_that_is_helped_is_the_trial_that_was_not(bench: MakeBench, tmp_path: Any) -> None:
    """Its values, its members, and the number of members trained for it."""
    place = bench(**FOUR)
    driver = place.driver(1)
    trial = begin(driver, "trial")
    rungs, members = rungs_of(place, trial), help_of(place, begin(driver, "helper"))
    assert driver.on_rung("trial", next(rungs))
    for member in (3, 2):
        given = next(members)
        assert given.member == member
        assert driver.on_help("helper", given)
    assert driver.on_rung("trial", next(rungs))
    assert driver.progress.trained == 2  # members 0 and 1: neither the helper's nor requested yet
    last = next(members)
    assert last == Help(None)
    assert not driver.on_help("helper", last)
    assert not driver.runs("helper")
    assert not driver.on_rung("trial", next(rungs))
    assert driver.ended

    other = Bench(tmp_path / "other", place.space)
    alone = other.drive(1)
    assert results(driver._ledger) == results(alone._ledger)
    for record, expected in zip(driver._ledger.trials, alone._ledger.trials, strict=True):
        own, others = (dict(trial.user_attrs) for trial in (record, expected))
        for attributes in (own, others):
            del attributes["seconds"]
        assert own == others
    assert own["trained"] == 4
    assert driver.progress.tokens == alone.progress.tokens > 0
    assert (driver.progress.trained, driver.progress.reused) == (4, 0)


@pytest.mark.parametrize(("slots", "jobs", "chunks"), [(1, 3, 1), (2, 3, 1), (3, 3, 1), (6, 3, 2), (64, 3, 21)])
def test_a_trial_leaves_parts_of_itself_to_places_that_no_trial_will_take(
    bench: MakeBench, slots: int, jobs: int, chunks: int
) -> None:
    place = bench(points=[POINT, {**POINT, "heads": 4}], search=SEARCH, reference=REFERENCE)
    driver = place.driver(jobs - 1)
    driver.progress.slots = slots
    assert [begin(driver, key).chunks for key in ("reference", "one", "two")] == 3 * [chunks]


def test_the_last_trials_have_the_most_parts(bench: MakeBench) -> None:
    place = bench(points=[POINT, {**POINT, "heads": 4}], search=SEARCH)
    driver = place.driver(2)
    driver.progress.slots = 2
    first = begin(driver, "first")
    for rung in rungs_of(place, first):
        driver.on_rung("first", rung)
    assert (first.chunks, begin(driver, "second").chunks) == (1, 2)


def test_a_grid_that_is_smaller_than_the_budget_is_all_that_is_left(bench: MakeBench) -> None:
    search = {**SEARCH, "depth": 1, "heads": {"choices": [1, 2, 4]}, "pretrain_size": 0, "committee_size": 4}
    place = bench(search=search, sampler="grid", reference=REFERENCE)
    driver = place.driver(50)
    driver.progress.slots = 8
    jobs = {key: begin(driver, key) for key in ("reference", "one", "two")}
    assert [job.chunks for job in jobs.values()] == [2, 2, 2]
    for key in ("reference", "one", "two"):
        for rung in rungs_of(place, jobs[key]):
            driver.on_rung(key, rung)
    assert begin(driver, "three").chunks == 8
    assert begin(driver, "helper").helping


def test_a_reference_that_all_trials_wait_for_has_all_places(bench: MakeBench) -> None:
    driver = bench(
        reference={**REFERENCE, "committee_size": 4},
        constraints=["beats_reference"],
    ).driver(8)
    driver.progress.slots = 4
    assert begin(driver, "reference").chunks == 4
    assert begin(driver, "helper").helping


@pytest.mark.parametrize(
    "sections", [{"pruner": "median", "objectives": ["validation_accuracy"]}, {"resources": {"gpus_per_trial": 1}}]
)
def test_a_trial_that_nobody_helps_is_one_part(bench: MakeBench, sections: dict[str, Any]) -> None:
    driver = bench(**FOUR, **sections).driver(1)
    driver.progress.slots = 8
    assert begin(driver, "trial").chunks == 1


def test_a_helper_takes_a_part_of_a_trial_that_is_trained_as_one_model(bench: MakeBench) -> None:
    place = bench(**FOUR)
    place.trainer = trainer = Stacking(8)
    driver = place.driver(1)
    driver.progress.slots = 2
    trial = begin(driver, "trial")
    rungs, helped = rungs_of(place, trial, prunable=False), help_of(place, begin(driver, "helper"))
    first = next(helped)
    assert first.member == 2
    assert driver.on_help("helper", first)
    assert driver.on_rung("trial", next(rungs))
    assert trainer.trained == [2, 2]
    assert next(helped) == Help(None)
    last = list(rungs)[-1]
    assert (last.trained, last.reused, last.done) == (4, 0, True)
    assert trainer.trained == [2, 2]


def test_what_was_trained_is_counted_whoever_is_heard_first(bench: MakeBench, tmp_path: Any) -> None:
    """Ray may report the trial's last rung before it reports what a helper did for it."""
    place = bench(**FOUR)
    driver = place.driver(1)
    rungs, members = rungs_of(place, begin(driver, "trial")), help_of(place, begin(driver, "helper"))
    unheard = [next(members) for _ in range(3)]
    while driver.on_rung("trial", next(rungs)):
        pass
    assert not driver.on_help("helper", unheard[0])
    assert driver._ledger.trials[0].user_attrs["trained"] == 4
    assert (driver.progress.trained, driver.progress.reused) == (4, 0)
    assert driver.progress.tokens == Bench(tmp_path / "other", place.space).drive(1).progress.tokens


@pytest.mark.parametrize(
    "sections", [FOUR, {"reference": {**REFERENCE, "committee_size": 4}}], ids=["a trial", "the reference"]
)
def test_what_was_trained_for_an_attempt_that_died_is_reused_by_the_next(
    bench: MakeBench, sections: dict[str, Any]
) -> None:
    place = bench(**sections)
    driver = place.driver(1)
    job = begin(driver, "job")
    next(help_of(place, job))
    driver.on_lost("job", "its worker died")
    again = begin(driver, "again")
    assert (again.settings, again.number is None) == (job.settings, job.number is None)
    last = list(rungs_of(place, again))[-1]
    assert (last.trained, last.reused) == (3, 1)


def test_a_helper_takes_only_what_nobody_has_begun(bench: MakeBench) -> None:
    place = bench(**FOUR)
    driver = place.driver(1)
    job = begin(driver, "trial")
    next(rungs_of(place, job))
    specs = trial_specs(job.settings, seed=0, data=place.data, trainer=place.trainer)
    with place.store.lock("members", specs[2].digest):
        assert [given.member for given in help_of(place, job)] == [3, 1, None]
    assert [given.member for given in help_of(place, job)] == [2, None]


def test_a_trial_is_not_helped_again_once_a_helper_found_nothing(bench: MakeBench) -> None:
    driver = bench(**FOUR).driver(1)
    begin(driver, "trial")
    begin(driver, "helper")
    assert not driver.on_help("helper", Help(None))
    assert driver.next_job("another") is None
    assert not driver.ended


@pytest.mark.parametrize("how", ["died", "failed"])
def test_a_helper_that_dies_or_fails_is_not_missed(bench: MakeBench, how: str) -> None:
    place = bench(**FOUR)
    driver = place.driver(1)
    rungs = rungs_of(place, begin(driver, "trial"))
    begin(driver, "helper")
    if how == "died":
        driver.on_lost("helper", "its worker died")
    else:
        driver.on_failure("helper", Failure("the loss is not a number at update 3"))
    assert not driver.runs("helper")
    if how == "failed":  # another helper would fail too
        assert driver.next_job("another") is None
    while driver.on_rung("trial", next(rungs)):
        pass
    assert driver.ended
    assert (driver.progress.complete, driver.progress.failed, driver.progress.trained) == (1, 0, 4)


def test_a_helper_that_died_is_replaced_but_not_for_ever(bench: MakeBench) -> None:
    driver = bench(**FOUR).driver(1)
    begin(driver, "trial")
    for attempt in range(MOST_DEATHS):
        assert begin(driver, f"helper {attempt}").helping
        driver.on_lost(f"helper {attempt}", "its worker died")
    assert driver.next_job("another") is None  # the memory may be too small for two workers


@pytest.mark.parametrize("why", ["its trial died", "its trial failed", "the study was stopped"])
def test_a_helper_that_is_not_needed_any_more_stops_after_its_member(bench: MakeBench, why: str) -> None:
    place = bench(**FOUR)
    driver = place.driver(1)
    begin(driver, "trial")
    members = help_of(place, begin(driver, "helper"))
    if why == "its trial died":
        driver.on_lost("trial", "its worker died")
    elif why == "its trial failed":
        driver.on_failure("trial", Failure("no luck"))
    else:
        driver.stop("the user said so")
    assert not driver.on_help("helper", next(members))
    assert not driver.runs("helper")
    if why == "its trial died":
        again = begin(driver, "again")  # it finds the member that the helper trained
        assert not again.helping
        assert list(rungs_of(place, again))[-1].reused == 1


def test_trials_that_wait_come_before_help(bench: MakeBench) -> None:
    """A study continues with trials that died, and helpers make room for them."""
    place = bench(points=[POINT, {**POINT, "heads": 4}], search=SEARCH)
    driver = place.driver(2)
    first, _ = begin(driver, "first"), begin(driver, "second")
    members = help_of(place, begin(driver, "helper"))
    assert driver.on_help("helper", next(members))
    driver.on_lost("second", "its node died")
    assert driver.on_help("helper", next(members)) is False
    assert begin(driver, "again").number not in (first.number, None)
    assert begin(driver, "helper again").number == first.number  # this trial did not die
