"""A study driven in one process with simulated members: what Ray does, without Ray."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tlm_search.committee.metrics import metric_of
from tlm_search.data.prepared import PreparedData
from tlm_search.data.simulated import simulated_data
from tlm_search.errors import TrainingError
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.members.spec import MemberSpec
from tlm_search.members.trainer import TrainedMember, Trainer
from tlm_search.search import session
from tlm_search.search.driver import Driver
from tlm_search.search.job import Failure, Job
from tlm_search.search.ledger import Ledger
from tlm_search.search.trial import run_trial
from tlm_search.space.schema import Space
from tlm_search.store.local import Store
from tlm_search.store.shared import open_store
from tlm_search.study.location import StudyLocation
from tlm_search.study.storages import Journal

SEARCH: dict[str, Any] = {
    "depth": {"choices": [1, 2]},
    "heads": {"choices": [1, 2, 4]},
    "head_size": 8,
    "pretrain_size": {"choices": [0, 1000]},
    "committee_size": {"choices": [1, 2, 4]},
}
REFERENCE = {"depth": 4, "heads": 4, "pretrain_size": 1000}


def space_of(**sections: Any) -> Space:
    # Without a pruner each trial is complete. Most tests look at complete trials.
    document = {"name": "test", "trainer": "simulated", "pruner": "none", "search": SEARCH, **sections}
    return Space.from_document(document)


class Stacking(SimulatedTrainer):
    """Trains ``many`` members as one model, and notes how many it got each time."""

    def __init__(self, many: int) -> None:
        self.many = many
        self.trained: list[int] = []

    def stack(self, spec: MemberSpec) -> int:
        return self.many

    def train(self, specs: Sequence[MemberSpec], **where: Any) -> tuple[TrainedMember, ...]:
        self.trained += [len(specs)] if specs else []
        return super().train(specs, **where)


class Killed(BaseException):
    """The driver dies here; no code on the way may catch it."""


class Bench:
    """A study that is driven in this process. To the study each ``drive`` is a new process."""

    def __init__(self, folder: Path, space: Space) -> None:
        self.folder, self.space = folder, space
        self.store = Store(folder / ".store")
        self.data = simulated_data(space, self.store.root)
        self.trainer: Trainer = SimulatedTrainer()
        self.lines: list[str] = []

    def ledger(self, storage: str | None = None) -> Ledger:
        study = self.folder / "study"
        study.mkdir(exist_ok=True, parents=True)
        ledger = Ledger(StudyLocation.of(study, storage).create(self.space), self.space)
        ledger.close_running()
        ledger.enqueue_points()
        return ledger

    def driver(self, trials: int = 8, *, storage: str | None = None, **options: Any) -> Driver:
        return Driver(self.ledger(storage), trials=trials, announce=self.lines.append, **options)

    def run(self, driver: Driver, *, before_rung: Callable[[Job, int], None] = lambda job, size: None) -> Driver:
        """Run jobs one by one, as Ray would in its workers."""
        count = 0
        while not driver.ended:
            key = f"job{count}"
            job = driver.next_job(key)
            count += 1
            if job is None:
                break
            try:
                settings, seed = job.settings, job.seed(self.space.seed)
                at = {"data": self.data, "store": self.store, "trainer": self.trainer}
                rungs = run_trial(settings, seed=seed, metric=metric_of(self.space.task, self.data.labels), **at)
                go_on, size = True, 0
                while go_on:
                    before_rung(job, size)
                    rung = next(rungs)
                    size = rung.size
                    go_on = driver.on_rung(key, rung)
            except TrainingError as error:
                driver.on_failure(key, Failure(error.message))
        return driver

    def drive(self, trials: int = 8, **options: Any) -> Driver:
        return self.run(self.driver(trials, **options))


def results(ledger: Ledger) -> list[tuple[Mapping[str, Any], Any]]:
    """Return the parameters and values of the finished trials, in order."""
    return [
        (trial.params, trial.values)
        for trial in ledger.trials
        if trial.state.is_finished() and not trial.user_attrs.get("interrupted")
    ]


def run_without_ray(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, trainer: Trainer | None = None
) -> Callable[..., session.Session]:
    """Run ``run_study`` with a loop in this process instead of Ray; studies are in ``folder/studies``, or at a URL."""
    from tlm_search.search.ray_tune import run as tune

    place = Bench(folder / "elsewhere", space_of())
    place.trainer = trainer or place.trainer

    def run_driver(driver: Driver, workplace: Any, space: Any, **options: Any) -> bool:
        place.space, place.store = driver._space, open_store(workplace.store)
        place.data = PreparedData.from_document(workplace.data, place.store.root)
        if place.space.trainer != "simulated":
            place.trainer = workplace.make_trainer(gpus=0)
        place.run(driver)
        return False

    monkeypatch.setattr(tune, "run_driver", run_driver)

    def run(
        space: Space,
        *,
        storage: str | None = None,
        fresh: bool = False,
        studies: str = "studies",
        announce: Callable[[str], None] = lambda line: None,
    ) -> Any:
        return session.run_study(
            space,
            studies_dir=studies if "://" in studies else folder / studies,
            storage=storage,
            address=None,
            fresh=fresh,
            announce=announce,
            show=lambda progress: nullcontext(),
        )

    return run


def die_at(monkeypatch: pytest.MonkeyPatch, death: int, how: str) -> Counter[str]:
    """Let the driver die at write number ``death`` of its journal; return the number of writes."""
    count: Counter[str] = Counter()
    real = Journal.append_logs

    def append(self: Journal, logs: list[dict[str, Any]]) -> None:
        count["writes"] += 1
        if count["writes"] != death:
            real(self, logs)
        elif how == "before":
            raise Killed
        elif how == "torn":
            with self._path.open("ab") as file:
                file.write(json.dumps(logs[0]).encode()[:20])
            raise Killed
        else:
            real(self, logs)
            raise Killed

    monkeypatch.setattr(Journal, "append_logs", append)
    return count
