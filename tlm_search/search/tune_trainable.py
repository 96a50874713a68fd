"""A trial inside a Ray worker: one step is one rung. What goes wrong is reported as data, never raised."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune

from tlm_search.data.prepared import PreparedData
from tlm_search.errors import StoreError, TrainingError, UserError
from tlm_search.members.store import Store
from tlm_search.members.train import Trainer
from tlm_search.search.job import Failure, Job
from tlm_search.search.trial import Rung, run_trial
from tlm_search.search.workplace import Workplace


class CommitteeTrial(tune.Trainable):
    """Ray's view of ``run_trial``; the worker and its trainer serve one trial after another."""

    def setup(self, config: dict[str, Any], workplace: Workplace | None = None) -> None:
        """Begin the first trial of this worker."""
        assert workplace is not None
        self._workplace = workplace
        self._trainer: Trainer | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same worker."""
        self._job = Job(**json.loads(new_config["job"]))
        self._rungs: Iterator[Rung] | None = None
        return True

    def step(self) -> dict[str, Any]:
        """Train the members up to the next rung."""
        try:
            if self._rungs is None:
                self._rungs = self._begin()
            rung = next(self._rungs)
        except Exception as error:
            return {"failure": json.dumps(asdict(self._failure(error))), "done": True}
        # One text, not a tree: Ray flattens results and keeps statistics of every number in them.
        return {"rung": json.dumps(rung.to_document()), "done": rung.done}

    def _begin(self) -> Iterator[Rung]:
        place = self._workplace
        if not place.store.is_dir():
            # Making it here would train everything again, on a disk that no other node reads.
            raise StoreError(
                f"the store {place.store} is not on this node",
                hint="put --studies-dir on a folder that all nodes share",
            )
        if self._trainer is None:
            self._trainer = place.make_trainer()
        data = PreparedData.from_document(place.data, place.store)
        return run_trial(
            self._job.settings, seed=place.seed, data=data, store=Store(place.store), trainer=self._trainer
        )

    def _failure(self, error: Exception) -> Failure:
        if isinstance(error, UserError):
            return Failure(error.message, hint=error.hint, of_user=True)
        if isinstance(error, TrainingError):
            return Failure(error.message, hint=error.hint)
        where = self._workplace.logs / f"{self._job.title.replace(' ', '-')}.txt"
        try:
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_text("".join(traceback.format_exception(error)))
        except OSError:
            where = Path("no log: the folder cannot be written")
        return Failure(f"{type(error).__name__}: {error} (traceback in {where})")


def deliverable(result: Mapping[str, Any]) -> Rung | Failure | None:
    """Read what ``CommitteeTrial.step`` returned."""
    if "rung" in result:
        return Rung.from_document(json.loads(result["rung"]))
    if "failure" in result:
        return Failure(**json.loads(result["failure"]))
    return None
