"""One run of a study, from its space to its last trial: data, folder, lock, study, driver, Ray."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tlm_search.committee.metrics import metric_of
from tlm_search.cost.machine import check_reachable, this_machine
from tlm_search.cost.plan import DataSizes
from tlm_search.cost.remaining import Outlook, costs_of
from tlm_search.cost.shares import Shares
from tlm_search.data.prepare import prepare
from tlm_search.data.prepared import PreparedData
from tlm_search.data.rows import Task, account_words
from tlm_search.data.simulated import simulated_data
from tlm_search.members.train import trainer_named
from tlm_search.passwords import masked
from tlm_search.remote.heartbeat import repeated
from tlm_search.remote.mount import remote_at, shown, studies_folder
from tlm_search.search.activity import EVERY_SECONDS, activities, forget
from tlm_search.search.baseline import class_weights_of, note_baseline
from tlm_search.search.driver import Driver
from tlm_search.search.ledger import Ledger
from tlm_search.search.prior import import_trials
from tlm_search.search.progress import Progress
from tlm_search.search.spread import note_seed_spread
from tlm_search.search.tracking import track
from tlm_search.search.workplace import Workplace
from tlm_search.space.schema import Space
from tlm_search.store.local import Store
from tlm_search.store.shared import open_store
from tlm_search.study.identity import check_same_data, check_same_space
from tlm_search.study.location import StudyLocation, logs_of, require_study, store_root
from tlm_search.study.record import record_of
from tlm_search.study.sharing import register
from tlm_search.study.storages import open_storage
from tlm_search.study.sync import FACTS, Sender, StudyCopy

_PACKAGES = ("tlm-search", "torch", "transformers", "optuna", "ray", "numpy", "scikit-learn")

Announce = Callable[[str], None]
Show = Callable[[Progress], AbstractContextManager[None]]


@dataclass(frozen=True)
class Session:
    """The end of a run: its ``driver`` has the results; ``worked`` is False if there was nothing to do."""

    folder: Path
    driver: Driver
    worked: bool
    interrupted: bool


def run_study(
    space: Space,
    *,
    studies_dir: Path | str,
    storage: str | None,
    address: str | None,
    fresh: bool,
    announce: Announce,
    show: Show,
) -> Session:
    """Run the study ``space.name`` in ``studies_dir``, a folder or a URL, until it has the trials of its budget.

    ``announce`` is called with each event. ``show(progress)`` is a context manager around the trials, for a display.

    Raises:
        UserError: a problem that the user can solve; the results stay as they were.
    """
    began = time.monotonic()
    studies_dir = studies_folder(studies_dir)
    folder = studies_dir / space.name
    slots = 0
    if address is None:
        # Check the resources before anything is written. A cluster's nodes can only be asked once Ray has joined it.
        slots = Shares(space, [this_machine(with_gpus=bool(space.resources.gpus_per_trial))]).concurrent()
    else:
        check_reachable(address)
    StudyCopy(folder).pull()
    if fresh:
        require_study(folder)
    register(store_root(studies_dir))
    location = StudyLocation.of(folder, storage)
    if location.storage is not None and storage is None and location.begun:
        # Tell the user, because this run writes to a storage that a file names, and others may have written the file.
        announce(f"the study is stored in {masked(location.storage)}, as its {FACTS} says")
    if space.is_own_trainer:
        from tlm_search.members.own import try_own

        try_own(space)  # before the data are read, which can take long
    begun = location.open() if location.begun and not fresh else None
    if begun is not None:
        check_same_space(begun, space)
    elif location.storage is not None:
        open_storage(folder, location.storage)
    store = open_store(store_root(studies_dir))
    store.check_writable()
    read: list[Task] = []
    data = _data(space, store.root, announce, read)
    if begun is not None and space.reads_data:  # simulated data are made from the space
        check_same_data(begun, data)
    metric_of(space.task, data.labels)  # refuses a label that the data lack, before the study exists
    class_weights_of(space, data.labels)
    if data.account:
        announce(f"task: {account_words(data.account)}")
    if fresh and folder.exists():
        with location.locked(announce):
            pass  # raises if a process drives the study
        announce(f"the old study is now {shown(location.move_aside())}")
        location = replace(location, name=folder.name)
    with location.driving(announce) as sender:
        return _run_locked(space, location, store, data, read, address, announce, show, sender, began, slots)


def _run_locked(
    space: Space,
    location: StudyLocation,
    store: Store,
    data: PreparedData,
    read: list[Task],
    address: str | None,
    announce: Announce,
    show: Show,
    sender: Sender,
    began: float,
    slots: int,
) -> Session:
    folder = location.folder
    ledger = Ledger(location.create(space), space)
    location.write(space)
    for closed in ledger.close_running():
        announce(f"trial {closed} was running when its driver died; it is tried again")
    import_trials(ledger, folder, announce)
    track(ledger, folder, announce)
    ledger.enqueue_points()
    _note_once(ledger, data)
    compared = note_baseline(ledger, data, store, next(iter(read), None), announce)
    read.clear()  # free the raw texts, which may be large, before a long study
    sender.send()
    ledger.watchers.append(lambda trial: sender.send_journal())
    # The time budget includes the reading of the data.
    seconds = space.budget.seconds and space.budget.seconds - (time.monotonic() - began)
    driver = Driver(ledger, trials=space.budget.trials, seconds=seconds, announce=announce)
    driver.progress.started, driver.progress.slots = began, slots
    if space.has_weights:
        driver.progress.outlook = Outlook(partial(costs_of, space, DataSizes.of_data(data)))
    if driver.ended:
        seeds = note_seed_spread(ledger, record_of(ledger.study, folder), data, store)
        return Session(folder, driver, worked=compared or seeds, interrupted=False)
    announce("starting Ray")
    from tlm_search.search.ray_tune.run import run_driver

    remote = remote_at(store.root.parent)
    workplace = Workplace(
        seed=space.seed,
        data=data.to_document(),
        store=store.root,
        identity=store.identity(),
        logs=logs_of(folder),
        prunes=space.pruner.name != "none",
        url=None if remote is None else remote.url,
        metric=metric_of(space.task, data.labels),
        make_trainer=partial(trainer_named, space.trainer, cpus=space.resources.cpus_per_trial),
    )
    forget(folder)

    def look() -> bool:
        driver.look(activities(folder))
        return True

    try:
        with show(driver.progress), repeated(look, seconds=EVERY_SECONDS, name="progress"):
            interrupted = run_driver(driver, workplace, space, address=address, announce=announce)
    finally:
        forget(folder)
    if not interrupted:
        note_seed_spread(ledger, record_of(ledger.study, folder), data, store)
    return Session(folder, driver, worked=True, interrupted=interrupted)


def _data(space: Space, root: Path, announce: Announce, read: list[Task]) -> PreparedData:
    """Return the data of the study. A task that had to be read for them is added to ``read``."""
    if not space.reads_data:
        return simulated_data(space, root)
    return prepare(space, root, progress=announce, on_task=read.append)


def _note_once(ledger: Ledger, data: PreparedData) -> None:
    facts = {"labels": list(data.labels), "data": data.to_document(), "versions": _versions()}
    for key, value in facts.items():
        # A continued study keeps its first notes, except the versions, which are those of its last run.
        if ledger.noted(key) is None or (key == "versions" and ledger.noted(key) != value):
            ledger.note(key, value)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
