"""Every storage keeps a study in the same way: the journal file, SQLite, and real servers of the others."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from driven import REFERENCE, Bench, Killed, results, space_of
from optuna.trial import TrialState
from optuna_dashboard import get_note

from tlm_search.search.session import Session
from tlm_search.space.schema import Space
from tlm_search.study.database_lock import study_lock
from tlm_search.study.location import StudyLocation, read_study
from tlm_search.study.storages import open_storage
from tlm_search.study.studies import rename_study

SPACE: dict[str, Any] = {
    "objectives": ["validation_accuracy", "parameters"],
    "constraints": ["parameters <= 1e5"],
    "sampler": {"name": "tpe", "n_startup_trials": 2},
    "pruner": {"name": "asha", "reduction_factor": 2},
    "reference": REFERENCE,
}
TRIALS = 6


def bench(tmp_path: Path, name: str = "here", **sections: Any) -> Bench:
    return Bench(tmp_path / name, space_of(**{**SPACE, **sections}))


def kept(study: optuna.Study) -> list[Any]:
    """Return what a storage holds of trials, without dates and times."""
    return [
        (t.number, t.state, t.params, t.values, t.intermediate_values, t.constraints, t.system_attrs.get("constraints"))
        for t in study.get_trials(deepcopy=False)
    ]


def test_a_study_is_the_same_in_every_storage(tmp_path: Path, storage: str | None) -> None:
    place, journal = bench(tmp_path), bench(tmp_path, "journal")
    driven = place.drive(TRIALS, storage=storage)
    expected = journal.drive(TRIALS)
    assert kept(driven._ledger.study) == kept(expected._ledger.study)
    again = StudyLocation.of(place.folder / "study", storage).open()
    assert kept(again) == kept(expected._ledger.study)
    assert again.metric_names == ["validation_accuracy", "parameters"]
    states = [trial.state for trial in again.trials]
    assert states.count(TrialState.COMPLETE) >= 2
    assert states.count(TrialState.PRUNED) >= 1
    first = again.trials[0]
    note = get_note(optuna.Trial(again, first._trial_id))
    assert "members:** " in note
    assert f"| depth | {first.params['depth']} |" in note


def test_a_study_goes_on_after_its_driver_died(tmp_path: Path, storage: str | None) -> None:
    expected = results(bench(tmp_path, "undisturbed").drive(TRIALS)._ledger)
    place = bench(tmp_path)
    for death in (4, 5):
        steps = iter(range(1, death))

        def die(job: Any, size: int, steps: Any = steps) -> None:
            if next(steps, None) is None:
                raise Killed

        with pytest.raises(Killed):
            place.run(place.driver(TRIALS, storage=storage), before_rung=die)
        assert [
            t for t in StudyLocation.of(place.folder / "study", storage).open().trials if t.state == TrialState.RUNNING
        ]
    driver = place.drive(TRIALS, storage=storage)
    assert results(driver._ledger) == expected
    trials = StudyLocation.of(place.folder / "study", storage).open().trials
    assert not [t for t in trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    lost = [t for t in trials if t.user_attrs.get("interrupted")]
    assert len(lost) == 2
    assert all(any(other.user_attrs.get("retry_of") == t.number for other in trials) for t in lost)


def test_failures_keep_their_reason(tmp_path: Path, storage: str | None) -> None:
    ledger = bench(tmp_path, pruner="none").ledger(storage)
    asked = ledger.ask(0)
    ledger.report(asked.trial_id, 1, 0.25)
    ledger.fail(asked.trial_id, "the loss is not a number ☠ 损失", {"settings": dict(asked.settings)})
    (trial,) = StudyLocation.of(tmp_path / "here" / "study", storage).open().trials
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["error"] == "the loss is not a number ☠ 损失"
    assert trial.intermediate_values == {1: 0.25}
    assert trial.params == asked.params


def test_attributes_may_be_long(tmp_path: Path, storage: str | None) -> None:
    """The records of a committee of 64, and one that is too large for MySQL's TEXT."""
    ledger = bench(tmp_path, pruner="none").ledger(storage)
    record = {f"metric_number_{i}": math.pi * i for i in range(16)}
    written = {}
    for size in (64, 1000):
        asked = ledger.ask(size)
        attributes = {
            "settings": dict(asked.settings), "members": [f"{i:032x}" for i in range(size)], "trained": size,
            "reused": 0, "seconds": 1.0, "frontier": [{"size": i, **record} for i in range(size)],
        }  # fmt: skip
        ledger.complete(asked.trial_id, [0.5, 1e4], attributes)
        written[asked.number] = attributes
    ledger.note("facts", written[1])
    study = StudyLocation.of(tmp_path / "here" / "study", storage).open()
    for number, attributes in written.items():
        trial = study.trials[number]
        assert {key: trial.user_attrs[key] for key in attributes} == attributes
    assert study.user_attrs["facts"] == json.loads(json.dumps(written[1]))


def test_a_study_is_read_while_it_is_written(tmp_path: Path, storage: str | None) -> None:
    place = bench(tmp_path, pruner="none")
    StudyLocation(place.folder / "study", None, "study").write(place.space)
    place.ledger(storage)
    ended, seen, problems = threading.Event(), [], []

    def read() -> None:
        try:
            while not ended.is_set():
                seen.append(len(read_study(place.folder / "study", storage).in_state("complete")))
        except Exception as problem:
            problems.append(problem)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        place.drive(TRIALS, storage=storage)
    finally:
        ended.set()
        reader.join()
    assert not problems
    assert seen == sorted(seen)
    assert len(read_study(place.folder / "study", storage).in_state("complete")) == TRIALS


def test_a_study_is_renamed(tmp_path: Path, storage: str | None) -> None:
    place = bench(tmp_path)
    trials = kept(place.drive(2, storage=storage)._ledger.study)
    opened = open_storage(place.folder / "study", storage)
    rename_study("study", "study.1", opened)
    rename_study("nobody", "nobody.1", opened)
    opened = open_storage(place.folder / "study", storage)
    assert optuna.get_all_study_names(opened) == ["study.1"]
    assert kept(StudyLocation(place.folder / "study", storage, "study.1").open()) == trials
    StudyLocation.of(place.folder / "study", storage).create(place.space)
    assert sorted(optuna.get_all_study_names(opened)) == ["study", "study.1"]


def test_a_study_is_free_as_soon_as_its_driver_ends(tmp_path: Path, storage: str | None) -> None:
    for _ in range(100):
        with study_lock(storage, "test", tmp_path, lambda _: None):
            pass


def test_a_study_is_run_read_and_begun_anew(
    tmp_path: Path, storage: str | None, run: Callable[..., Session], call: Callable[..., Any], monkeypatch: Any
) -> None:
    """Do what a user does, with the commands. No file in the folder contains the password."""

    def space(**sections: Any) -> Space:
        return space_of(**{"budget": {"trials": 3}, **sections})

    run(space(), storage=storage)
    assert not run(space(), storage=storage).worked
    run(space(seed=1), storage=storage, fresh=True)
    if storage is not None and "@" in storage:
        assert call("status", "test", "--studies-dir", str(tmp_path / "studies"))[0] == 2
        monkeypatch.setenv("TLM_SEARCH_STORAGE", storage)
    for name, seed in (("test", 1), ("test.1", 0)):
        code, out, _ = call("status", name, "--json", "--studies-dir", str(tmp_path / "studies"))
        assert (code, json.loads(out)["trials"]["complete"]) == (0, 3)
        record = read_study(tmp_path / "studies" / name)
        assert record.space.seed == seed
        assert record.name == ("test" if storage is None else name)
        if name == "test":
            assert call("report", name, "--studies-dir", str(tmp_path / "studies"))[0] == 0
        for file in (tmp_path / "studies" / name).rglob("*"):
            assert file.is_dir() or b"cr%3At" not in file.read_bytes(), file
        study = StudyLocation(tmp_path / "studies" / name, storage, record.name).open()
        opened = open_storage(tmp_path / "studies" / name, storage)
        assert "s3cr" not in json.dumps([study.user_attrs, opened.get_study_system_attrs(study._study_id)])
