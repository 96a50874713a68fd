"""The confirmation of a study: what is trained again, with which seeds, and what is stored; with simulated members."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driven import REFERENCE, SEARCH, Bench, Killed, run_without_ray, space_of
from machines import On
from pydantic import ValidationError

from tlm_search.api import Study
from tlm_search.cli.status import lines_of, summarise
from tlm_search.committee.candidates import candidates
from tlm_search.committee.select import select
from tlm_search.errors import TrainingError
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.report.claims.answer import answer_of
from tlm_search.report.evidence import Evidence
from tlm_search.report.formatting import percent
from tlm_search.search.confirm import confirmations, training_seconds
from tlm_search.search.driver import Driver
from tlm_search.search.job import FRESH_SEED
from tlm_search.space.schema import Space
from tlm_search.study.location import read_study
from tlm_search.study.record import StudyRecord, record_of

MakeBench = Callable[..., Bench]
WIDE = {**SEARCH, "finetune_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def record(driver: Driver, place: Bench) -> StudyRecord:
    return record_of(driver._ledger.study, place.folder)


def seeds(place: Bench, members: tuple[str, ...]) -> list[int]:
    entries = [place.store.read("members", digest) for digest in members]
    return [entry.document["spec"]["seed"] for entry in entries if entry is not None]


def test_the_choice_and_a_single_reference_are_trained_once_more_with_seeds_that_no_trial_has(bench: MakeBench) -> None:
    place = bench(reference=REFERENCE, confirm=1)
    found = record(place.drive(6), place)
    best = select(found.trials, found.reference).choices[0].candidate
    committee, reference = found.confirmed(best.trial.number, best.size), found.confirmed(-1, 1)
    assert committee is not None
    assert reference is not None
    assert {entry.trial for entry in found.confirmations} == {best.trial.number, -1}
    assert committee.settings == {**best.trial.settings, "committee_size": len(committee.members)}
    assert len(committee.members) == max(best.size, 4)
    assert seeds(place, committee.members) == [1000 * FRESH_SEED + i for i in range(len(committee.members))]
    assert seeds(place, reference.members) == [1000 * FRESH_SEED]
    searched = {digest for trial in found.everything_searched for digest in trial.members}
    assert not searched & {*committee.members, *reference.members}
    run = {digest for trial in found.everything_run for digest in trial.members}  # `store gc` keeps these members
    assert run == searched | {*committee.members, *reference.members}
    assert committee.trained == len(committee.members)
    assert committee.metrics["latency_ms"] > 0


def test_a_second_run_finds_it(bench: MakeBench) -> None:
    place = bench(reference=REFERENCE, confirm=1)
    before = record(place.drive(6), place)
    journal = (place.folder / "study" / "journal.log").read_bytes()
    again = place.drive(6)
    assert again.ended
    assert again.progress.trained == 0
    assert record(again, place).confirmations == before.confirmations
    assert (place.folder / "study" / "journal.log").read_bytes() == journal


def test_a_new_choice_is_confirmed_and_the_old_confirmation_stays(bench: MakeBench) -> None:
    worst = {"depth": 1, "heads": 1, "pretrain_size": 0, "committee_size": 2}
    place = bench(reference=REFERENCE, confirm=1, points=[worst])
    chosen = set()
    for trials in (1, 12):
        found = record(place.drive(trials), place)
        best = select(found.trials, found.reference).choices[0].candidate
        chosen.add((best.trial.number, best.size))
        assert found.confirmed(best.trial.number, best.size) is not None
    assert len(chosen) == 2
    assert {(entry.trial, entry.size) for entry in found.confirmations} == {*chosen, (-1, 1)}


@pytest.mark.parametrize("trials", [6, 40])
def test_by_default_it_is_made_where_it_takes_a_tenth_of_the_study(bench: MakeBench, trials: int) -> None:
    place = bench(search=WIDE)
    found = record(place.drive(trials), place)
    share = sum(entry.seconds for entry in confirmations(found)) / training_seconds(found)
    assert bool(found.confirmations) is (share <= 0.1)
    assert bool(found.confirmations) is (trials == 40)


def test_0_turns_it_off(bench: MakeBench) -> None:
    place = bench(confirm=0, search=WIDE)
    assert record(place.drive(40), place).confirmations == ()


@pytest.mark.parametrize("rung", [0, 1])
def test_a_driver_that_dies_in_the_middle_loses_nothing(bench: MakeBench, tmp_path: Path, rung: int) -> None:
    place = bench(reference=REFERENCE, confirm=1)

    def die(job: Any, size: int) -> None:
        if job.confirms == -1 and size == rung:
            raise Killed

    with pytest.raises(Killed):
        place.run(place.driver(6), before_rung=die if rung == 0 else lambda job, size: die(job, rung))
    found = record(place.drive(6), place)
    undisturbed = Bench(tmp_path / "other", place.space)
    expected = record(undisturbed.drive(6), undisturbed)
    assert [entry.result.members for entry in found.confirmations] == [
        entry.result.members for entry in expected.confirmations
    ]


def test_what_fails_is_said_and_tried_again_by_the_next_run(bench: MakeBench) -> None:
    class Unlucky(SimulatedTrainer):
        def train(self, specs: Any, **options: Any) -> Any:
            if any(spec.seed >= FRESH_SEED for spec in specs):
                raise TrainingError("the loss is not a number at update 3")
            return super().train(specs, **options)

    place = bench(confirm=1)
    place.trainer = Unlucky()
    driver = place.drive(6)
    assert driver.ended
    assert record(driver, place).confirmations == ()
    assert "not a number at update 3; the next run tries it again" in place.lines[-1]
    driver.check_result(continue_with="tlm-search run x")
    place.trainer = SimulatedTrainer()
    assert len(record(place.drive(6), place).confirmations) == 1


def test_a_confirmation_that_was_stopped_is_made_by_the_next_run(bench: MakeBench) -> None:
    place = bench(confirm=1)
    driver = place.driver(2)
    jobs = []

    def stop(job: Any, size: int) -> None:
        jobs.append(job)
        if job.confirms is not None:
            driver.stop("interrupted")

    place.run(driver, before_rung=stop)
    assert jobs[-1].confirms is not None
    assert record(driver, place).confirmations == ()
    again = place.drive(2)
    assert again.progress.reused == 1  # the store has what was trained before the interruption
    assert len(record(again, place).confirmations) == 1


def test_the_answer_has_the_figures_of_the_confirmation(bench: MakeBench) -> None:
    place = bench(reference=REFERENCE, confirm=1)
    found = record(place.drive(12), place)
    [choice] = select(found.trials, found.reference, baseline=found.baseline, confirmed=found.confirmed, top=1).choices
    [searched] = select(found.trials, found.reference, baseline=found.baseline, top=1).choices
    result = found.confirmed(choice.candidate.trial.number, choice.candidate.size)
    assert result is not None
    fresh = candidates(result)[choice.candidate.size - 1]
    assert choice.in_search == searched
    assert choice.candidate.test_interval == fresh.test_interval
    assert choice.candidate.test_accuracy == fresh.test_accuracy
    assert choice.candidate.validation_accuracy == searched.candidate.validation_accuracy
    assert choice.reference is not None
    assert choice.reference.test_metric == found.confirmations[-1].result.metrics["test_accuracy"]
    assert searched.reference is not None
    assert choice.reference.validation_metric == searched.reference.validation_metric
    document, before = choice.to_document(), searched.to_document()
    assert document["test_accuracy"] == before["test_accuracy"]
    assert document["confirmed_test_accuracy"] == fresh.test_accuracy
    assert document["confirmed_test_accuracy_interval"] == list(fresh.test_interval)
    assert document["reference_accuracy"] == before["reference_accuracy"]
    assert document["confirmed_reference_accuracy"] == choice.reference.test_accuracy
    assert before["confirmed_test_accuracy"] is None


def test_the_key_is_no_part_of_a_studys_identity() -> None:
    plain, asked = space_of(), space_of(confirm=1)
    assert plain.digest == asked.digest
    with pytest.raises(ValidationError, match="given 2; allowed: a whole number from 0 to 1 or null"):
        space_of(confirm=2)
    assert Space.from_document({k: v for k, v in plain.to_document().items() if k != "confirm"}) == plain


def test_the_page_and_the_commands_say_both_figures_or_what_the_interval_does_not_cover(bench: MakeBench) -> None:
    place = bench(reference=REFERENCE, confirm=1)
    found = record(place.drive(12), place)
    answer = answer_of(found, Evidence(found, place.store))
    assert answer.best is not None
    assert answer.best.in_search is not None
    [said] = [sentence for sentence in answer.verdict if "fresh seeds" in sentence]
    for candidate in (answer.best.candidate, answer.best.in_search.candidate, answer.best.reference):
        assert candidate is not None
        assert percent(candidate.test_metric) in said
    assert answer.table.loc["Test accuracy", "Best committee"].startswith(percent(answer.best.candidate.test_metric))
    assert answer.table.loc["Test accuracy", "Reference"].startswith(percent(answer.best.reference.test_metric))
    assert answer.table.loc["In the search", "Best committee"].startswith(
        percent(answer.best.in_search.candidate.test_metric)
    )
    evidence = Evidence(found, place.store)
    assert "confirmed  trained once more with fresh seeds" in "\n".join(lines_of(summarise(found, evidence.logits_of)))

    asked = found.space.model_copy(update={"confirm": None})
    unconfirmed = replace(found, confirmations=(), space=asked)
    sentences = answer_of(unconfirmed, evidence).verdict
    [said] = [sentence for sentence in sentences if "not that this is the best of" in sentence]
    assert "`confirm: 1`" in said
    assert "confirmed" not in "\n".join(lines_of(summarise(unconfirmed, evidence.logits_of)))


def test_a_study_in_a_database_and_one_at_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: On, url: str
) -> None:
    run, space = run_without_ray(tmp_path, monkeypatch), space_of(confirm=1, budget={"trials": 2})
    in_database = read_study(run(space, storage=f"sqlite:///{tmp_path}/study.db").folder)
    on("a")
    run(space, studies=url)
    on("b")
    elsewhere = Study.open("test", studies_dir=url)
    [there], [here] = elsewhere.record.confirmations, in_database.confirmations
    assert there.result.members == here.result.members
    assert elsewhere.best(top=1).choices[0].in_search is not None
    assert not run(space, studies=url).worked
