"""Notes in the format of Optuna Dashboard, written without it."""

import sys
from collections.abc import Callable

import optuna
import pytest
from driven import Bench
from optuna_dashboard import get_note
from optuna_dashboard import save_note as save_note_of_the_dashboard

from tlm_search.search.note import save_note

MakeBench = Callable[..., Bench]


@pytest.mark.parametrize("length", [1, 2045, 2046, 5000])
@pytest.mark.parametrize("before", [0, 3, 7000])
def test_a_note_of_any_length_takes_the_place_of_another(length: int, before: int) -> None:
    study = optuna.create_study()
    trial, other = study.ask(), study.ask()
    save_note_of_the_dashboard(other, "stays")
    if before:
        save_note_of_the_dashboard(trial, "b" * before)
    note = "".join(chr(97 + i % 26) for i in range(length))
    save_note(study._storage, study._study_id, trial._trial_id, note)
    assert get_note(trial) == note
    assert get_note(other) == "stays"
    version = study._storage.get_study_system_attrs(study._study_id)[f"dashboard:{trial._trial_id}:note_ver"]
    assert version == (2 if before else 1)


def test_a_driver_needs_no_dashboard(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna Dashboard imports scikit-learn, which takes seconds."""
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    study = bench().drive(1)._ledger.study
    assert "members:** " in get_note(optuna.Trial(optuna.Study(study.study_name, study._storage), 0))
