"""Compare what a trial costs in addition to its members: here, in bare Ray Tune with OptunaSearch, in bare Optuna.

Each runs the same trivial trials: three parameters, one number, TPE with the same options, a new study. Ray Tune and
this program run two trials at once, with actors that are reused. Every study is stored in a journal file (with
``--storage memory`` the two others use Optuna's storage in memory, which loses everything with the process). The three
take turns, ``--rounds`` times. Medians are printed; the ratio is the median of the rounds' ratios. A trial of this
program uses the simulated trainer. It asks, draws one member, stores, verifies and reads it, votes, reports and tells,
so it does more than the trials that it is compared with.

    python benchmarks/overhead.py --trials 200 --json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WHO = ("ours", "ray_tune", "optuna")
MEASURES = ("seconds_per_trial", "seconds_per_trial_last_quarter", "start_up_seconds", "peak_mb")
CPUS = 2
STARTUP_TRIALS = 10
SPACE: dict[str, Any] = {
    "name": "overhead",
    "trainer": "simulated",
    "search": {
        "depth": {"low": 1, "high": 4},
        "pretrain_size": {"low": 0, "high": 4000},
        "finetune_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "head_size": 8,
        "heads": 2,
    },
    "objectives": ["validation_accuracy"],
    "sampler": {"name": "tpe", "n_startup_trials": STARTUP_TRIALS},
    "resources": {"concurrent_trials": CPUS},
}


def ours(folder: Path, trials: int, storage: str) -> None:
    from tlm_search.search.ray_tune.searcher import Hooks
    from tlm_search.search.session import run_study
    from tlm_search.space.schema import Space

    workers, deliver = set(), Hooks.deliver

    def watched(self: Hooks, key: str, result: Any) -> bool:
        workers.add(result["pid"])
        return deliver(self, key, result)

    Hooks.deliver = watched  # type: ignore[method-assign]
    space = Space.from_document({**SPACE, "budget": {"trials": trials}})
    with (folder / "lines").open("w") as lines:
        session = run_study(
            space,
            studies_dir=folder,
            storage=None,
            address=None,
            fresh=False,
            announce=lambda line: print(time.monotonic(), line, file=lines),
            show=_no_display,
        )
    assert session.driver.progress.complete == trials
    (folder / "workers").write_text(str(len(workers)))


def ray_tune(folder: Path, trials: int, storage: str) -> None:
    import logging

    # The same quiet settings as in this program, and as few of Ray's own files.
    from tlm_search.search.ray_tune import cluster as settings  # isort: skip  # noqa: F401
    import optuna
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    ray.init("local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    space = {
        "depth": tune.randint(1, 5),
        "pretrain_size": tune.randint(0, 4001),
        "finetune_learning_rate": tune.loguniform(1e-4, 1e-2),
    }
    search = OptunaSearch(metric="score", mode="max", sampler=_sampler(), storage=_storage(folder, storage))
    tuner = tune.Tuner(
        tune.with_resources(_Trivial, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=search, num_samples=trials, max_concurrent_trials=CPUS, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name="bare",
            storage_path=str(folder),
            verbose=0,
            callbacks=[clock := _Clock(folder / "lines")],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    results = tuner.fit()
    assert len(results) == trials
    (folder / "workers").write_text(str(len(clock.workers)))
    ray.shutdown()


def optuna(folder: Path, trials: int, storage: str) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    simulation = _simulation()

    def objective(trial: optuna.Trial) -> float:
        return score(
            {
                "depth": trial.suggest_int("depth", 1, 4),
                "pretrain_size": trial.suggest_int("pretrain_size", 0, 4000),
                "finetune_learning_rate": trial.suggest_float("finetune_learning_rate", 1e-4, 1e-2, log=True),
            },
            simulation,
        )

    study = optuna.create_study(direction="maximize", storage=_storage(folder, storage), sampler=_sampler())
    with (folder / "lines").open("w") as lines:
        study.optimize(objective, trials, callbacks=[lambda *_: print(time.monotonic(), file=lines)])


def score(params: dict[str, Any], simulation: Any) -> float:
    """The objective of this program: draw and score a simulated member, but store nothing.

    With other values the samplers would do other work: TPE's time depends on the spread of its observations.
    """
    from tlm_search.search.trial import trial_specs

    space, data, trainer = simulation
    specs = trial_specs(space.settings(params), seed=space.seed, data=data, trainer=trainer)
    (member,) = trainer.train(specs, store=None, data=data)  # type: ignore[arg-type]
    right = member.arrays["logits"]["validation"].argmax(axis=1) == data.true_labels("validation")
    return float(right.mean())


def _simulation() -> Any:
    from tlm_search.data.simulated import simulated_data
    from tlm_search.members.simulated import SimulatedTrainer
    from tlm_search.space.schema import Space

    space = Space.from_document(SPACE)
    return space, simulated_data(space, Path()), SimulatedTrainer()


def _sampler() -> Any:
    import optuna

    return optuna.samplers.TPESampler(seed=0, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)


def _storage(folder: Path, kind: str) -> Any:
    import optuna

    if kind == "memory":
        return optuna.storages.InMemoryStorage()
    from optuna.storages.journal import JournalFileBackend

    return optuna.storages.JournalStorage(JournalFileBackend(str(folder / "journal.log")))


def _no_display(progress: Any) -> Any:
    from contextlib import nullcontext

    return nullcontext()


# these are classes of Ray, so they exist only if it is imported
if sys.argv[1:2] == ["--one"] and sys.argv[2] == "ray_tune":
    from tlm_search.search.ray_tune import cluster as _settings  # isort: skip  # noqa: F401
    from ray.tune import Callback, Trainable

    class _Trivial(Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._params = config
            self._simulation = _simulation()

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._params = new_config
            return True

        def step(self) -> dict[str, Any]:
            return {"score": score(self._params, self._simulation), "done": True}

    class _Clock(Callback):
        def __init__(self, lines: Path) -> None:
            self._lines = lines
            self.workers: set[int] = set()

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self.workers.add(trial.last_result["pid"])
            with self._lines.open("a") as lines:
                print(time.monotonic(), file=lines)


def one(who: str, trials: int, storage: str) -> None:
    """Run one of the three in this process and print its seconds and memory."""
    began = time.monotonic() - (time.time() - _process_start())
    with tempfile.TemporaryDirectory() as folder:
        {"ours": ours, "ray_tune": ray_tune, "optuna": optuna}[who](Path(folder), trials, storage)
        workers = Path(folder) / "workers"
        count = int(workers.read_text()) if workers.exists() else 1
        times = [float(line.split()[0]) for line in (Path(folder) / "lines").read_text().splitlines()]
    ends = times[-trials:]
    quarter = max(1, trials // 4)
    document = {
        "workers": count,
        "start_up_seconds": ends[0] - began,
        "seconds_per_trial": (ends[-1] - ends[0]) / (trials - 1),
        "seconds_per_trial_last_quarter": (ends[-1] - ends[-1 - quarter]) / quarter,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(document))


def _process_start() -> float:
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], int(sys.argv[3]), sys.argv[4])
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--storage", choices=("journal", "memory"), default="journal")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {who: [] for who in WHO}
    for _ in range(arguments.rounds):
        for who in WHO:
            command = [sys.executable, __file__, "--one", who, str(arguments.trials), arguments.storage]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                return 1
            runs[who].append(json.loads(done.stdout.splitlines()[-1]))
            print(who, done.stdout.splitlines()[-1], file=sys.stderr, flush=True)
    medians = {
        key: {who: round(statistics.median(run[key] for run in runs[who]), 4) for who in WHO} for key in MEASURES
    }
    per_trial = medians["seconds_per_trial"]
    # Use each round by itself, so that a machine that slows down between two rounds favours nobody. If a trial ends
    # before the second worker has started, Ray Tune runs all trials in the first. So only rounds count in which both
    # had equally many workers.
    pairs = list(zip(runs["ours"], runs["ray_tune"], strict=True))
    equal = [pair for pair in pairs if pair[0]["workers"] == pair[1]["workers"]] or pairs
    ratios = [round(mine["seconds_per_trial"] / theirs["seconds_per_trial"], 3) for mine, theirs in equal]
    ratio = statistics.median(ratios)
    if arguments.json:
        result = {
            "seconds_per_trial": per_trial,
            "start_up_seconds": medians["start_up_seconds"]["ours"],
            "peak_mb": medians["peak_mb"]["ours"],
            "ours_to_ray_tune": ratio,
            "ours_to_ray_tune_by_round": ratios,
            "workers": {who: [run["workers"] for run in runs[who]] for who in WHO},
            "medians": medians,
            "trials": arguments.trials,
            "rounds": arguments.rounds,
            "storage": arguments.storage,
        }
        print(json.dumps(result, indent=2))
        return 0
    for key in MEASURES:
        print(f"{key:32s}", "  ".join(f"{who} {medians[key][who]:8.3f}" for who in WHO))
    print(f"ours / Ray Tune: {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
