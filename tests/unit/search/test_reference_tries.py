"""A reference with several trials: tries as jobs, kills, failures, and the choice of a try; with simulated members."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driven import SEARCH, Bench, Killed, die_at, results, space_of

from tlm_search.errors import TrainingError
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.search.driver import MOST_ATTEMPTS, Driver
from tlm_search.search.job import Failure, Job
from tlm_search.search.trial import Rung, run_trial
from tlm_search.study.record import StudyRecord, record_of
from tlm_search.study.storages import mend_journal

MakeBench = Callable[..., Bench]

RATE = {"low": 1e-4, "high": 1e-1, "log": True, "role": "nuisance"}
TUNED: dict[str, Any] = {**SEARCH, "finetune_learning_rate": RATE}
REFERENCE = {"depth": 4, "heads": 4, "pretrain_size": 0, "finetune_learning_rate": 5e-2, "trials": 4}
SECTIONS: dict[str, Any] = {"search": TUNED, "reference": REFERENCE}


class Unlucky(SimulatedTrainer):
    """Fails to train deep members whose learning rate is above ``most``."""

    def __init__(self, most: float) -> None:
        self.most = most

    def train(self, specs: Any, **options: Any) -> Any:
        if any(s.architecture.depth == 4 and s.settings.learning_rate > self.most for s in specs):
            raise TrainingError("the loss is not a number at update 3")
        return super().train(specs, **options)


def begin(driver: Driver, key: str) -> Job:
    job = driver.next_job(key)
    assert job is not None
    return job


def rungs_of(place: Bench, job: Job) -> list[Rung]:
    where = {"seed": 0, "data": place.data, "store": place.store, "trainer": place.trainer}
    return list(run_trial(job.settings, **where))


def record(driver: Driver, place: Bench) -> StudyRecord:
    return record_of(driver._ledger.study, place.folder)


def test_all_tries_run_first_and_the_best_on_validation_is_the_reference(bench: MakeBench) -> None:
    place = bench(**SECTIONS)
    driver = place.drive(3)
    expected = place.space.reference_tries()
    noted = [driver._ledger.noted(f"reference try {number}") for number in (1, 2, 3, 4)]
    assert [note["settings"] for note in noted] == list(expected)
    accuracies = [note["metrics"]["validation_accuracy"] for note in noted]
    reference = driver._ledger.noted("reference")
    best = noted[accuracies.index(max(accuracies))]
    assert best is not noted[0]  # a try is better than the given settings
    assert reference == {**best, "tried": reference["tried"]}
    assert reference["tried"] == [
        {
            "settings": {"finetune_learning_rate": note["settings"]["finetune_learning_rate"]},
            "validation_accuracy": note["metrics"]["validation_accuracy"],
            "test_accuracy": note["metrics"]["test_accuracy"],
        }
        for note in noted
    ]
    assert driver.progress.reference == reference["metrics"]
    assert (driver.progress.reference_done, driver.progress.reference_tries) == (4, 4)
    titles = [line.split(":")[0] for line in place.lines]
    assert titles[:5] == [*(f"reference {number} of 4" for number in (1, 2, 3, 4)), "reference"]
    assert place.lines[1].startswith("reference 2 of 4: validation accuracy 0.")
    assert place.lines[4].startswith("reference: ")
    assert "of 4 is the best, validation accuracy" in place.lines[4]


def test_the_record_has_the_reference_and_its_tries(bench: MakeBench) -> None:
    place = bench(**SECTIONS)
    read = record(place.drive(1), place)
    assert read.reference is not None
    assert read.reference_tries[0].settings["finetune_learning_rate"] == 5e-2
    assert [t.state for t in read.reference_tries] == ["complete"] * 4
    assert read.reference.members in [t.members for t in read.reference_tries]
    assert all(t.frontier for t in read.reference_tries)
    members = {digest for result in read.everything_run for digest in result.members}
    assert members == {entry.digest for entry in place.store.entries("members")}


def test_the_same_command_again_does_nothing(bench: MakeBench) -> None:
    place = bench(**SECTIONS)
    place.drive(2)
    journal = (place.folder / "study" / "journal.log").read_bytes()
    assert place.drive(2).progress.trained == 0
    assert (place.folder / "study" / "journal.log").read_bytes() == journal


def test_one_trial_is_noted_as_it_was_before(bench: MakeBench) -> None:
    place = bench(search=TUNED, reference={**REFERENCE, "trials": 1})
    driver = place.drive(1)
    assert "tried" not in driver._ledger.noted("reference")
    assert [key for key in driver._ledger.study.user_attrs if key.startswith("reference")] == ["reference"]
    assert place.lines[0].startswith("reference: validation accuracy")
    read = record(driver, place)
    assert read.reference is not None
    assert read.reference_tries == ()


def test_several_run_at_once_and_trials_beside_them(bench: MakeBench) -> None:
    place = bench(**SECTIONS)
    driver = place.driver(2)
    jobs = {key: begin(driver, key) for key in "abcde"}
    assert [job.title for job in jobs.values()] == [*(f"reference {n} of 4" for n in (1, 2, 3, 4)), "trial 0"]
    for key in "dbca":  # the order of their ends changes nothing
        assert driver._ledger.noted("reference") is None
        assert not driver.on_rung(key, rungs_of(place, jobs[key])[-1])
    for rung in rungs_of(place, jobs["e"]):
        driver.on_rung("e", rung)
    place.run(driver)
    assert driver._ledger.noted("reference")["tried"][0]["settings"] == {"finetune_learning_rate": 5e-2}


def test_tries_that_share_a_pretraining_wait_for_the_one_that_does_it(bench: MakeBench) -> None:
    """If two workers wanted the same encoder, one would wait for the other. A trial can use that worker."""
    place = bench(search=TUNED, reference={**REFERENCE, "pretrain_size": 1000})
    driver = place.driver(2)
    first = begin(driver, "a")
    assert (first.title, begin(driver, "b").title) == ("reference 1 of 4", "trial 0")
    assert not driver.on_rung("a", rungs_of(place, first)[-1])
    assert [begin(driver, key).title for key in "cde"] == [f"reference {n} of 4" for n in (2, 3, 4)]


def test_the_next_of_them_pretrains_where_the_first_failed(bench: MakeBench) -> None:
    place = bench(search=TUNED, reference={**REFERENCE, "pretrain_size": 1000})
    driver = place.driver(2)
    begin(driver, "a")
    driver.on_failure("a", Failure("the loss is not a number"))
    assert [begin(driver, key).title for key in "bc"] == ["reference 2 of 4", "trial 0"]


def test_what_must_beat_the_reference_waits_for_the_last_try(bench: MakeBench) -> None:
    place = bench(**SECTIONS, constraints=["beats_reference"])
    driver = place.driver(2)
    jobs = {key: begin(driver, key) for key in "abcd"}
    for key in "abc":
        assert not driver.on_rung(key, rungs_of(place, jobs[key])[-1])
        assert driver.next_job("early") is None
        assert not driver.ended
    driver.on_rung("d", rungs_of(place, jobs["d"])[-1])
    assert begin(driver, "now").number == 0
    best = driver._ledger.noted("reference")["metrics"]["validation_accuracy"]
    finished = place.drive(2)
    for trial in finished._ledger.trials:
        if trial.state.name == "COMPLETE":
            own = trial.user_attrs["metrics"]["validation_accuracy"]
            assert trial.system_attrs["constraints"] == [pytest.approx(best - own)]


def test_a_try_that_fails_leaves_the_others(bench: MakeBench) -> None:
    place = bench(**SECTIONS)
    place.trainer = Unlucky(most=4e-2)  # only the first try has a higher rate
    driver = place.drive(2)
    reference = driver._ledger.noted("reference")
    assert "error" not in reference
    assert reference["tried"][0] == {
        "settings": {"finetune_learning_rate": 5e-2},
        "error": "the loss is not a number at update 3",
    }
    assert place.lines[0] == "reference 1 of 4: failed: the loss is not a number at update 3"
    assert record(driver, place).reference_tries[0].state == "failed"
    assert driver.progress.failed == 0
    place.trainer = SimulatedTrainer()
    assert place.drive(2).progress.trained == 0  # the study has a reference, so no try is repeated


def test_where_all_fail_the_reference_failed_and_the_next_run_tries_again(bench: MakeBench) -> None:
    place = bench(**SECTIONS)
    place.trainer = Unlucky(most=0)
    driver = place.drive(2)
    noted = driver._ledger.noted("reference")
    assert noted["error"] == "all 4 tries failed; the first: the loss is not a number at update 3"
    assert driver.progress.complete == 2
    assert driver.progress.reference is None
    failed = record(driver, place)
    assert failed.reference is not None
    assert (failed.reference.state, len(failed.reference_tries)) == ("failed", 4)
    place.trainer = SimulatedTrainer()
    again = place.driver(2)
    assert not again.ended
    place.run(again)
    assert "error" not in again._ledger.noted("reference")
    assert again.progress.trained == 4


def test_a_domain_smaller_than_the_trials(bench: MakeBench) -> None:
    search = {**SEARCH, "finetune_learning_rate": {"choices": [1e-3, 1e-2], "role": "nuisance"}}
    place = bench(search=search, reference={**REFERENCE, "finetune_learning_rate": 1e-3, "trials": 20})
    driver = place.drive(1)
    assert len(driver._ledger.noted("reference")["tried"]) == 2
    assert place.lines[1].startswith("reference 2 of 2:")


def test_a_domain_of_one_point_is_a_reference_of_one_trial(bench: MakeBench) -> None:
    search = {**SEARCH, "finetune_learning_rate": {"choices": [1e-3], "role": "nuisance"}}
    place = bench(search=search, reference={**REFERENCE, "finetune_learning_rate": 1e-3, "trials": 3})
    driver = place.drive(1)
    assert driver.progress.reference == driver._ledger.noted("reference")["metrics"]


def test_settings_that_depend_on_a_drawn_one(bench: MakeBench) -> None:
    search = {
        **SEARCH,
        "pretrain_optimiser": {"choices": ["adamw", "muon"], "role": "nuisance"},
        "pretrain_learning_rate": {**RATE, "when": {"pretrain_optimiser": ["muon"]}},
    }
    reference = {"depth": 4, "heads": 4, "pretrain_size": 1000, "pretrain_optimiser": "adamw", "trials": 4}
    tried = bench(search=search, reference=reference).drive(1)._ledger.noted("reference")["tried"]
    assert [entry["settings"]["pretrain_optimiser"] for entry in tried] == ["adamw", "muon", "muon", "muon"]
    assert len({entry["settings"]["pretrain_learning_rate"] for entry in tried}) == 4


def test_a_worker_that_dies_over_a_try_is_replaced_and_given_up_after_a_few(bench: MakeBench) -> None:
    place = bench(**SECTIONS)
    driver = place.driver(1)
    for attempt in range(MOST_ATTEMPTS):
        job = begin(driver, f"dying{attempt}")
        assert job.title == "reference 1 of 4"
        driver.on_lost(f"dying{attempt}", "its worker died")
    assert driver._ledger.noted("reference try 1")["error"] == "its worker died, 3 times"
    assert begin(driver, "next").title == "reference 2 of 4"
    driver.on_lost("next", "its worker died")  # each try has its own number of attempts
    assert begin(driver, "again").title == "reference 2 of 4"


def test_an_interrupted_study_goes_on_with_the_tries_that_are_left(bench: MakeBench) -> None:
    place = bench(**{**SECTIONS, "reference": {**REFERENCE, "committee_size": 2}})
    driver = place.driver(2)

    def stop(job: Job, size: int) -> None:
        if job.reference_try == 3 and size == 0:
            driver.stop("the study was interrupted")

    place.run(driver, before_rung=stop)
    assert driver.ended
    assert driver._ledger.noted("reference try 2") is not None
    assert driver._ledger.noted("reference") is None
    begun = record(driver, place)
    assert begun.reference is None
    assert len(begun.reference_tries) == 2
    after = place.driver(2)
    assert (after.progress.reference_done, after.progress.reference_tries) == (2, 4)
    assert begin(after, "a").title == "reference 3 of 4"
    after.abandon("the study was interrupted")
    assert place.drive(2).progress.complete == 2


def test_a_full_disk_stops_the_study_and_fails_no_try(bench: MakeBench) -> None:
    driver = bench(**SECTIONS).driver(4)
    begin(driver, "a")
    driver.on_failure("a", Failure("the store cannot be written", hint="free some space", of_user=True))
    assert driver.ended
    assert driver._ledger.noted("reference try 1") is None


@pytest.mark.parametrize("how", ["before", "torn", "after"])
def test_the_driver_may_die_at_any_write_of_the_tries(tmp_path: Path, how: str) -> None:
    space = space_of(**SECTIONS)
    with pytest.MonkeyPatch.context() as patch:
        count = die_at(patch, -1, "before")
        undisturbed = Bench(tmp_path / "undisturbed", space).drive(1)
    expected = undisturbed._ledger.noted("reference")
    for death in range(1, count["writes"]):
        place = Bench(tmp_path / str(death), space)
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, death, how)
            with pytest.raises(Killed):
                place.drive(1)
        mend_journal(place.folder / "study" / "journal.log")
        noted = [n for n in (1, 2, 3, 4) if place.ledger().noted(f"reference try {n}")]
        place.lines.clear()
        driver = place.drive(1)
        again = [line for line in place.lines if line.startswith(tuple(f"reference {n} of" for n in noted))]
        assert again == [], death  # a finished try is not run again
        found = driver._ledger.noted("reference")
        assert found["settings"] == expected["settings"], death
        assert found["tried"] == expected["tried"], death
        assert results(driver._ledger) == results(undisturbed._ledger), death


def test_helpers_train_members_of_tries(bench: MakeBench) -> None:
    place = bench(search=TUNED, reference={**REFERENCE, "committee_size": 4}, constraints=["beats_reference"])
    driver = place.driver(1)
    driver.progress.slots = 8
    assert begin(driver, "a").chunks == 2  # four tries can run at the same time
    for key in "bcd":
        begin(driver, key)
    helper = begin(driver, "helper")
    assert helper.helping
    assert helper.title == "helper of reference 1 of 4"
    assert driver.settings_of("helper") == place.space.reference_tries()[0]
