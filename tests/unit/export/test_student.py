"""The whole way of a student with real members: distilled, recorded, exported, and answering as in the study."""

from dataclasses import replace

import builders
import numpy as np
import pytest
from finished import Finished, finished_study

from tlm_search.api import Study
from tlm_search.committee.vote import softmax
from tlm_search.errors import ExportError, StoreError
from tlm_search.export.choose import choose_student
from tlm_search.export.committee import Committee
from tlm_search.study.location import StudyLocation


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Study]:
    finished = finished_study(tmp_path_factory.mktemp("studies"))
    folder = finished.record.folder
    StudyLocation(folder, None, folder.name).write(builders.space())
    StudyLocation.of(folder).create(builders.space())
    students = Study(finished.record).distil(trial=0, announce=lambda line: None).record.students
    return finished, Study(replace(finished.record, students=students))


def test_an_exported_student_answers_as_the_store_says(taught, tmp_path):
    finished, study = taught
    exported = study.export(tmp_path / "out", student=True)
    (student,) = study.record.students
    best = student.result.members[0]
    stored = study.store.read("members", best).arrays("logits")
    committee = Committee.load(tmp_path / "out")
    assert committee.size == 1
    assert committee.check() < 1e-5
    np.testing.assert_allclose(
        committee.probabilities(finished.texts), committee.calibration.of(softmax(stored["test"])), atol=1e-4
    )
    assert exported.plain_members
    assert (tmp_path / "out" / "members" / "0" / "model.safetensors").is_file()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "a student of trial 0 with 3 members" in card
    assert "It was distilled" in card
    assert all(f"`{digest}`" in card for digest in finished.record.trials[0].members)
    assert "The committee that taught it cost more." in card


def test_a_student_that_is_gone_or_never_was_is_told_with_the_way_to_it(taught, tmp_path):
    _, study = taught
    (student,) = study.record.students
    gone = replace(student, result=replace(student.result, members=("0" * 32,)))
    with pytest.raises(
        ExportError, match=r"member 0+ of a student of trial 0 with 3 members is missing or damaged in the store"
    ) as no:
        Study(replace(study.record, students=(gone,))).export(tmp_path / "out", student=True)
    assert "tlm-search distil" in str(no.value.hint)
    with pytest.raises(ExportError, match=r"has no student\n") as no:
        choose_student(replace(study.record, students=()))
    assert no.value.hint == "tlm-search distil tiny trains one"
    with pytest.raises(ExportError, match="no student of --trial 0 --size 2") as no:
        choose_student(study.record, number=0, size=2)
    assert (
        no.value.hint
        == "tlm-search distil tiny --trial 0 --size 2 trains one; the study has students of --trial 0 --size 3"
    )


@pytest.mark.parametrize(
    ("part", "message", "hint"),
    [
        ("train", "tokens cannot be read", "run again"),
        (
            "members",
            "member [0-9a-f]+ of the committee is missing or damaged",
            "another trial with --trial",
        ),
    ],
)
def test_what_is_not_in_the_store_any_more_is_told(taught, part, message, hint):
    finished, study = taught
    folder = finished.store.root / part
    lost = folder / finished.record.trials[0].members[0] if part == "members" else folder
    lost.rename(lost.with_name("lost"))
    try:
        with pytest.raises(StoreError, match=message) as no:
            study.distil(trial=0, size=2, announce=lambda line: None)
    finally:
        lost.with_name("lost").rename(lost)
    assert hint in str(no.value.hint)


def test_of_several_students_the_best_on_validation_is_taken(taught):
    _, study = taught
    (student,) = study.record.students
    row = student.result.frontier[0]
    better = replace(
        student, size=2, result=replace(student.result, frontier=(row.having({"validation_accuracy": 1.0 + 1e-9}),))
    )
    record = replace(study.record, students=(student, better))
    assert choose_student(record).student is better
    assert choose_student(record, size=3).student is student


def test_students_of_a_committee_that_reads_spans_read_them_too(tmp_path):
    finished = finished_study(tmp_path, marked=True, pooling="spans")
    folder = finished.record.folder
    StudyLocation(folder, None, folder.name).write(builders.space())
    StudyLocation.of(folder).create(builders.space())
    students = Study(finished.record).distil(trial=0, announce=lambda line: None).record.students
    study = Study(replace(finished.record, students=students))
    study.export(tmp_path / "out", student=True)
    (student,) = study.record.students
    stored = study.store.read("members", student.result.members[0]).arrays("logits")
    committee = Committee.load(tmp_path / "out")
    assert committee.stacks[0].pooling == "spans"
    np.testing.assert_allclose(
        committee.probabilities(finished.texts), committee.calibration.of(softmax(stored["test"])), atol=1e-4
    )
