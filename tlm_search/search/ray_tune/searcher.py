"""Ray Tune's hooks on the driver, and the tuner that calls them.

Ray calls the scheduler first, and the searcher only if a trial continues or ends. So the hook that hears of a result
first delivers it. The driver knows a job by Ray's trial id until it has ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from ray import tune
from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tlm_search.cost.shares import Shares
from tlm_search.files import write_text
from tlm_search.search.driver import Driver
from tlm_search.search.job import ENVIRONMENT, Failure
from tlm_search.search.ray_tune.interrupts import Interrupts
from tlm_search.search.ray_tune.trainable import CommitteeTrial, deliverable
from tlm_search.search.trial import Rung
from tlm_search.search.work_stealing import Help
from tlm_search.search.workplace import Workplace

# Ray's annotation omits that a searcher ends with this text.
_FINISHED = cast(dict[str, Any], Searcher.FINISHED)


class Hooks:
    """What searcher and scheduler have in common: calls of the driver, which no signal interrupts, and the shares."""

    def __init__(self, driver: Driver, interrupts: Interrupts, logs: Path, shares: Shares) -> None:
        self._driver = driver
        self._interrupts = interrupts
        self._logs = logs
        self._shares = shares
        self.problem: Exception | None = None

    def suggest(self, key: str) -> dict[str, Any] | None:
        """Return the next job as a configuration for Ray, None if there is none now, or Ray's sign for the end."""
        job = None
        with self._writing():
            job = None if self._driver.ended else self._driver.next_job(key)
        if job is None:
            return _FINISHED if self._driver.ended else None
        return {"job": json.dumps(asdict(job)), "share": asdict(self._shares.of(job.settings))}

    def deliver(self, key: str, result: Mapping[str, Any]) -> bool:
        """Pass a result to the driver; return whether the trial continues."""
        go_on = False
        with self._writing():
            if self._driver.runs(key):
                reached = deliverable(result)
                if isinstance(reached, Help | Rung):
                    self._shares.learn(self._driver.settings_of(key), reached.peak_gb)
                match reached:
                    case Failure():
                        self._driver.on_failure(key, reached)
                    case Help():
                        go_on = self._driver.on_help(key, reached)
                    case Rung():
                        go_on = self._driver.on_rung(key, reached)
        return go_on

    def lose(self, key: str, text: str) -> None:
        """Tell the driver that a worker died, with Ray's reason."""
        with self._writing():
            if text:
                write_text(self._logs / f"worker-{key}.txt", text)
            failure = _broken_environment(text)
            if failure is None:
                self._driver.on_lost(key, _reason(text))
            elif self._driver.runs(key):
                self._driver.on_failure(key, failure)

    def fail(self, problem: Exception) -> None:
        """End the run with ``problem``, unless there was one before."""
        self.problem = self.problem or problem
        self._driver.stop(f"{type(problem).__name__}: {problem}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        # A problem such as a full disk ends the run with our message; Ray would hide it or raise its own error.
        with self._interrupts.put_off():
            try:
                yield
            except Exception as problem:
                self.fail(problem)


class DriverSearcher(Searcher):
    """Asks the driver for jobs until it has no more."""

    def __init__(self, hooks: Hooks) -> None:
        super().__init__()  # without a metric, because a result that lacks it must not end the run
        self._hooks = hooks

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next job."""
        return self._hooks.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Deliver the last result. The scheduler has reported errors before, with more details."""
        if error:
            self._hooks.lose(trial_id, "")
        elif result:
            self._hooks.deliver(trial_id, result)

    def __getstate__(self) -> dict[str, Any]:
        """Give Ray nothing to save: Optuna's storage holds the study, and Ray's state is never restored."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class DriverScheduler(FIFOScheduler):
    """Lets the driver stop trials at their rungs, and reports dead workers to it."""

    def __init__(self, hooks: Hooks) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._hooks = hooks

    def __getstate__(self) -> dict[str, Any]:
        """Give Ray nothing to save."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Deliver a rung; stop the trial if the driver says so."""
        go_on = self._hooks.deliver(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Report that a worker died."""
        there = trial.error_file and Path(trial.error_file).is_file()
        self._hooks.lose(trial.trial_id, Path(trial.error_file).read_text(errors="replace") if there else "")


class Forgetful(Callback):
    """Drops Ray's data of ended trials, which Ray would hold for the whole run; the study has them."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Drop the results and statistics of a trial."""
        trial.metric_analysis.clear()
        trial.metric_n_steps.clear()
        trial.run_metadata.last_result = {}


def _broken_environment(text: str) -> Failure | None:
    """Return why a worker could not begin if its job is not the cause, so that no other job would do better.

    Creating a ``CommitteeTrial`` and importing its module do nothing that can fail.
    """
    if "error raised in its creation task" not in text and "failed to import on the worker" not in text:
        return None
    last = text.strip().splitlines()[-1][:300]
    if last.startswith("ray.exceptions."):  # a node with data for the worker died; another attempt may succeed
        return None
    files = re.findall(r'File "([^"]+)", line \d+', text)
    where = f" (in {files[-1]})" if files else ""
    return Failure(f"workers cannot start: {last}{where}", hint=ENVIRONMENT, of_user=True)


def _reason(text: str) -> str:
    # The texts of Ray's errors do not name their classes. The word "memory" alone is not enough: the text on any dead
    # worker names the kernel's out-of-memory killer among the possible causes.
    if "running low on memory" in text:
        return "its worker was killed because the memory was full"
    if "its node has died" in text:
        return "its node died"
    if "worker process has died" in text or "actor died unexpectedly" in text or not text:
        return "its worker died"
    if "actor is temporarily unavailable" in text:
        return "its worker or its node could not be reached"  # one of them died, but Ray does not know yet which
    return f"its worker died: {text.strip().splitlines()[-1][:300]}"


def make_tuner(
    hooks: Hooks,
    workplace: Workplace,
    *,
    limit: int,
    scratch: Path,
) -> tune.Tuner:
    """Return a tuner that runs the jobs of the driver behind ``hooks``, at most ``limit`` at once."""
    trainable = tune.with_parameters(CommitteeTrial, workplace=workplace)
    return tune.Tuner(
        tune.with_resources(trainable, _resources),
        tune_config=tune.TuneConfig(
            search_alg=DriverSearcher(hooks),
            scheduler=DriverScheduler(hooks),
            num_samples=10**6,  # the budget is the driver's
            max_concurrent_trials=limit,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[Forgetful()],
            # No checkpoints: the members of a trial are in the store when the rung ends.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def _resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    share = config["share"]
    resources = {"CPU": share["cpus"], "GPU": share["gpus"], "memory": share["memory_gb"] * 1e9}
    return tune.PlacementGroupFactory([{name: amount for name, amount in resources.items() if amount}])


def _trial_name(trial: Any) -> str:
    return str(trial.trial_id)
