"""A worker on a node that has, or lacks, what it needs; what is missing is reported before any training."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from driven import Stacking, space_of
from machines import On, objects

from tlm_search.data.prepared import PreparedData
from tlm_search.data.simulated import simulated_data
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.remote.mount import remote_at
from tlm_search.remote.remote import Remote
from tlm_search.search.job import Job
from tlm_search.search.ray_tune.trainable import CommitteeTrial, deliverable
from tlm_search.search.trial import Rung, trial_specs
from tlm_search.search.work_stealing import Help
from tlm_search.search.workplace import Workplace
from tlm_search.store.local import Store
from tlm_search.store.shared import open_store

SPACE = space_of()


def trainer_that_must_not_be_made(gpus: float) -> Any:
    raise AssertionError("it would train")


def workplace(store: Store) -> Workplace:
    remote = remote_at(store.root.parent)
    return Workplace(
        seed=0,
        data=simulated_data(SPACE, store.root).to_document(),
        store=store.root,
        identity=store.identity(),
        logs=store.root.parent / "study" / "logs",
        prunes=False,
        make_trainer=lambda gpus: SimulatedTrainer(),
        url=None if remote is None else remote.url,
    )


def worker_for(
    place: Workplace, *, number: int | None = 3, members: int = 1, chunks: int = 1, helping: bool = False
) -> CommitteeTrial:
    settings = SPACE.settings({"depth": 1, "heads": 1, "pretrain_size": 0, "committee_size": members})
    worker = object.__new__(CommitteeTrial)
    share = {"cpus": 1, "gpus": 0, "memory_gb": 0}
    job = Job(number, settings, chunks, helping=helping)
    worker.setup({"job": json.dumps(asdict(job)), "share": share}, place)
    return worker


def step(place: Workplace) -> Any:
    return deliverable(worker_for(place).step())


@pytest.fixture
def driver(on: On) -> Workplace:
    """The values that a driver on the machine "driver" gives to its workers."""
    store = open_store(on("driver") / ".store")
    store.check_writable()
    return workplace(store)


def test_a_store_folder_that_is_not_on_the_node_is_said(tmp_path: Path) -> None:
    place = replace(workplace(Store(tmp_path / ".store")), make_trainer=trainer_that_must_not_be_made)
    assert place.url is None
    failure = step(place)
    assert failure.of_user
    assert f"the store {tmp_path}/.store is not on the node" in failure.reason
    assert "s3://" in failure.hint
    assert not (tmp_path / ".store").exists()


def test_other_code_than_the_drivers_is_said_before_it_trains(tmp_path: Path) -> None:
    store = Store(tmp_path / ".store")
    store.check_writable()
    place = replace(workplace(store), make_trainer=trainer_that_must_not_be_made)
    failure = step(replace(place, code=replace(place.code, folder="/elsewhere/tlm_search", sha256="another")))
    assert failure.of_user
    assert "instead of /elsewhere/tlm_search" in failure.reason


@pytest.mark.parametrize(
    "change",
    [{"sha256": "edited since the driver began"}, {"folder": "/elsewhere"}, {"host": "another"}],
    ids=["the same files", "equal files in another folder", "equal files on another node"],
)
def test_the_code_of_the_driver_is_taken(tmp_path: Path, change: dict[str, str]) -> None:
    store = Store(tmp_path / ".store")
    store.check_writable()
    place = workplace(store)
    assert isinstance(step(replace(place, code=replace(place.code, **change))), Rung)


def test_a_package_that_a_worker_cannot_import_ends_the_run(tmp_path: Path) -> None:
    def make_trainer(gpus: float) -> Any:
        raise ModuleNotFoundError("No module named 'torch'")

    store = Store(tmp_path / ".store")
    store.check_writable()
    failure = step(replace(workplace(store), make_trainer=make_trainer))
    assert failure.of_user
    assert "cannot import what it needs: No module named 'torch'" in failure.reason


@pytest.mark.parametrize("used", [False, True], ids=["empty", "of other studies"])
def test_another_folder_at_the_same_path_is_said(tmp_path: Path, used: bool) -> None:
    store = Store(tmp_path / ".store")
    store.check_writable()
    place = workplace(store)
    store.root.rename(tmp_path / "the driver's")
    store.root.mkdir()
    if used:
        store.check_writable()
    failure = step(replace(place, make_trainer=trainer_that_must_not_be_made))
    assert failure.of_user
    assert failure.reason.startswith("on the node ")
    assert failure.reason.endswith(f"{tmp_path}/.store is not the store of the driver")
    assert "s3://" in failure.hint
    assert not (store.root / "members").exists()
    shutil.rmtree(store.root)
    (tmp_path / "the driver's").rename(store.root)
    assert step(place).done


@pytest.mark.parametrize(("prunes", "number", "trained"), [(False, 3, 4), (True, 3, 1), (True, None, 4)])
def test_a_trial_that_no_pruner_looks_at_trains_its_members_together(
    tmp_path: Path, prunes: bool, number: int | None, trained: int
) -> None:
    store = Store(tmp_path / ".store")
    store.check_writable()
    place = replace(workplace(store), prunes=prunes, make_trainer=lambda gpus: Stacking(4))
    first = deliverable(worker_for(place, number=number, members=4).step())
    assert isinstance(first, Rung)
    assert (first.size, first.trained, len(first.members)) == (1, trained, 1)


def test_a_trial_and_who_helps_it_train_parts_of_it(tmp_path: Path) -> None:
    store = Store(tmp_path / ".store")
    store.check_writable()
    place = replace(workplace(store), make_trainer=lambda gpus: Stacking(4))
    first = deliverable(worker_for(place, members=4, chunks=2).step())
    assert isinstance(first, Rung)
    assert (first.size, first.trained) == (1, 2)
    helper = worker_for(place, members=4, chunks=2, helping=True)
    assert [deliverable(helper.step()) for _ in range(2)] == [Help(2), Help(None)]


def test_a_worker_elsewhere_trains_into_the_same_store(driver: Workplace, on: On) -> None:
    on("worker")
    rung = step(driver)
    assert rung.done
    assert not driver.store.joinpath("members").exists()
    on("driver")
    assert step(driver).reused == 1


def test_a_helper_trains_a_member_at_each_step(driver: Workplace) -> None:
    worker = worker_for(driver, members=2, helping=True)
    results = [worker.step() for _ in range(3)]
    assert [result["done"] for result in results] == [False, False, True]
    helped = [deliverable(result) for result in results]
    assert [given.member for given in helped if isinstance(given, Help)] == [1, 0, None]
    trial = worker_for(driver, members=2)
    rungs = [deliverable(trial.step()) for _ in range(2)]
    assert [(rung.trained, rung.reused) for rung in rungs if isinstance(rung, Rung)] == [(0, 1), (0, 2)]


def test_a_helper_leaves_alone_what_another_machine_trains(driver: Workplace, on: On) -> None:
    data = PreparedData.from_document(driver.data, driver.store)
    worker = worker_for(driver, members=2, helping=True)
    second = trial_specs(worker._job.settings, seed=0, data=data, trainer=SimulatedTrainer())[1]
    with open_store(driver.store).lock("members", second.digest):
        on("worker")
        helped = [deliverable(worker.step()) for _ in range(2)]
    assert [given.member for given in helped if isinstance(given, Help)] == [0, None]


def test_a_node_that_cannot_reach_the_url_is_said(driver: Workplace, on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    on("worker")
    lost = replace(driver, make_trainer=trainer_that_must_not_be_made)

    def refuse(self: Remote, name: str) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.cat_file", refuse)
    failure = step(lost)
    assert failure.of_user
    assert failure.reason.startswith("on the node ")
    assert "Access Denied" in failure.reason
    assert "every machine" in failure.hint


def test_a_node_without_the_package_is_said(driver: Workplace, on: On) -> None:
    on("worker")
    place = replace(driver, make_trainer=trainer_that_must_not_be_made, url="nosuch://me:s3cret@host/studies")
    failure = step(place)
    assert failure.of_user
    assert "nosuch://me:***@host/studies" in failure.reason
    assert "s3cret" not in f"{failure} {place}"


def test_a_node_that_finds_another_store_is_said(driver: Workplace, on: On, url: str) -> None:
    on("worker")
    Remote(url).write(".store/identity.txt", b"another")
    failure = step(replace(driver, make_trainer=trainer_that_must_not_be_made))
    assert failure.of_user
    assert f"{url}/.store is not the store of the driver" in failure.reason


def test_the_log_of_a_failure_goes_to_the_study(driver: Workplace, on: On, url: str) -> None:
    on("worker")

    class Failing(SimulatedTrainer):
        def train(self, *arguments: Any, **options: Any) -> Any:
            raise ZeroDivisionError("oh")

    failure = step(replace(driver, make_trainer=lambda gpus: Failing()))
    assert not failure.of_user
    assert f"traceback in {url}/study/logs/trial-3.txt" in failure.reason
    assert b"ZeroDivisionError" in objects(url)["study/logs/trial-3.txt"]
