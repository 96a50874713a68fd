"""The ``Tuner`` that asks the driver for trials and tells it of their rungs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune

from tlm_search.search.ray_tune.searcher import DriverScheduler, DriverSearcher, Forgetful, Hooks
from tlm_search.search.ray_tune.trainable import CommitteeTrial
from tlm_search.search.workplace import Workplace


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


def _resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    share = config["share"]
    resources = {"CPU": share["cpus"], "GPU": share["gpus"], "memory": share["memory_gb"] * 1e9}
    return tune.PlacementGroupFactory([{name: amount for name, amount in resources.items() if amount}])


def _trial_name(trial: Any) -> str:
    return str(trial.trial_id)
