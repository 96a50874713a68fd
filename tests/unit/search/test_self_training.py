"""Self-training in simulated studies: teachers are trained first and once, students vote, and costs count both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from driven import REFERENCE, SEARCH, Bench, Stacking, results, run_without_ray, space_of

from tlm_search.api import Study
from tlm_search.committee.candidates import candidates
from tlm_search.data.prepared import PreparedData
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.members.spec import MemberSpec
from tlm_search.members.train import MemberResult
from tlm_search.members.trainer import KIND, TrainedMember
from tlm_search.report.tables.tables import configuration_words, frontiers_table, trials_table
from tlm_search.search import work_stealing
from tlm_search.search.trial import Rung, run_trial, teacher_specs, training_costs, trial_specs
from tlm_search.search.work_stealing import Help, help_trial, members_to_train
from tlm_search.store.local import Store
from tlm_search.study.garbage import remove_garbage

MakeBench = Callable[..., Bench]

SOFT_LABELS = "soft_labels"
TASK = {"unlabelled": {"source": "texts.csv", "documents": 500}}
SELF_TRAINED = {**SEARCH, "self_training": {"choices": [0, 1]}, "teachers": 3}
POINT = {"depth": 1, "heads": 2, "pretrain_size": 0, "committee_size": 4}


class Checking(Stacking):
    """Refuses to train a student before its teachers are all in the store."""

    def __init__(self, many: int = 1) -> None:
        super().__init__(many)
        self.digests: list[str] = []
        self.students = 0

    def train(self, specs: Sequence[MemberSpec], *, store: Store, **where: Any) -> tuple[TrainedMember, ...]:
        for spec in specs:
            if spec.teaching is not None:
                self.students += 1
                missing = [name for name in spec.teaching.teachers if store.read(KIND, name) is None]
                assert not missing, f"student {spec.seed} before its teachers {missing}"
        self.digests += [spec.digest for spec in specs]
        return super().train(specs, store=store, **where)


@pytest.fixture
def place(bench: MakeBench) -> Bench:
    made = bench(task=TASK, search=SELF_TRAINED)
    made.trainer = Checking()
    return made


def settings_of(place: Bench, **params: Any) -> Any:
    return place.space.settings({**POINT, "self_training": 1, **params})


def there(place: Bench, **more: Any) -> dict[str, Any]:
    return {"seed": 0, "data": place.data, "store": place.store, "trainer": place.trainer, **more}


def run(place: Bench, **params: Any) -> list[Rung]:
    return list(run_trial(settings_of(place, **params), **there(place)))


def test_students_vote_and_their_teachers_are_the_members_of_the_same_configuration(place: Bench) -> None:
    plain = run(place, self_training=0)[-1]
    first, second, last = run(place)
    assert [rung.size for rung in (first, second, last)] == [1, 2, 4]
    assert (first.trained, first.reused) == (1, 3), "all three teachers were there"
    assert (last.trained, last.reused) == (4, 3)
    assert not set(last.members) & set(plain.members)
    for name in last.members:
        entry = place.store.read(KIND, name)
        assert entry is not None
        teaching = entry.document["spec"]["teaching"]
        assert teaching["teachers"] == list(plain.members[:3])
        assert teaching["unlabelled"] == place.data.unlabelled_fingerprint
        settings = entry.document["spec"]["settings"]
        assert (settings["epochs"], settings["batch_size"], settings["learning_rate"]) == (3, 32, 1e-3)
    assert last.metrics["parameters"] == plain.metrics["parameters"]
    assert last.metrics["latency_ms"] == plain.metrics["latency_ms"]
    assert last.metrics["validation_accuracy"] > plain.metrics["validation_accuracy"]


def test_nothing_is_trained_twice_in_whatever_order_the_trials_come(bench: MakeBench) -> None:
    names = []
    for order in ((0, 1), (1, 0)):
        made = bench(task=TASK, search=SELF_TRAINED)
        made.store = Store(made.folder / f"store {order}")
        made.trainer = trainer = Checking()
        for self_training in order:
            run(made, self_training=self_training)
        assert len(trainer.digests) == len(set(trainer.digests)) == 8
        names.append(set(trainer.digests))
    assert names[0] == names[1]


def test_the_cost_of_training_holds_that_of_the_teachers_once(place: Bench) -> None:
    plain = run(place, self_training=0, committee_size=1)[-1]
    each = plain.metrics["training_flops"]
    first, _, last = run(place)
    student = (last.metrics["training_flops"] - first.metrics["training_flops"]) / 3
    assert first.metrics["training_flops"] == pytest.approx(3 * each + student)
    assert student == pytest.approx(each * (200 + 500) / 200)
    assert [record.figures["training_flops"] for record in last.frontier] == pytest.approx(
        [3 * each + size * student for size in (1, 2, 3, 4)]
    )


def test_what_phases_share_is_counted_once() -> None:
    """A teacher and the student of its seed share an encoder, and all students share the teachers' answers."""

    def member(name: str, seed: int, flops: float, **more: Any) -> MemberResult:
        cost = {"flops": flops, "seconds": flops / 10, **more}
        document = {
            "finetuning": cost,
            "pretraining": {"flops": 1000.0, "seconds": 100.0},
            "spec": {"pretrained": {"seed": seed}},
        }
        return MemberResult(name, None, None, 0.0, 0.0, document)  # type: ignore[arg-type]

    answers = {"flops": 5.0, "seconds": 0.5}
    teachers = [member("a", 0, 10.0), member("b", 1, 10.0)]
    students = [member("c", 0, 35.0, answers=answers), member("d", 1, 35.0, answers=answers)]
    costs = training_costs(students, teachers)
    assert costs["training_flops"] == 2 * 1000 + 2 * 10 + 2 * 30 + 5
    assert costs["training_seconds"] == pytest.approx(costs["training_flops"] / 10)
    assert training_costs(students[:1], teachers)["training_flops"] == 2 * 1000 + 2 * 10 + 30 + 5


def test_settings_of_students_make_no_difference_without_self_training(place: Bench) -> None:
    plain = trial_specs(settings_of(place, self_training=0), **where(place))
    same = place.space.model_copy(update={"search": {**place.space.search, "student_epochs": 9, "teachers": 7}})
    settings = same.settings({**POINT, "self_training": 0})
    assert trial_specs(settings, **where(place)) == plain
    assert settings == place.space.settings({**POINT, "self_training": 0})
    assert not any(spec.teaching for spec in plain)
    changed = trial_specs(same.settings({**POINT, "self_training": 1}), **where(place))
    assert changed[0].digest != trial_specs(settings_of(place), **where(place))[0].digest
    assert changed[0].settings.epochs == 9


def where(place: Bench) -> dict[str, Any]:
    return {"seed": 0, "data": place.data, "trainer": place.trainer}


@pytest.mark.parametrize(("prunable", "trained"), [(True, [3, 1, 1, 2]), (False, [3, 4])])
def test_teachers_are_trained_together_and_before_the_first_rung(
    place: Bench, prunable: bool, trained: list[int]
) -> None:
    place.trainer = trainer = Checking(8)
    rungs = list(run_trial(settings_of(place), **there(place), prunable=prunable))
    assert trainer.trained == trained
    assert [rung.size for rung in rungs] == [1, 2, 4]


def test_a_trial_that_is_pruned_trains_no_more_students(place: Bench) -> None:
    next(run_trial(settings_of(place), **there(place)))
    assert isinstance(place.trainer, Checking)
    assert place.trainer.students == 1


def test_a_helper_takes_teachers_first_and_students_when_they_are_all_there(place: Bench) -> None:
    settings = settings_of(place)
    given = [help.member for help in help_trial(settings, **there(place), attempt="one")]
    assert given == [2, 1, 0, 3, 2, 1, 0, None]
    last = list(run_trial(settings, **there(place), attempt="one"))[-1]
    assert (last.trained, last.reused) == (7, 0), "what a helper trained for the attempt is its own"
    again = list(run_trial(settings, **there(place), attempt="another"))[-1]
    assert (again.trained, again.reused) == (0, 7)


def test_teachers_and_students_are_hybrids_where_the_committee_has_a_linear_member(bench: MakeBench) -> None:
    place = bench(task=TASK, search={**SELF_TRAINED, "linear_member": True})
    place.trainer = Checking()
    settings = settings_of(place)
    given = [help.member for help in help_trial(settings, **there(place), attempt="one")]
    assert given == [2, 1, 0, 3, 2, 1, 0, None], "a helper mixes the teachers when it has waited for them"
    teachers = teacher_specs(settings, **where(place))
    assert all(spec.linear is not None and place.store.read(KIND, spec.digest) for spec in teachers)
    last = list(run_trial(settings, **there(place), attempt="one"))[-1]
    assert (last.trained, last.reused) == (7, 0)
    entries = [place.store.read(KIND, name) for name in last.members]
    assert all(entry is not None and "linear" in entry.document["spec"] for entry in entries)
    (linear,) = place.store.entries("linear")
    plain = training_costs_of_plain(place, settings)
    assert last.metrics["training_flops"] == pytest.approx(plain + linear.document["flops"])
    costs = [record.figures["parameters"] for record in last.frontier]
    assert costs[1] - costs[0] == costs[3] - costs[2] < costs[0]


def training_costs_of_plain(place: Bench, settings: Any) -> float:
    own = {**settings, "linear_member": False}
    other = Store(place.folder / "plain")
    return list(run_trial(own, **there(place, store=other)))[-1].metrics["training_flops"]


def test_where_the_teachers_vote_helpers_train_them_and_nothing_is_counted_twice(bench: MakeBench) -> None:
    taught = {"linear_member": True, "student_linear": "teachers", "student_epochs": 0}
    place = bench(task=TASK, search={**SELF_TRAINED, **taught})
    place.trainer = trainer = Checking()
    settings = settings_of(place)
    assert [members_to_train(settings, voting=size) for size in (0, 1, 4)] == [4, 3, 0]
    assert members_to_train(settings_of(place, committee_size=2), voting=0) == 3, "its teachers are three"
    given = [help.member for help in help_trial(settings, **there(place), attempt="one")]
    assert given == [2, 1, 0, 3, None]
    last = list(run_trial(settings, **there(place), attempt="one"))[-1]
    assert (last.trained, last.reused) == (4, 0)
    assert trainer.students == 0
    again = list(run_trial(settings, **there(place), attempt="two"))[-1]
    assert (again.trained, again.reused) == (0, 4)


def test_a_helper_waits_for_teachers_that_the_trial_trains_now(place: Bench) -> None:
    settings = settings_of(place)
    teachers = teacher_specs(settings, **where(place))
    held, helped = threading.Event(), []

    def trial() -> None:
        with place.store.lock(KIND, teachers[0].digest):
            held.set()
            waiting.wait(5)
            (member,) = Checking().train(teachers[:1], store=place.store, data=place.data)
            place.store.write(KIND, member.spec.digest, member.document, member.arrays)

    waiting = threading.Event()
    thread = threading.Thread(target=trial)
    thread.start()
    held.wait(5)
    helper = help_trial(settings, **there(place), attempt="one")
    helped += [next(helper).member, next(helper).member]
    assert helped == [2, 1]
    waiting.set()
    assert next(helper).member == 3, "the last student, once the first teacher is there"
    thread.join(5)


def test_a_helper_trains_no_student_where_a_teacher_is_missing(place: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial died at a teacher."""
    monkeypatch.setattr(work_stealing, "train_if_free", lambda *specs, **where: False)
    assert list(help_trial(settings_of(place), **there(place), attempt="one")) == [Help(None)]


def test_teachers_count_for_who_is_helped_until_they_are_there(place: Bench) -> None:
    settings = settings_of(place, committee_size=1)
    assert (members_to_train(settings, voting=0), members_to_train(settings, voting=1)) == (4, 0)
    assert members_to_train(settings_of(place, self_training=0), voting=0) == 4
    driver = Bench(
        place.folder,
        space_of(task=TASK, search={**SELF_TRAINED, "self_training": 1}, points=[{**POINT, "committee_size": 1}]),
    ).driver(1)
    trial, helper = driver.next_job("trial"), driver.next_job("helper")
    assert trial is not None
    assert helper is not None
    assert helper.helping


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Study]]:
    driven = run_without_ray(tmp_path, monkeypatch)

    def run(trials: int = 8, **sections: Any) -> Study:
        document = {"task": TASK, "search": SELF_TRAINED, "budget": {"trials": trials}, **sections}
        return Study.open(str(driven(space_of(**document)).folder))

    yield run


def test_a_search_over_self_training_ends_with_students_and_members_side_by_side(
    studies: Callable[..., Study],
) -> None:
    study = studies(
        12,
        reference={**REFERENCE, "self_training": 1, "teachers": 2},
        points=[{**POINT, "self_training": kind} for kind in (0, 1)],
    )
    record = study.record
    plain, taught = record.trials[:2]
    assert configuration_words(record, plain).endswith("not self-trained")
    assert configuration_words(record, taught).endswith(", self-trained")
    assert "student" not in "".join(configuration_words(record, trial) for trial in record.trials)
    assert set(trials_table(record)["self_training"]) == {0, 1}
    assert record.reference is not None
    assert record.reference.settings["teachers"] == 2
    table = frontiers_table(record)
    costs = table[table["trial"] == 1]["training_flops"]
    assert list(costs) == [candidate.training_flops for candidate in candidates(taught)]
    assert costs.iloc[0] > taught.metrics["training_flops"] / 4, "teachers are no part of a student"
    assert study.best(top=1).choices[0].candidate.trial.settings["self_training"] == 1
    entries = {e.digest: e.document["spec"] for e in study.store.entries(KIND)}
    assert all(name in entries for trial in record.trials for name in trial.members)
    made = sum(trial.trained for trial in [*record.trials, record.reference])
    assert made == len(entries)


def test_the_teachers_of_a_kept_student_are_kept(studies: Callable[..., Study]) -> None:
    study = studies(1, points=[{**POINT, "self_training": 1}])
    study.store.write(KIND, "0" * 32, {"spec": {"pretrained": None}}, {})
    settings = study.record.trials[0].settings
    data = PreparedData.from_document(study.record.data, study.store.root)
    teaching = trial_specs(settings, seed=0, data=data, trainer=SimulatedTrainer())[0].teaching
    assert teaching is not None
    for name in (teaching.digest, "0" * 32):
        study.store.write(SOFT_LABELS, name, {"teaching": teaching.to_document()}, {})
    garbage, _ = remove_garbage(study.record.folder.parent)
    assert set(garbage.entries) == {(KIND, "0" * 32), (SOFT_LABELS, "0" * 32)}
    assert len(study.store.sizes(KIND)) == 4 + 3
    assert len(study.store.sizes(SOFT_LABELS)) == 1


def test_the_teachers_of_a_linear_model_are_kept(studies: Callable[..., Study]) -> None:
    taught = {"linear_member": True, "student_linear": "teachers", "student_epochs": 0}
    study = studies(1, search={**SELF_TRAINED, **taught}, points=[{**POINT, "self_training": 1, "committee_size": 2}])
    settings = study.record.trials[0].settings
    data = PreparedData.from_document(study.record.data, study.store.root)
    teaching = trial_specs(settings, seed=0, data=data, trainer=SimulatedTrainer())[0].taught
    assert teaching is not None
    study.store.write(SOFT_LABELS, teaching.digest, {"teaching": teaching.to_document()}, {})
    garbage, _ = remove_garbage(study.record.folder.parent)
    assert not garbage.entries
    entry = study.store.read(KIND, teaching.teachers[2])
    assert entry is not None, "it teaches and does not vote"


def test_a_study_goes_on_after_it_died_among_its_students(place: Bench, tmp_path: Path) -> None:
    settings = settings_of(place)
    steps = run_trial(settings, **there(place))
    next(steps)
    next(steps)
    steps.close()
    assert isinstance(place.trainer, Checking)
    before = list(place.trainer.digests)
    last = list(run_trial(settings, **there(place)))[-1]
    assert place.trainer.digests[len(before) :] == [spec.digest for spec in trial_specs(settings, **where(place))[2:]]
    assert (last.trained, last.reused) == (2, 5)
    other = Bench(tmp_path / "other", place.space)
    assert list(run_trial(settings, **there(other)))[-1].metrics == last.metrics


def test_distilled_from_students_it_learns_from_the_unlabelled_texts_too(studies: Callable[..., Study]) -> None:
    study = studies(2, points=[{**POINT, "self_training": kind} for kind in (0, 1)])
    unlabelled = []
    for trial in (0, 1):
        (student,) = (s for s in study.distil(trial=trial).record.students if s.trial == trial)
        entry = study.store.read(KIND, student.result.members[0])
        assert entry is not None
        unlabelled.append("unlabelled" in entry.document["spec"]["teaching"])
    assert unlabelled == [False, True]


def test_two_simulated_searches_are_equal(bench: MakeBench, tmp_path: Path) -> None:
    space = space_of(task=TASK, search=SELF_TRAINED)
    first, second = (Bench(tmp_path / name, space).drive(6) for name in "ab")
    assert results(first._ledger) == results(second._ledger)
