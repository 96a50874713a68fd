"""The Python API on a real, tiny study: it returns what the commands print, from the same functions."""

from contextlib import nullcontext

import numpy as np
import pytest
from driven import run_without_ray, space_of
from finished import finished_study

import tlm_search
from tlm_search.api import Study
from tlm_search.cost.machine import this_machine
from tlm_search.cost.shares import Shares
from tlm_search.errors import SpaceError, StudyError
from tlm_search.search import display
from tlm_search.study.location import StudyLocation


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(finished_study(tmp_path_factory.mktemp("studies")).record)


def test_the_exported_names_are_there():
    assert set(tlm_search.__all__) <= set(dir(tlm_search))
    for name in tlm_search.__all__:
        assert getattr(tlm_search, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Studdy'"):
        tlm_search.Studdy  # noqa: B018


def test_a_name_in_the_place_of_a_record_says_what_opens_a_study():
    with pytest.raises(TypeError, match=r"Study.open\('committee'\)"):
        Study("committee")


def test_a_frontier_a_best_and_an_export(study, tmp_path):
    frontier = study.frontier()
    assert list(frontier["size"]) == [1, 2, 3]
    best = study.best(top=1).choices[0].candidate
    assert best.validation_accuracy == frontier["validation_accuracy"].max()
    exported = study.export(tmp_path / "winner", trial=0, size=2)
    assert exported.facts.chosen.size == 2
    model = tlm_search.SoftCommittee.from_pretrained(tmp_path / "winner")
    np.testing.assert_allclose(model.probabilities(["aa ba", ""]).sum(-1), 1, atol=1e-5)


def test_a_space_is_loaded_with_changes(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("trainer: simulated\nsearch: {depth: 1}\nreference: none\n")
    space = tlm_search.Space.load(file, {"budget.trials": 3, "search.depth": {"choices": [1, 2]}})
    assert (space.name, space.budget.trials, list(space.searched())) == ("mine", 3, ["depth"])
    with pytest.raises(SpaceError, match=r"search\.dept"):
        tlm_search.Space.load(str(file), {"search.dept": 2})


def test_a_run_shows_what_the_command_line_shows(tmp_path, monkeypatch, capsys):
    run_without_ray(tmp_path, monkeypatch)
    shown = []
    monkeypatch.setattr(display.Display, "show", lambda self, progress: nullcontext(shown.append(progress)))
    space = space_of(budget={"trials": 1})
    study = Study.run(space, studies_dir=tmp_path / "studies")
    assert len(study.record.trials) == 1
    [progress] = shown
    assert (progress.finished, progress.slots) == (1, Shares(space, [this_machine(with_gpus=False)]).concurrent())
    assert "[1/1] trial 0: validation accuracy" in capsys.readouterr().err
    told = []
    Study.run(space_of(budget={"trials": 2}), studies_dir=tmp_path / "studies", announce=told.append)
    assert any(event.startswith("[2/2]") for event in told)
    assert len(shown) == 1
    assert capsys.readouterr().err == ""


def test_a_study_that_is_not_there(tmp_path):
    StudyLocation(tmp_path / "there", None, "there").write(space_of())
    with pytest.raises(StudyError, match="did you mean there"):
        Study.open("ther", studies_dir=tmp_path)
