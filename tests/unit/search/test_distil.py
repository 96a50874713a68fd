"""Students of a committee in a simulated study: trained once, recorded with the trials, and never removed by gc."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driven import REFERENCE, SEARCH, run_without_ray, space_of
from machines import On

from tlm_search.api import Study
from tlm_search.data.simulated import simulated_data
from tlm_search.errors import ExportError, UserError
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.report.evidence import Evidence
from tlm_search.report.figures.students import students_table
from tlm_search.search.distil import _tell_of_pretraining
from tlm_search.search.session import Session
from tlm_search.search.trial import trial_specs
from tlm_search.store.local import Store
from tlm_search.study.driver_lock import driver_lock
from tlm_search.study.garbage import remove_garbage
from tlm_search.study.location import find_study
from tlm_search.study.record import STUDENT_NUMBER

POINTS = [{"depth": 1, "heads": 4, "pretrain_size": 0, "committee_size": size} for size in (4, 1)]
Run = Callable[..., Session]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(3)`` runs a study up to this many trials; the first trial has four members, the second has one."""
    driven = run_without_ray(tmp_path, monkeypatch)
    return lambda trials=3, **where: driven(
        space_of(reference=REFERENCE, points=POINTS, budget={"trials": trials}), **where
    )


def opened(session: Session) -> Study:
    return Study.open(str(session.folder))


def test_students_are_members_whose_names_hold_those_of_their_teachers(run: Run) -> None:
    study = opened(run()).distil(trial=0)
    (student,) = study.record.students
    teachers = study.record.trials[0].members
    assert (student.trial, student.size, student.documents) == (0, 4, 0)
    assert student.result.number == STUDENT_NUMBER
    assert len(student.result.members) == len(student.result.frontier) == 4
    assert not set(student.result.members) & set(teachers)
    entries = [study.store.read("members", digest) for digest in student.result.members]
    specs = [entry.document["spec"] for entry in entries if entry is not None]
    assert {spec["seed"] for spec in specs} == {0, 1, 2, 3}
    assert all(tuple(spec["teaching"]["teachers"]) == teachers for spec in specs)
    accuracies = [
        (entry.arrays("logits")["validation"].argmax(-1) == Evidence(study.record, study.store)._labels[0]).mean()  # type: ignore[index,union-attr]
        for entry in entries
    ]
    assert accuracies == sorted(accuracies, reverse=True)


def test_students_of_hybrids_are_single_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driven = run_without_ray(tmp_path, monkeypatch)
    space = space_of(search={**SEARCH, "linear_member": True}, points=POINTS, budget={"trials": 1})
    study = opened(driven(space)).distil(trial=0)
    (student,) = study.record.students
    teachers = study.record.trials[0].members
    entry = study.store.read("members", student.result.members[0])
    assert entry is not None
    assert tuple(entry.document["spec"]["teaching"]["teachers"]) == teachers
    assert "linear" not in entry.document["spec"]
    assert student.result.settings["linear_member"] is False
    remove_garbage(study.record.folder.parent)
    assert study.store.read("members", student.result.members[0]) is not None
    assert len(list(study.store.entries("linear"))) == 1


def test_without_a_trial_the_best_on_validation_teaches_not_the_cheapest(run: Run) -> None:
    session = run(12)
    best = opened(session).best(top=1).choices[0].candidate
    assert best.size > 1
    (student,) = opened(session).distil().record.students
    assert (student.trial, student.size) == (best.trial.number, best.size)


def test_distilling_again_trains_and_writes_nothing(run: Run) -> None:
    told: list[str] = []
    study = opened(run()).distil(trial=0)
    journal = (study.record.folder / "journal.log").read_bytes()
    again = study.distil(trial=0, announce=told.append)
    assert told[-1] == "0 students trained, 4 found in the store"
    assert again.record.students == study.record.students
    assert (study.record.folder / "journal.log").read_bytes() == journal


def test_a_lost_student_is_trained_again_and_its_record_stays(run: Run) -> None:
    told: list[str] = []
    study = opened(run()).distil(trial=0)
    study.store.remove("members", study.record.students[0].result.members[1])
    again = study.distil(trial=0, announce=told.append)
    assert told[-1] == "1 student trained, 3 found in the store"
    assert again.record.students == study.record.students
    assert study.store.verify() == []


def test_each_committee_has_students_of_its_own(run: Run) -> None:
    study = opened(run()).distil(trial=0).distil(trial=0, size=2).distil(trial=0, documents=500)
    assert [(s.trial, s.size, s.documents) for s in study.record.students] == [(0, 2, 0), (0, 4, 0), (0, 4, 500)]
    assert [len(s.result.members) for s in study.record.students] == [2, 4, 4]
    assert len({digest for s in study.record.students for digest in s.result.members}) == 10


def test_a_study_with_students_goes_on_to_exactly_its_trials(run: Run) -> None:
    before = opened(run()).distil(trial=0).record
    session = run(6)
    assert session.driver.progress.finished == 6
    after = opened(session).record
    assert len(after.trials) == 6
    # Records differ in one thing: the interval of a single model uses other seeds too, and more members give more
    # seeds.
    for old, new in zip((*before.trials, before.reference), (*after.trials[:3], after.reference), strict=True):
        assert (new.number, new.params, new.members, new.values) == (old.number, old.params, old.members, old.values)
    assert after.students == before.students
    assert not run(6).worked


def test_garbage_has_no_student_and_no_teacher(run: Run) -> None:
    study = opened(run()).distil(trial=0)
    needed = set(study.store.sizes("members"))
    study.store.write("members", "0" * 32, {"spec": {"pretrained": None}}, {})
    garbage, _ = remove_garbage(study.record.folder.parent)
    assert set(garbage.entries) == {("members", "0" * 32)}
    assert set(study.store.sizes("members")) == needed > set(study.record.students[0].result.members)


def test_a_study_in_a_database_and_one_at_a_url(run: Run, on: On, url: str, tmp_path: Path) -> None:
    in_database = opened(run(storage=f"sqlite:///{tmp_path}/study.db")).distil(trial=0)
    on("a")
    run(studies=url)
    Study.open("test", studies_dir=url).distil(trial=0)
    on("b")
    elsewhere = Study.open("test", studies_dir=url)
    assert elsewhere.record.students[0].result.members == in_database.record.students[0].result.members
    assert elsewhere.store.read("members", elsewhere.record.students[0].result.members[0]) is not None


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"trial": 1}, "trial 1 has only one member at the chosen size, so there is no committee to distil"),
        ({"trial": 0, "size": 1}, "no committee to distil"),
        ({"trial": 9}, "no such trial"),
        ({"trial": 0, "size": 5}, "has 4 members"),
        ({"trial": 0, "documents": 1001}, "1,001 documents: the corpus of the study has 1,000"),
    ],
)
def test_what_cannot_be_distilled_is_refused(run: Run, choice: dict[str, Any], message: str) -> None:
    study = opened(run())
    with pytest.raises(UserError, match=message):
        study.distil(**choice)
    assert opened(run()).record.students == ()


def test_a_study_without_a_result_or_with_a_driver_is_refused(run: Run) -> None:
    study = opened(run())
    with pytest.raises(ExportError, match="no complete trial yet"):
        Study(replace(study.record, trials=())).distil()
    with driver_lock(study.record.folder), pytest.raises(UserError, match="is being run by process"):
        study.distil(trial=0)


def test_members_that_were_named_otherwise_are_not_taken_for_teachers(run: Run) -> None:
    study = opened(run())
    first = replace(study.record.trials[0], members=("0" * 32, *study.record.trials[0].members[1:]))
    with pytest.raises(UserError, match="trained by another version"):
        Study(replace(study.record, trials=(first, *study.record.trials[1:]))).distil(trial=0)


def test_pre_trained_weights_that_are_gone_are_announced_to_be_made_again(run: Run) -> None:
    record = opened(run()).record
    settings = {**record.trials[0].settings, "pretrain_size": 1000, "committee_size": 2}
    bert, store = space_of(trainer="bert"), Store(record.folder.parent / ".other")
    data = simulated_data(bert, store.root)
    specs = trial_specs(settings, seed=0, data=data, trainer=SimulatedTrainer())
    assert specs[0].pretrained is not None
    store.write("pretrained", specs[0].pretrained.digest, {}, {})
    told: list[str] = []
    _tell_of_pretraining(specs, store, bert, told.append)
    assert told == ["the pre-trained weights of seed 1 were removed from the store; they are trained again"]


def test_students_stand_beside_what_they_could_replace(run: Run) -> None:
    study = opened(run()).distil(trial=0)
    table = students_table(study.record, study.evidence).set_index("model")
    assert list(table.index) == ["student", "single member", "committee", "reference"]
    (student,), trial = study.record.students, study.record.trials[0]
    ours, single, whole = (table.loc[name] for name in ("student", "single member", "committee"))
    assert ours["test_metric"] == pytest.approx(student.result.frontier[0].figures["test_accuracy"], abs=1e-6)
    assert single["test_metric"] == pytest.approx(trial.frontier[0].figures["test_accuracy"], abs=1e-6)
    assert whole["test_metric"] == pytest.approx(trial.frontier[3].figures["test_accuracy"], abs=1e-6)
    assert whole["difference"] == pytest.approx(ours["test_metric"] - whole["test_metric"])
    assert whole["difference_low"] < whole["difference"] < whole["difference_high"]
    assert ours["parameters"] == single["parameters"] == whole["parameters"] / 4
    assert ours["latency_ms"] == pytest.approx(single["latency_ms"], abs=1e-6)
    assert ours["training_flops"] == pytest.approx(whole["training_flops"] + student.flops)
    without = students_table(study.record, Evidence(study.record, None)).set_index("model")
    assert without.loc["committee", "difference"] == pytest.approx(whole["difference"], abs=1e-5)
    assert without["difference_low"].isna().all()


def test_commands_tell_of_students(run: Run, call: Callable[..., tuple[int, str, str]]) -> None:
    folder = str(run().folder)
    code, out, err = call("distil", folder, "--trial", "0")
    assert (code, "4 students trained" in err) == (0, True)
    assert "its committee of 4 members" in out
    assert "export" in out
    code, out, _ = call("status", folder)
    assert (code, "student    of trial 0, 4 members: validation accuracy 0." in out) == (0, True)
    assert call("report", folder)[0] == 0
    page = (find_study(folder, "studies") / "report.html").read_text()
    assert "One student in place of a committee" in page
    assert "student of #0 with 4 members" in page
    code, _, err = call("export", folder, "--student", "--out", f"{folder}/out")
    assert (code, "simulated" in err) == (2, True)
    assert "student of 4 members" in call("store", "ls", "--studies-dir", str(Path(folder).parent))[1]
    assert Store(Path(folder).parent / ".store").verify() == []
