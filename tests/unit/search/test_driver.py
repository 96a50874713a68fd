from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from driven import REFERENCE, Bench, results
from optuna.trial import TrialState

from tlm_search.errors import NoTrialSucceededError, TrainingError, UserError
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.search import ledger as optuna_study
from tlm_search.search.activity import Activity
from tlm_search.search.driver import MOST_ATTEMPTS, Driver
from tlm_search.search.job import Failure
from tlm_search.search.samplers import next_sampler
from tlm_search.search.trial import Rung, run_trial

MakeBench = Callable[..., Bench]


class Unlucky(SimulatedTrainer):
    """Fails to train members of one depth."""

    def __init__(self, depths: Sequence[int]) -> None:
        self.depths = depths

    def train(self, specs: Any, **options: Any) -> Any:
        if specs and specs[0].architecture.depth in self.depths:
            raise TrainingError("the loss is not a number at update 3")
        return super().train(specs, **options)


def states(driver: Driver) -> list[TrialState]:
    return [trial.state for trial in driver._ledger.trials]


def test_a_study_holds_the_trials_of_its_budget(bench: MakeBench) -> None:
    driver = bench().drive(6)
    assert states(driver) == [TrialState.COMPLETE] * 6
    attributes = driver._ledger.trials[0].user_attrs
    assert set(attributes) == {"settings", "members", "trained", "reused", "seconds", "metrics", "frontier"}
    assert attributes["metrics"]["validation_accuracy"] == driver._ledger.trials[0].values[0]
    assert len(attributes["members"]) == attributes["settings"]["committee_size"]
    assert driver.progress.complete == 6
    driver.check_result(continue_with="tlm-search run x")


def test_the_same_command_again_does_nothing(bench: MakeBench) -> None:
    place = bench(reference=REFERENCE)
    before = place.drive(5)
    journal = (place.folder / "study" / "journal.log").read_bytes()
    again = place.drive(5)
    assert again.progress.trained == 0
    assert results(again._ledger) == results(before._ledger)
    assert (place.folder / "study" / "journal.log").read_bytes() == journal


def test_a_study_continues_to_more_trials_as_if_it_had_not_stopped(bench: MakeBench, tmp_path: Any) -> None:
    place = bench()
    place.drive(4)
    continued = results(place.drive(12)._ledger)
    other = Bench(tmp_path / "other", place.space)
    assert continued == results(other.drive(12)._ledger)


def test_the_reference_is_trained_first_and_kept(bench: MakeBench) -> None:
    driver = bench(reference=REFERENCE).driver(2)
    job = driver.next_job("a")
    assert job is not None
    assert (job.number, job.settings["depth"], job.settings["committee_size"]) == (None, 4, 1)
    assert not driver.ended
    driver = bench(reference=REFERENCE).drive(2)
    reference = driver._ledger.noted("reference")
    assert reference["metrics"]["validation_accuracy"] > 0
    assert reference["members"]
    assert driver.progress.reference == reference["metrics"]


def test_a_failed_reference_is_tried_again_by_the_next_run(bench: MakeBench) -> None:
    place = bench(reference=REFERENCE)
    place.trainer = Unlucky([4])
    assert place.drive(2)._ledger.noted("reference")["error"] == "the loss is not a number at update 3"
    place.trainer = SimulatedTrainer()
    driver = place.driver(2)
    assert not driver.ended
    place.run(driver)
    assert "error" not in driver._ledger.noted("reference")


def test_a_reference_that_failed_after_its_first_rung_is_tried_again_too(bench: MakeBench) -> None:
    place = bench(reference={**REFERENCE, "committee_size": 2})
    driver = place.driver(1)
    job = driver.next_job("a")
    assert job is not None
    rungs = run_trial(job.settings, seed=0, data=place.data, store=place.store, trainer=place.trainer)
    assert driver.on_rung("a", next(rungs))
    driver.on_failure("a", Failure("the loss is not a number at update 3"))
    assert driver._ledger.noted("reference")["metrics"]
    driver = place.driver(1)
    assert driver.progress.reference is None
    assert not driver.ended
    place.run(driver)
    assert "error" not in driver._ledger.noted("reference")


def test_failed_trials_have_their_reason_and_count(bench: MakeBench) -> None:
    place = bench()
    place.trainer = Unlucky([1])
    driver = place.drive(8)
    failed = [trial for trial in driver._ledger.trials if trial.state == TrialState.FAIL]
    assert failed
    assert {trial.user_attrs["error"] for trial in failed} == {"the loss is not a number at update 3"}
    assert driver.progress.finished == 8
    assert driver.progress.failed == len(failed)


def test_failures_in_a_row_stop_the_study(bench: MakeBench) -> None:
    place = bench(budget={"failures_in_a_row": 3})
    place.trainer = Unlucky([1, 2])
    driver = place.drive(20)
    assert states(driver) == [TrialState.FAIL] * 3
    with pytest.raises(NoTrialSucceededError, match="the last error: the loss is not a number") as raised:
        driver.check_result(continue_with="tlm-search run x")
    assert "tlm-search run x" in str(raised.value.hint)


def test_failures_in_a_row_after_a_success_are_told_too(bench: MakeBench) -> None:
    place = bench(budget={"failures_in_a_row": 2})
    place.drive(2)
    place.trainer = Unlucky([1, 2])
    place.store.root.rename(place.store.root.with_name("gone"))  # no member can be reused
    with pytest.raises(TrainingError, match="2 trials failed in a row"):
        place.drive(20).check_result(continue_with="x")


def test_a_full_disk_stops_the_study_and_fails_no_trial(bench: MakeBench) -> None:
    driver = bench().driver(4)
    driver.next_job("a")
    driver.on_failure("a", Failure("the store cannot be written", hint="free some space", of_user=True))
    assert driver.ended
    assert [trial.state.name for trial in driver._ledger.trials] == ["FAIL", "WAITING"]
    assert driver.progress.finished == 0
    with pytest.raises(UserError, match="the store cannot be written") as raised:
        driver.check_result(continue_with="tlm-search run x")
    assert raised.value.hint == "free some space; then continue with: tlm-search run x"


def test_what_is_not_a_number_fails(bench: MakeBench) -> None:
    driver = bench(objectives=["validation_cross_entropy"]).driver(1)
    driver.next_job("a")
    metrics = {"validation_cross_entropy": float("nan")}
    assert not driver.on_rung("a", Rung(1, True, metrics, [], [], 1, 0, 10, 0.1))
    assert driver._ledger.trials[0].user_attrs["error"] == "validation_cross_entropy is nan at 1 members"


@pytest.mark.parametrize(
    "pruner", ["median", {"name": "asha", "reduction_factor": 2}, {"name": "hyperband", "reduction_factor": 2}], ids=str
)
@pytest.mark.parametrize("objectives", [["validation_accuracy"], ["validation_accuracy", "parameters"]])
@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_pruned_trials_keep_their_last_rung(bench: MakeBench, pruner: Any, objectives: list[str], sampler: str) -> None:
    space = {"pruner": pruner, "objectives": objectives, "sampler": sampler}
    search = {"finetune_learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}, "committee_size": 8, "depth": 1}
    driver = bench(**space, search=search).drive(16)
    pruned = [trial for trial in driver._ledger.trials if trial.state == TrialState.PRUNED]
    assert driver.progress.pruned == len(pruned) > 0
    for trial in pruned:
        assert trial.last_step == len(trial.user_attrs["members"]) < 8
        assert len(trial.user_attrs["frontier"]) == trial.last_step
    assert driver.progress.finished == 16


def test_constraints_are_where_optuna_and_the_dashboard_look(bench: MakeBench) -> None:
    driver = bench(reference=REFERENCE, constraints=["parameters <= 100000", "beats_reference"]).drive(6)
    for trial in driver._ledger.trials:
        excess, below = trial.system_attrs["constraints"]
        assert excess == trial.user_attrs["metrics"]["parameters"] - 100_000
        reference = driver._ledger.noted("reference")["metrics"]["validation_accuracy"]
        assert below == pytest.approx(reference - trial.user_attrs["metrics"]["validation_accuracy"])
        assert list(trial.constraints.values()) == [excess, below]


def test_nothing_is_compared_before_the_reference_is_there(bench: MakeBench) -> None:
    driver = bench(reference=REFERENCE, constraints=["beats_reference"]).driver(4)
    assert driver.next_job("reference") is not None
    assert driver.next_job("a") is None
    assert not driver.ended


def test_without_such_a_constraint_nobody_waits_for_the_reference(bench: MakeBench) -> None:
    driver = bench(reference=REFERENCE).driver(4)
    assert driver.next_job("reference") is not None
    assert driver.next_job("a") is not None


def test_points_come_first_and_once(bench: MakeBench) -> None:
    point = {"depth": 2, "heads": 4, "pretrain_size": 1000, "committee_size": 1}
    place = bench(points=[point, {"depth": 1}])
    first = place.drive(3)._ledger.trials
    assert first[0].params == point
    assert first[1].params["depth"] == 1
    assert len(place.drive(3)._ledger.trials) == 3


def test_a_grid_is_visited_once_and_then_the_study_ends(bench: MakeBench) -> None:
    search = {"depth": {"choices": [1, 2]}, "heads": {"low": 1, "high": 3}, "committee_size": 1, "head_size": 8}
    search["convolution_layers"] = {"choices": [0, 1]}
    search["convolution_channels"] = {"choices": [2, 4], "when": {"convolution_layers": [1]}}
    place = bench(search=search, sampler="grid")
    place.drive(7)
    driver = place.drive(100)
    params = [tuple(sorted(trial.params.items())) for trial in driver._ledger.trials]
    assert len(params) == len(set(params)) == 2 * 3 * 3
    assert driver.ended
    driver.check_result(continue_with="x")


def test_conditional_parameters_are_asked_for_only_where_they_matter(bench: MakeBench) -> None:
    search = {
        "convolution_channels": {"choices": [2, 4], "when": {"convolution_layers": [1]}},
        "convolution_layers": {"choices": [0, 1]},
        "depth": {"low": 1, "high": 3},
    }
    for trial in bench(search=search).drive(20)._ledger.trials:
        assert ("convolution_channels" in trial.params) == (trial.params["convolution_layers"] == 1)


@pytest.mark.parametrize(
    "sampler",
    [
        {"name": "tpe", "n_startup_trials": 3},
        {"name": "nsgaii", "population_size": 3},
        {"name": "nsgaiii", "population_size": 3},
        {"name": "gp", "n_startup_trials": 4},
        "cmaes",
        {"name": "qmc", "scramble": True},
        "random",
    ],
    ids=str,
)
def test_samplers_are_seeded(bench: MakeBench, tmp_path: Any, sampler: Any) -> None:
    search = {
        "depth": {"low": 1, "high": 4},
        "finetune_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "finetune_dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
    }
    space = bench(search=search, sampler=sampler).space
    once, twice = (results(Bench(tmp_path / str(i), space).drive(6)._ledger) for i in range(2))
    assert once == twice
    other = Bench(tmp_path / "other", space.model_copy(update={"seed": 1})).drive(6)
    assert results(other._ledger) != once


@pytest.mark.parametrize("name", ["tpe", "gp", "nsgaiii", "cmaes"])
def test_what_is_known_of_the_search_space_changes_no_proposal(
    bench: MakeBench, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sampler = {"name": name, **({"n_startup_trials": 3} if name != "nsgaiii" else {"population_size": 3})}
    search = {"depth": {"low": 1, "high": 4}, "finetune_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    kept = Bench(tmp_path / "kept", bench(search=search, sampler=sampler).space)
    once = results(kept.drive(8)._ledger)
    monkeypatch.setattr(optuna_study, "next_sampler", lambda space, proposal, before: next_sampler(space, proposal))
    assert results(Bench(tmp_path / "anew", kept.space).drive(8)._ledger) == once


class TestDeath:
    def test_a_dead_worker_is_replaced(self, bench: MakeBench) -> None:
        driver = bench().driver(1)
        job = driver.next_job("a")
        assert job is not None
        driver.on_lost("a", "its worker died")
        assert not driver.ended
        again = driver.next_job("b")
        assert again is not None
        assert (again.number, again.settings) == (1, job.settings)
        first, second = driver._ledger.trials
        assert first.user_attrs == {"error": "its worker died", "interrupted": True, "proposed": True}
        assert second.user_attrs["retry_of"] == 0
        assert second.params == first.params

    def test_a_trial_that_kills_its_workers_fails(self, bench: MakeBench) -> None:
        driver = bench().driver(1)
        for attempt in range(MOST_ATTEMPTS):
            assert driver.next_job(f"job{attempt}") is not None
            driver.on_lost(f"job{attempt}", "its worker died")
        assert driver.ended
        assert driver.progress.failed == 1
        assert driver._ledger.trials[-1].user_attrs["error"] == "its worker died, 3 times"

    def test_a_worker_may_die_over_the_reference(self, bench: MakeBench) -> None:
        driver = bench(reference=REFERENCE).driver(1)
        for attempt in range(MOST_ATTEMPTS):
            job = driver.next_job(f"job{attempt}")
            assert job is not None
            assert job.number is None
            driver.on_lost(f"job{attempt}", "its worker died")
        assert driver._ledger.noted("reference")["error"] == "its worker died, 3 times"
        job = driver.next_job("next")
        assert job is not None
        assert job.number == 0

    def test_a_worker_that_dies_after_its_trial_is_nobody(self, bench: MakeBench) -> None:
        driver = bench().drive(1)
        driver.on_lost("job0", "its worker died")
        assert states(driver) == [TrialState.COMPLETE]


class TestStopping:
    def test_running_rungs_end_and_the_trial_is_tried_again(self, bench: MakeBench) -> None:
        place = bench(search={"committee_size": 4, "depth": {"low": 1, "high": 4}})
        driver = place.driver(2)

        def stop(job: Any, size: int) -> None:
            if size == 1:
                driver.stop("the study was interrupted")

        place.run(driver, before_rung=stop)
        assert driver.ended
        assert [trial.state.name for trial in driver._ledger.trials] == ["FAIL", "WAITING"]
        assert len(list(place.store.entries("members"))) == 2  # the rung was finished first
        after = place.drive(2)
        assert after.progress.complete == 2
        assert after._ledger.trials[1].user_attrs["reused"] == 2
        # Members that the interrupted attempt trained are counted once.
        counts = [trial.user_attrs["trained"] for trial in after._ledger.trials]
        assert counts[:2] == [2, 2]
        assert sum(counts) == len(list(place.store.entries("members")))

    def test_a_trial_that_is_done_counts(self, bench: MakeBench) -> None:
        place = bench(search={"committee_size": 1, "depth": {"low": 1, "high": 4}})
        driver = place.driver(5)
        place.run(driver, before_rung=lambda job, size: driver.stop("the study was interrupted"))
        assert states(driver) == [TrialState.COMPLETE]

    def test_the_time_budget_stops(self, bench: MakeBench) -> None:
        driver = bench().drive(50, seconds=0.0)
        assert driver.stopped == "the time is used up"
        assert states(driver) == []
        driver.check_result(continue_with="x")

    def test_a_reference_that_is_longer_than_the_time_budget_is_said(self, bench: MakeBench) -> None:
        now = [0.0]
        place = bench(reference=REFERENCE)
        driver = place.driver(4, seconds=100.0, now=lambda: now[0])
        job = driver.next_job("a")
        assert job is not None
        driver.look([])
        driver.look([Activity(job.title, job.attempt, "counting words", (1, 1), 0, 0, 0.0)])
        now[0] = 1.0
        told = Activity(job.title, job.attempt, "pre-training", (1, 1), 1, 100, 1.0, pretrained=0.01)
        driver.look([told])
        assert place.lines == []
        now[0] = 50.0  # a quarter of the job is done
        for _ in range(2):
            driver.look([replace(told, update=50, pretrained=0.5)])
        now[0] = 110.0
        for _ in range(2):
            driver.look([replace(told, update=99, pretrained=0.99)])
        assert place.lines == [
            "the time budget is too short for a job that runs to its end: reference (about 2.5 min more)",
            "the time is used up; jobs in training finish first: reference (about 112 s more)",
        ]
        assert driver.next_job("b") is None
        assert driver.stopped == "the time is used up"

    def test_what_a_worker_takes_to_start_is_no_measure_of_its_speed(self, bench: MakeBench) -> None:
        now = [0.0]
        driver = bench(reference=REFERENCE).driver(0, now=lambda: now[0])
        job = driver.next_job("a")
        assert job is not None
        [running] = driver.progress.jobs.values()
        for now[0], update in ((240.0, 2), (249.0, 20)):  # two updates a second
            told = Activity(job.title, job.attempt, "fine-tuning", (1, 1), update, 100, 1.0, finetuned=update / 100)
            driver.look([told])
        rest = driver.progress.remaining(running)
        assert rest is not None
        assert rest == pytest.approx(40.0)  # for 80 updates, even though the store had members before them

    def test_the_time_budget_is_not_talked_of_where_it_suffices(self, bench: MakeBench) -> None:
        place = bench(reference=REFERENCE)
        driver = place.driver(4, seconds=1000.0, now=lambda: 50.0)
        job = driver.next_job("a")
        assert job is not None
        driver.look([Activity(job.title, job.attempt, "pre-training", (1, 1), 50, 100, 1.0, pretrained=0.5)])
        assert place.lines == []

    def test_what_runs_is_closed_when_its_runner_is_gone(self, bench: MakeBench) -> None:
        driver = bench(reference=REFERENCE).driver(4)
        for key in "abc":
            driver.next_job(key)
        driver.abandon("the study was interrupted")
        assert [trial.state.name for trial in driver._ledger.trials] == ["FAIL", "FAIL", "WAITING", "WAITING"]
