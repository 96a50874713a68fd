"""Finished trials as runs of TensorBoard, MLflow or Weights & Biases.

A trial becomes one run when it has ended: its settings are the parameters, and the committee size is the step. Trials
that a killed driver did not log are logged by the next one. A tracker that fails is left out, and the study goes on.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tlm_search.errors import StudyError
from tlm_search.study.record import IMPORTED_FROM, TrialRecord, trial_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from tlm_search.search.ledger import Ledger

_MOST_IN_A_BATCH = 1000  # of MLflow's metrics


def track(ledger: Ledger, folder: Path, announce: Callable[[str], None]) -> None:
    """Log the finished trials of a study to the trackers of its space, now and as they end.

    Raises:
        StudyError: the Python package of a tracker is not installed.
    """
    names, study = ledger.space.tracking, ledger.study.study_name
    mirrors = [_Mirror(name, _tracker(name, study, folder, announce), folder, announce) for name in names]
    for trial in ledger.trials if mirrors else ():
        for mirror in mirrors:
            mirror.show(trial)
    ledger.watchers += [mirror.show for mirror in mirrors]


@dataclass(frozen=True)
class Run:
    """One trial: its settings, and its metrics for each committee size."""

    name: str
    params: Mapping[str, Any]
    steps: Mapping[int, Mapping[str, float]]
    succeeded: bool
    error: str | None

    @classmethod
    def of(cls, trial: TrialRecord) -> Run:
        """Read a trial's record."""
        steps = {scores.size: _finite({"subsets": scores.subsets, **scores.figures}) for scores in trial.frontier}
        if steps:
            steps[max(steps)] |= _finite(trial.metrics)
        return cls(
            f"trial-{trial.number:04d}", trial.settings, steps, trial.state in ("complete", "pruned"), trial.error
        )


class _Tracker(Protocol):
    def log(self, run: Run) -> None: ...


class _Mirror:
    """A tracker, with the trials that it has received: one line each in a file in the study's folder."""

    def __init__(self, name: str, tracker: _Tracker | None, folder: Path, announce: Callable[[str], None]) -> None:
        self._name, self._tracker, self._announce = name, tracker, announce
        self._file = folder / "tracking" / f"{name}.txt"
        self._seen = set(self._file.read_text().split()) if self._file.exists() else set()

    def show(self, trial: FrozenTrial) -> None:
        """Log a trial if it has finished and was not logged before."""
        known = str(trial.number) in self._seen or trial.user_attrs.get("interrupted")
        if self._tracker is None or known or IMPORTED_FROM in trial.user_attrs or not trial.state.is_finished():
            return
        try:
            self._tracker.log(Run.of(trial_of(trial)))
            self._file.parent.mkdir(exist_ok=True)
            with self._file.open("a") as file:
                file.write(f"{trial.number}\n")
            self._seen.add(str(trial.number))
        except Exception as error:  # no failure of a tracker may end a study
            self._tracker = None
            self._announce(_failed(self._name, error))


class _TensorBoard:
    def __init__(self, study: str, folder: Path) -> None:
        import tensorboardX

        self._writer: Any = tensorboardX.SummaryWriter
        self._folder = folder / "tensorboard"

    def log(self, run: Run) -> None:
        from tensorboardX import summary

        with self._writer(str(self._folder / run.name)) as writer:
            for size, metrics in run.steps.items():
                for name, value in metrics.items():
                    writer.add_scalar(name, value, size)
            last = run.steps[max(run.steps)] if run.steps else {}
            # Not `add_hparams`, whose second file can get the name of the first and overwrite it.
            tags: Any = summary.hparams
            for tag in tags(dict(run.params), dict(last)):
                writer.file_writer.add_summary(tag)
            if run.error:
                writer.add_text("error", run.error)


class _MLflow:
    def __init__(self, study: str, folder: Path) -> None:
        import mlflow

        self._entities = mlflow.entities
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(study)
        self._experiment = found.experiment_id if found else self._client.create_experiment(study)

    def log(self, run: Run) -> None:
        entities, now = self._entities, int(time.time() * 1000)
        tags = {"error": run.error} if run.error else {}
        identifier = self._client.create_run(self._experiment, run_name=run.name, tags=tags).info.run_id
        params = [entities.Param(name, str(value)) for name, value in run.params.items()]
        self._client.log_batch(identifier, params=params)
        metrics = [
            entities.Metric(name, value, now, size)
            for size, values in run.steps.items()
            for name, value in values.items()
        ]
        for start in range(0, len(metrics), _MOST_IN_A_BATCH):
            self._client.log_batch(identifier, metrics=metrics[start : start + _MOST_IN_A_BATCH])
        self._client.set_terminated(identifier, "FINISHED" if run.succeeded else "FAILED")


class _WeightsAndBiases:
    def __init__(self, study: str, folder: Path) -> None:
        import wandb

        self._wandb, self._study, self._folder = wandb, study, folder

    def log(self, run: Run) -> None:
        begun = self._wandb.init(
            project=self._study,
            name=run.name,
            dir=str(self._folder),
            config=dict(run.params),
            mode=os.environ.get("WANDB_MODE", "offline"),
            notes=run.error,
            settings=self._wandb.Settings(silent=True),
            reinit="create_new",
        )
        for size, metrics in run.steps.items():
            begun.log(dict(metrics), step=size)
        begun.finish(exit_code=0 if run.succeeded else 1)


_KINDS: Mapping[str, Callable[[str, Path], _Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _WeightsAndBiases,
}


def _tracker(name: str, study: str, folder: Path, announce: Callable[[str], None]) -> _Tracker | None:
    try:
        return _KINDS[name](study, folder)
    except ImportError as error:
        raise StudyError(
            f"tracking: {name} needs the Python package {error.name}, which is not installed",
            hint=f"install it with pip install 'tlm-search[{name}]', or remove {name} from tracking",
        ) from error
    except Exception as error:  # its server cannot be reached
        announce(_failed(name, error))
        return None


def _failed(name: str, error: Exception) -> str:
    return (
        f"{name} failed, {type(error).__name__}: {error}; the study goes on without it, and the next run of this "
        "command catches up"
    )


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
