import itertools
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from driven import SEARCH, run_without_ray, space_of

from tlm_search.errors import ResourceError, StoreError, StudyError
from tlm_search.search import session
from tlm_search.space.schema import Space, load_space
from tlm_search.study.identity import check_same_space
from tlm_search.study.location import StudyLocation, find_study, read_study
from tlm_search.study.record import StudyRecord


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., session.Session]:
    return run_without_ray(tmp_path, monkeypatch)


def space(**sections: Any) -> Space:
    return space_of(**{"budget": {"trials": 3}, **sections})


def read(tmp_path: Path, name: str = "test") -> StudyRecord:
    return read_study(find_study(name, tmp_path / "studies"))


def test_a_study_is_run_and_found_by_name_and_path(tmp_path: Path, run: Callable[..., session.Session]) -> None:
    assert run(space()).worked
    assert not run(space()).worked
    record = read(tmp_path)
    assert len(record.trials) == 3
    assert record.labels == ("label 0", "label 1", "label 2", "label 3")
    assert record.data["documents"] == 1000
    assert "optuna" in record.versions
    assert read_study(find_study(str(tmp_path / "studies" / "test"), tmp_path / "none")).name == "test"
    with pytest.raises(StudyError, match=r"no study tets under .*; did you mean test"):
        find_study("tets", tmp_path / "studies")
    assert load_space(tmp_path / "studies" / "test" / "space.yaml") == space()


def test_a_moved_study_goes_on(tmp_path: Path, run: Callable[..., session.Session]) -> None:
    run(space())
    (tmp_path / "studies").rename(tmp_path / "moved")
    (tmp_path / "moved" / "test").rename(tmp_path / "moved" / "other")
    assert read_study(find_study("other", tmp_path / "moved")).name == "test"
    assert run(space(name="other", budget={"trials": 4}), studies="moved").driver.progress.finished == 4


def test_another_space_is_refused_and_nothing_changes(tmp_path: Path, run: Callable[..., session.Session]) -> None:
    run(space())
    files = {path: path.read_bytes() for path in (tmp_path / "studies" / "test").iterdir() if path.is_file()}
    other = space(search={**SEARCH, "head_size": 16}, seed=3)
    with pytest.raises(StudyError, match=r"another space: seed: 0 there, 3 here; search.head_size: 8 there, 16 here"):
        run(other)
    assert files == {path: path.read_bytes() for path in files}
    assert run(space(budget={"trials": 4})).driver.progress.finished == 4  # the budget is not part of its identity


def test_a_study_whose_file_gave_no_sizes_is_told_how_to_go_on() -> None:
    # Every task was balanced then, and the study's document contains the sizes.
    before = Space.from_document({"task": {"source": "x.csv", "train_per_label": 100}})
    study = optuna.create_study(study_name="old")
    study.set_user_attr("space", before.to_document())
    study.set_user_attr("space_digest", before.digest)
    with pytest.raises(StudyError, match="train_per_label: 100 there, nothing here") as caught:
        check_same_space(study, Space.from_document({"task": {"source": "x.csv"}}))
    sizes = "train_per_label: 100, validation_per_label: 50, test_per_label: 100"
    assert caught.value.hint.startswith(
        f"to continue it give task its balanced samples: {sizes}; or choose another --name"
    )
    check_same_space(study, Space.from_document({"task": {"source": "x.csv", **yaml.safe_load(f"{{{sizes}}}")}}))
    with pytest.raises(StudyError) as caught:
        check_same_space(study, Space.from_document({"task": {"source": "x.csv", "train_per_label": 9}}))
    assert caught.value.hint.startswith("choose another --name")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write the files of a study of real texts, and run the study without any trial."""
    monkeypatch.setattr("tlm_search.search.ray_tune.run.run_driver", lambda *_, **__: False)
    monkeypatch.chdir(tmp_path)
    words = [f"w{first}{second}" for first in "abcdef" for second in "aeiou"]

    def write_and_run(**changed: int) -> None:
        pairs = list(itertools.combinations(words, 2))
        for name in ("task", "corpus", "more"):
            begin = {"task": 0, "corpus": 100, "more": 200}[name] + changed.get(name, 0)
            rows = [f"{first} {second},{'xy'[place % 2]}" for place, (first, second) in enumerate(pairs[begin:][:60])]
            Path(f"{name}.csv").write_text("\n".join(["text,label", *rows, ""]))
        document = {
            "name": "test",
            "corpus": "corpus.csv",
            "tokenizer": {"vocabulary": 200, "length": 8},
            "task": {"source": "task.csv", "unlabelled": "more.csv"},
            "search": {"committee_size": 2},
            "baseline": "none",
            "budget": {"trials": 1},
        }
        session.run_study(
            Space.from_document(document),
            studies_dir=tmp_path / "studies",
            storage=None,
            address=None,
            fresh=False,
            announce=lambda _: None,
            show=lambda _: nullcontext(),
        )

    return write_and_run


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("task", "the rows of the task task.csv"),
        ("corpus", "the corpus corpus.csv, the vocabulary"),
        ("more", "the unlabelled texts more.csv"),
    ],
)
def test_other_data_are_refused_and_told(
    tmp_path: Path, files: Callable[..., None], call: Callable[..., Any], name: str, message: str
) -> None:
    files()
    files()  # written again, with the same contents
    assert not json.loads(call("status", "test", "--json")[1])["changed_sources"]
    with pytest.raises(StudyError, match=f"began with other data; changed since: .*{message}") as caught:
        files(**{name: 1})
    assert caught.value.hint.startswith("restore the old data; or choose another --name")
    assert f"{name}.csv has changed since the study began" in call("status", "test")[1]
    assert f"{name}.csv has changed since the study began" in call("best", "test")[1]
    assert json.loads(call("status", "test", "--json")[1])["changed_sources"] == [f"{name}.csv"]
    call("report", "test", "--format", "md")
    assert f"{name}.csv has changed since the study began" in (tmp_path / "studies/test/report.md").read_text()
    Path(f"{name}.csv").unlink()  # as on another machine, which lacks the file
    assert not json.loads(call("status", "test", "--json")[1])["changed_sources"]


@pytest.mark.parametrize("database", [False, True])
def test_fresh_moves_the_old_study_aside(tmp_path: Path, run: Callable[..., session.Session], database: bool) -> None:
    url = f"sqlite:///{tmp_path}/study.db" if database else None
    run(space(), storage=url)
    for number in (1, 2):
        assert run(space(seed=number, budget={"trials": 2}), storage=url, fresh=True).worked
        assert len(read(tmp_path).trials) == 2
        assert len(read(tmp_path, "test.1").trials) == 3
    assert read(tmp_path, "test.2").space.seed == 1


@pytest.mark.parametrize("kept", ["their work", "nothing", "a killed start"])
def test_fresh_moves_nothing_but_studies(tmp_path: Path, run: Callable[..., session.Session], kept: str) -> None:
    folder = tmp_path / "studies" / "test"
    folder.mkdir(parents=True)
    if kept == "their work":
        (folder / "thesis.tex").touch()
        with pytest.raises(StudyError, match="is not a study"):
            run(space(), fresh=True)
        assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
        return
    if kept == "a killed start":
        (folder / "driver.lock").touch()
    assert run(space(), fresh=True).worked


def test_a_relative_database_stays_where_it_was_made(
    tmp_path: Path, run: Callable[..., session.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    run(space(), storage="sqlite:///study.db")
    monkeypatch.chdir(elsewhere)
    assert len(read(tmp_path).trials) == 3
    assert not run(space()).worked
    assert list(elsewhere.iterdir()) == []
    monkeypatch.setenv("TLM_SEARCH_STORAGE", "sqlite:///of_new_studies.db")
    assert StudyLocation.of(tmp_path / "none").storage == f"sqlite:///{elsewhere}/of_new_studies.db"


@pytest.mark.parametrize("name", ["what?", "50%25", "50%", "a#b", "a b", "ü&=+"])
def test_a_relative_database_stays_in_its_folder_whatever_its_name(
    tmp_path: Path, run: Callable[..., session.Session], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    here = tmp_path / name
    here.mkdir()
    monkeypatch.chdir(here)
    run(space(), storage="sqlite:///study.db")
    monkeypatch.chdir(tmp_path)
    assert len(read(tmp_path).trials) == 3
    assert not run(space()).worked
    assert (here / "study.db").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {name, "studies"}


def test_a_run_says_which_database_the_folder_names(tmp_path: Path, run: Callable[..., session.Session]) -> None:
    """A folder that somebody else made may name any database."""
    lines: list[str] = []
    url = f"sqlite:///{tmp_path}/study.db"
    run(space(), storage=url, announce=lines.append)
    assert not [line for line in lines if "study.json" in line]
    assert not run(space(), announce=lines.append).worked
    assert f"the study is stored in {url}, as its study.json says" in lines


def test_reading_makes_no_database_and_says_where_it_looked(
    tmp_path: Path, run: Callable[..., session.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions made studies whose database has a relative path."""
    monkeypatch.chdir(tmp_path)
    run(space(), storage="sqlite:///study.db")
    StudyLocation(tmp_path / "studies" / "test", "sqlite:///study.db", "test").write(space())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for act in (lambda: read(tmp_path), lambda: run(space())):
        with pytest.raises(StudyError, match=f"sqlite:///{tmp_path}/elsewhere/study.db does not exist") as no:
            act()
        assert "--storage" in str(no.value.hint)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not run(space(), storage=f"sqlite:///{tmp_path}/study.db").worked
    assert len(read(tmp_path).trials) == 3


def test_reading_makes_no_journal(tmp_path: Path, run: Callable[..., session.Session]) -> None:
    run(space())
    journal = tmp_path / "studies" / "test" / "journal.log"
    journal.rename(tmp_path / "journal.log")
    with pytest.raises(StudyError, match="has no study test"):
        read(tmp_path)
    assert not journal.exists()


def test_a_password_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:secret@host/db"
    StudyLocation(tmp_path / "study", url, "study").write(space())
    assert "secret" not in (tmp_path / "study" / "study.json").read_text()
    with pytest.raises(StudyError, match="its password is not stored"):
        StudyLocation.of(tmp_path / "study")
    assert StudyLocation.of(tmp_path / "study", url).storage == url
    monkeypatch.setenv("TLM_SEARCH_STORAGE", url)
    assert StudyLocation.of(tmp_path / "study").storage == url


def test_what_cannot_be_scheduled_is_refused_before_anything_is_written(
    tmp_path: Path, run: Callable[..., session.Session]
) -> None:
    with pytest.raises(ResourceError, match="a trial asks for 1e"):
        run(space(resources={"cpus_per_trial": 1e6}))
    assert not (tmp_path / "studies").exists()


def test_a_storage_that_is_not_there_leaves_nothing(tmp_path: Path, run: Callable[..., session.Session]) -> None:
    with pytest.raises(StudyError, match="cannot be opened"):
        run(space(), storage="sqlite:////no/such/folder/study.db")
    assert not (tmp_path / "studies").exists()


def test_what_differs_is_told_by_setting(tmp_path: Path, run: Callable[..., session.Session]) -> None:
    run(space())
    with pytest.raises(StudyError, match=r"search.depth: choices \[1, 2\], role scientific there, 2 here; refer"):
        run(space(search={**SEARCH, "depth": 2}, reference={"heads": 1, "pretrain_size": 0}))


def test_a_folder_that_cannot_be_written_is_said_clearly(tmp_path: Path, run: Callable[..., session.Session]) -> None:
    (tmp_path / "studies").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        run(space())


def test_a_disk_that_fills_up_is_said_clearly(
    tmp_path: Path, run: Callable[..., session.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(space())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((StudyError, StoreError), match="No space left on device"):
        run(space(budget={"trials": 5}))
    monkeypatch.undo()


def test_nothing_is_moved_over_something(tmp_path: Path) -> None:
    for name in ("study", "study.1", "study.2"):
        (tmp_path / name).mkdir()
    assert StudyLocation.of(tmp_path / "study").move_aside().name == "study.3"
