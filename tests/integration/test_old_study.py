"""A study and a store that an earlier version wrote: they open, verify and go on, and no member is trained again.

``fixtures/study_of_0.1.tar.xz`` was made by ``tlm-search run tiny.yaml`` of version 0.1.0 (commit 0100f30): three
trials of real members of width 16, a reference, a linear baseline, word vectors and a linear member.
"""

import json
import tarfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from driven import Bench

from tlm_search import Space, Study
from tlm_search.committee.scores import CommitteeScores
from tlm_search.data.prepared import PreparedData
from tlm_search.members.train import trainer_named
from tlm_search.search import session
from tlm_search.search.trial import run_trial
from tlm_search.store.shared import open_store
from tlm_search.study.location import StudyLocation

FIXTURE = Path(__file__).parents[1] / "fixtures" / "study_of_0.1.tar.xz"
TEST_CROSS_ENTROPIES = {0: 0.531348, 1: 0.531259, 2: 0.534813}  # of two members, as that version wrote them


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_opens_with_the_figures_of_then_and_its_store_is_whole(call: Any, old: Path) -> None:
    record = Study.open("tiny").record
    found = {trial.number: trial.frontier[-1].figures["test_cross_entropy"] for trial in record.in_state("complete")}
    assert found == TEST_CROSS_ENTROPIES
    code, out, _ = call("best", "tiny", "--json")
    (best, *_) = json.loads(out)
    assert (code, best["trial"], best["committee_size"], best["baseline_accuracy"]) == (0, 1, 1, 1.0)
    assert call("store", "verify")[0] == 0


def test_its_frontiers_would_be_stored_the_same_today(old: Path) -> None:
    trials = StudyLocation.of(old / "studies" / "tiny", None).open().trials
    stored = [row for trial in trials for row in trial.user_attrs["frontier"]]
    assert stored
    assert [CommitteeScores.from_stored(row).stored() for row in stored] == stored


def test_its_members_are_found_again(old: Path) -> None:
    """Today's code computes the same digests for the old settings, so nothing is trained."""
    record = Study.open("tiny").record
    store = open_store(old / "studies" / ".store")
    data = PreparedData.from_document(record.data, store.root)
    for trial in (*record.in_state("complete"), record.reference):
        assert trial is not None
        seed = record.space.seed
        rungs = list(
            run_trial(trial.settings, seed=seed, data=data, store=store, trainer=trainer_named("bert", cpus=1, gpus=0))
        )
        assert (rungs[-1].trained, list(rungs[-1].members)) == (0, list(trial.members))


def test_it_goes_on(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more trial trains on the data that were prepared then; the old trials stay as they were."""
    before = Study.open("tiny").record
    place = Bench(old / "elsewhere", before.space)
    place.trainer = trainer_named("bert", cpus=1, gpus=0)

    def run_driver(driver: Any, workplace: Any, space: Any, **options: Any) -> bool:
        place.space, place.store = space, open_store(workplace.store)
        place.data = PreparedData.from_document(workplace.data, place.store.root)
        place.run(driver)
        return False

    monkeypatch.setattr("tlm_search.search.ray_tune.run.run_driver", run_driver)
    lines: list[str] = []
    session.run_study(
        Space.load("tiny.yaml", {"budget.trials": 4}),
        studies_dir="studies",
        storage=None,
        address=None,
        fresh=False,
        announce=lines.append,
        show=lambda progress: nullcontext(),
    )
    after = Study.open("tiny").record
    assert len(after.in_state("complete")) == 4
    assert after.trials[:3] == before.trials
    assert after.data == before.data
    assert not [line for line in lines if line.startswith("reading the corpus")]
