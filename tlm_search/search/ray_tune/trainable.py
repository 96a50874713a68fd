"""A trial or a helper in a Ray worker, rung by rung. Failures are returned as data and never raised."""

from __future__ import annotations

import json
import socket
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from ray import tune

from tlm_search.data.prepared import PreparedData
from tlm_search.errors import StoreError, TrainingError, UserError
from tlm_search.files import write_text
from tlm_search.members.trainer import Trainer
from tlm_search.remote.mount import mount, remote_at, shown
from tlm_search.search.activity import Teller, folder_of
from tlm_search.search.job import ENVIRONMENT, Failure, Job
from tlm_search.search.trial import SEEDS_PER_STUDY, Rung, run_trial
from tlm_search.search.work_stealing import Help, help_trial
from tlm_search.search.workplace import Code, Workplace
from tlm_search.store.local import Store
from tlm_search.store.shared import open_store

_SHARED = "put --studies-dir on a folder that all nodes share, or at a URL such as s3://bucket/studies"
_SERVER = "give every node the same server and credentials, for s3:// by FSSPEC_S3_ENDPOINT_URL and AWS_*"


class CommitteeTrial(tune.Trainable):
    """Ray's interface to ``run_trial``. The worker and its trainer serve one trial after another."""

    def setup(self, config: dict[str, Any], workplace: Workplace | None = None) -> None:
        """Begin the first trial of this worker."""
        assert workplace is not None
        self._workplace = workplace
        self._trainer: Trainer | None = None
        self._store: Store | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same worker."""
        self._job = Job(**json.loads(new_config["job"]))
        self._gpus = float(new_config["share"]["gpus"])  # Ray reuses a worker only for trials with equal shares
        self._steps: Iterator[Rung | Help] | None = None
        workplace = self._workplace
        first_seed = self._job.seed(workplace.seed) * SEEDS_PER_STUDY
        self._teller = Teller(folder_of(workplace.logs.parent), self._job, first_seed=first_seed)
        return True

    def step(self) -> dict[str, Any]:
        """Train the members up to the next rung, or as a helper one stack of another trial."""
        result = self._step()
        if result["done"]:
            self._teller.end()
        return result

    def _step(self) -> dict[str, Any]:
        try:
            if self._steps is None:
                self._steps = self._begin()
            reached = next(self._steps)
        except Exception as error:
            return {"failure": json.dumps(asdict(self._failure(error))), "done": True}
        # One text, not a tree: Ray flattens results and keeps statistics of every number in a tree.
        if isinstance(reached, Help):
            return {"help": json.dumps(asdict(reached)), "done": reached.member is None}
        return {"rung": json.dumps(reached.to_document()), "done": reached.done}

    def _begin(self) -> Iterator[Rung | Help]:
        workplace = self._workplace
        if self._store is None:
            _check_code(workplace.code)
            self._store = _open_store(workplace)
        if self._trainer is None:
            self._trainer = workplace.make_trainer(gpus=self._gpus)
        self._trainer.tell = self._teller
        data = PreparedData.from_document(workplace.data, self._store.root)
        # No pruner looks at the reference.
        prunable = workplace.prunes and self._job.number is not None
        begin = help_trial if self._job.helping else partial(run_trial, prunable=prunable, metric=workplace.metric)
        return begin(
            self._job.settings,
            seed=self._job.seed(workplace.seed),
            data=data,
            store=self._store,
            trainer=self._trainer,
            chunks=self._job.chunks,
            attempt=self._job.attempt,
        )

    def _failure(self, error: Exception) -> Failure:
        if isinstance(error, UserError):
            return Failure(error.message, hint=error.hint, of_user=True)
        if isinstance(error, TrainingError):
            return Failure(error.message, hint=error.hint)
        if isinstance(error, ImportError):
            return Failure(
                f"a worker on {socket.gethostname()} cannot import what it needs: {error} ({self._log(error)})",
                hint=ENVIRONMENT,
                of_user=True,
            )
        return Failure(f"{type(error).__name__}: {error} ({self._log(error)})")

    def _log(self, error: Exception) -> str:
        """Write the traceback into the study's folder of logs; return where it is, in words."""
        logs = self._workplace.logs
        if self._store is not None and self._workplace.url is not None:
            logs = self._store.root.parent / logs.parent.name / logs.name
        where = logs / f"{self._job.title.replace(' ', '-')}.txt"
        text = "".join(traceback.format_exception(error))
        try:
            write_text(where, text)
            if (remote := remote_at(where.parent)) is not None:
                remote.write(where.name, text.encode())
        except (OSError, StoreError):
            return f"its traceback could not be written to {shown(where)}"
        return f"traceback in {shown(where)}"


def _check_code(driver: Code) -> None:
    """Refuse to train with other code than the driver's, because its members would get wrong digests.

    Raises:
        UserError: this worker imported a different version of this package from another folder.
    """
    here = Code.here()
    if not here.is_that_of(driver):
        raise UserError(
            f"on the node {here.host}: a worker runs other code of tlm-search than the driver: {here.folder} "
            f"instead of {driver.folder}",
            hint="install the same version of tlm-search on every node, and remove other versions from PYTHONPATH",
        )


def _open_store(workplace: Workplace) -> Store:
    """Return the store on this node.

    Raises:
        StoreError: the store is missing here, cannot be reached, or is another one, in which everything would be
            trained again and never read.
    """
    if workplace.url is None and not workplace.store.is_dir():
        raise StoreError(f"the store {workplace.store} is not on the node {socket.gethostname()}", hint=_SHARED)
    try:
        store = open_store(workplace.store if workplace.url is None else mount(workplace.url) / workplace.store.name)
        there = store.identity()
    except StoreError as error:
        raise StoreError(f"on the node {socket.gethostname()}: {error.message}", hint=error.hint) from None
    if there != workplace.identity:
        raise StoreError(
            f"on the node {socket.gethostname()}: {shown(store.root)} is not the store of the driver",
            hint=_SHARED if workplace.url is None else _SERVER,
        )
    return store


def deliverable(result: Mapping[str, Any]) -> Rung | Help | Failure | None:
    """Read what ``CommitteeTrial.step`` returned."""
    if "help" in result:
        return Help(**json.loads(result["help"]))
    if "rung" in result:
        return Rung.from_document(json.loads(result["rung"]))
    if "failure" in result:
        return Failure(**json.loads(result["failure"]))
    return None
