"""Ray Tune runs the driver's trials, on this machine or on a cluster. Ray's noise stays out of sight."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# Ray reads these when it is imported.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "1e9",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Ray's state is never restored, so it need not be written
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

from ray import tune  # noqa: E402

from tlm_search.errors import TlmSearchError  # noqa: E402
from tlm_search.search.cluster import cluster, machines, watched  # noqa: E402
from tlm_search.search.driver import Driver  # noqa: E402
from tlm_search.search.interrupts import REASON, Interrupts  # noqa: E402
from tlm_search.search.machine import concurrent_trials  # noqa: E402
from tlm_search.search.tune_searcher import DriverScheduler, DriverSearcher, Forgetful, Hooks  # noqa: E402
from tlm_search.search.tune_trainable import CommitteeTrial, Workplace  # noqa: E402
from tlm_search.space.sections import ResourcesSection  # noqa: E402


def run_driver(
    driver: Driver,
    workplace: Workplace,
    resources: ResourcesSection,
    *,
    address: str | None,
    announce: Callable[[str], None],
) -> bool:
    """Run the driver's jobs until it has ended; return whether the user interrupted it.

    Raises:
        ResourceError: no machine of the cluster can hold one trial.
        StudyError: there is no cluster at ``address``.
        ClusterError: the cluster died.
    """
    # Errors of trials are the driver's to tell, and it does.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    scratch = Path(tempfile.mkdtemp(prefix="tlm-search-"))
    try:
        interrupts = Interrupts(driver.stop)
        hooks = Hooks(driver, interrupts, workplace.logs)

        def collapse(error: TlmSearchError) -> None:
            hooks.fail(error)
            interrupts.collapse()

        with (
            cluster(address, announce, env=QUIET),
            interrupts.heard(),
            watched(announce, collapse, joined=address is not None),
        ):
            limit = concurrent_trials(resources, machines())
            with suppress(KeyboardInterrupt):
                _tuner(hooks, workplace, resources, limit=limit, scratch=scratch).fit()
            interrupts.end()
            if hooks.problem is not None:
                raise hooks.problem
            driver.abandon(REASON if interrupts.count else "its runner ended")
            return interrupts.count > 0
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _tuner(
    hooks: Hooks,
    workplace: Workplace,
    resources: ResourcesSection,
    *,
    limit: int,
    scratch: Path,
) -> tune.Tuner:
    shares: dict[str, float] = {"cpu": resources.cpus_per_trial}
    if resources.gpus_per_trial:
        shares["gpu"] = resources.gpus_per_trial
    if resources.memory_gb:
        shares["memory"] = resources.memory_gb * 1e9
    trainable = tune.with_parameters(CommitteeTrial, workplace=workplace)
    return tune.Tuner(
        tune.with_resources(trainable, shares),
        tune_config=tune.TuneConfig(
            search_alg=DriverSearcher(hooks),
            scheduler=DriverScheduler(hooks),
            num_samples=10**6,  # the driver has the budget
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
            # What is worth keeping of a trial, its members, is in the store when the rung ends.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def _trial_name(trial: Any) -> str:
    return str(trial.trial_id)
