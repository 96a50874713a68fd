"""Which sampler and which pruner find a good committee soonest? Searches are replayed on a table, without training.

`tabulated.csv` has the results of committees of 1, 2 and 4 members in every configuration of `tabulated.yaml`, from
members that were really trained. A study of a given number of trials takes its proposals from the program's own driver,
samplers and pruners, one trial at a time, and reads its rungs from the table. Members are reused, as from a store. The
learning rate is searched as a range, and the nearest tabulated rate is read; `grid` takes only the tabulated ones.

- one: the score is the validation accuracy of the best committee of 4.
- pruners: the same, with each pruner.
- two: the committee size is searched too, the objectives are validation accuracy and parameters; the score is the
  share of the table's hypervolume (above chance, below the largest committee) that the trials' frontier covers.
- ranges: the part of the table that can be written in ranges, which is all that cmaes can search.

The seeds of the studies are the same for every contender, so differences to random search and to TPE, the default, both
without a pruner, are paired. `at_members` is the score when a study had trained 60 members (two: 40), or twice its
trials.

    python benchmarks/search.py --json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy.stats import t as student
from table import LABELS, RATE, Replay, Table, read_table

from tlm_search.search.driver import Driver
from tlm_search.search.ledger import Ledger
from tlm_search.space.schema import Space
from tlm_search.study.studies import StudyInStorage

HERE = Path(__file__).parent
RANDOM, DEFAULT, NONE = "random", "tpe", "none"
Interval = tuple[float, float, float]
SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    RANDOM: {"name": "random"},
    DEFAULT: {"name": "tpe"},
    "tpe, 5 at random": {"name": "tpe", "n_startup_trials": 5},
    "tpe, each setting alone": {"name": "tpe", "multivariate": False},
    "gp": {"name": "gp"},
    "gp, 5 at random": {"name": "gp", "n_startup_trials": 5},
    "nsgaii": {"name": "nsgaii"},
    "nsgaii, 8 a generation": {"name": "nsgaii", "population_size": 8},
    "nsgaiii, 8 a generation": {"name": "nsgaiii", "population_size": 8},
    "qmc": {"name": "qmc", "scramble": True},
    "grid": {"name": "grid"},
    "cmaes": {"name": "cmaes"},
}
PRUNERS: Mapping[str, Mapping[str, Any]] = {
    NONE: {"name": "none"},
    "median": {"name": "median"},
    "asha": {"name": "asha"},
    "asha, one in 2": {"name": "asha", "reduction_factor": 2},
    "hyperband": {"name": "hyperband"},
}
WITH_PRUNERS = (RANDOM, DEFAULT)
RANGES: Mapping[str, Any] = {
    "depth": {"low": 1, "high": 2},
    "width": {"low": 32, "high": 64, "step": 32},
    "pretrain_size": {"low": 0, "high": 16000, "step": 4000},
    "pooling": "mean",
    "convolution_layers": 0,
}
MOST_TRIALS = 2  # times the trials: the limit of a study that continues until it has trained as many members as others


@dataclass(frozen=True)
class Outcome:
    """The result of one study after its trials; ``at_members`` is the result when it had trained that many members."""

    score: float
    test: float
    members: int
    members_to_best: int
    training_seconds: float
    at_members: float
    seconds_a_trial: float


@dataclass(frozen=True)
class Contest:
    """One question: the part of the table, the entries of the space, the contenders, and their score.

    ``score`` takes the metrics of a study's complete trials; ``top`` is the score of the whole table. Studies are
    also compared when they have trained ``members``.
    """

    table: Table
    changes: Mapping[str, Any]
    pairs: Sequence[tuple[str, str]]
    score: Callable[[Sequence[Mapping[str, float]]], float]
    top: float
    members: int


def contests(table: Table) -> Mapping[str, Contest]:
    """Return the four questions."""
    most = max(table.sizes)
    everyone = [(name, NONE) for name in SAMPLERS if name != "cmaes"]
    pruned = [(sampler, pruner) for sampler in WITH_PRUNERS for pruner in PRUNERS]
    part = table.part(pooling="mean", convolution_layers=0)
    sizes = {"committee_size": {"choices": list(table.sizes)}}
    two = {"objectives": ["validation_accuracy", "parameters"], "search": sizes}
    frontiers = [*everyone, *((DEFAULT, pruner) for pruner in PRUNERS if pruner != NONE)]
    in_ranges = [(name, NONE) for name in (RANDOM, DEFAULT, "gp", "qmc", "cmaes")]
    best, covered = best_accuracy(results(table, [most])), Hypervolume(table)
    return {
        "one": Contest(table, {}, everyone, best_accuracy, best, 60),
        "pruners": Contest(table, {}, pruned, best_accuracy, best, 60),
        "two": Contest(table, two, frontiers, covered, 1.0, 40),
        "ranges": Contest(part, {"search": RANGES}, in_ranges, best_accuracy, best_accuracy(results(part, [most])), 60),
    }


def results(table: Table, sizes: Sequence[int]) -> list[Mapping[str, float]]:
    """Return the metrics of all committees of these sizes."""
    return [table.metrics(key, size) for key in table.rows for size in sizes]


def best_accuracy(found: Sequence[Mapping[str, float]]) -> float:
    """Return the highest validation accuracy."""
    return max((result["validation_accuracy"] for result in found), default=0.0)


class Hypervolume:
    """The share of the table's hypervolume that a frontier covers: above chance, below the largest committee."""

    def __init__(self, table: Table) -> None:
        whole = results(table, table.sizes)
        self._chance, self._most = 1 / LABELS, max(result["parameters"] for result in whole)
        self._whole = 1.0
        self._whole = self(whole)

    def __call__(self, found: Sequence[Mapping[str, float]]) -> float:
        """Return the share."""
        volume, reached = 0.0, self._chance
        for result in sorted(found, key=lambda result: result["parameters"]):
            if result["validation_accuracy"] > reached:
                volume += (self._most - result["parameters"]) * (result["validation_accuracy"] - reached)
                reached = result["validation_accuracy"]
        return volume / self._whole


def space_of(contest: Contest, sampler: str, pruner: str, seed: int) -> Space:
    """Return the space of one study; only a grid has the tabulated learning rates."""
    document = contest.table.space.to_document()
    search = dict(document["search"])
    if sampler != "grid":
        rates = contest.table.levels[RATE]
        search[RATE] = {"low": min(rates), "high": max(rates), "log": True, "role": "nuisance"}
    search |= contest.changes.get("search", {})
    if not isinstance(search["convolution_layers"], dict):
        del search["convolution_channels"]
    contenders = {"sampler": dict(SAMPLERS[sampler]), "pruner": dict(PRUNERS[pruner])}
    more = {"seed": seed, "confirm": 0}  # the table has no other members
    return Space.from_document({**document, **contest.changes, **contenders, "search": search, **more})


def replay(contest: Contest, space: Space, *, trials: int) -> Outcome:
    """Run one study on the table, one trial at a time, until it has its trials and its members."""
    storage = optuna.storages.InMemoryStorage()
    name = f"replay-{space.seed}"  # hyperband uses the name to choose a trial's bracket
    directions = [objective.direction for objective in space.objectives]
    optuna.create_study(study_name=name, storage=storage, directions=directions)
    driver = Driver(Ledger(StudyInStorage(study_name=name, storage=storage), space), trials=trials * MOST_TRIALS)
    store = Replay(contest.table)
    found: list[Mapping[str, float]] = []
    after_trials: dict[str, Any] = {}
    at_members: float | None = None
    best, to_best, began = -1.0, 0, time.perf_counter()
    while not driver.ended and (not after_trials or at_members is None):
        job = driver.next_job("job")
        if job is None:
            break
        before, rungs = contest.score(found), store.rungs(job.settings)
        while driver.on_rung("job", rung := next(rungs)):
            pass
        if at_members is None and store.trained > contest.members:
            at_members = before  # this trial exceeded the number of members
        if rung.done:
            found.append(rung.metrics)
        score = contest.score(found)
        if score > best:
            best, to_best = score, store.trained
        if driver.progress.finished == trials:
            chosen = max(found, key=lambda metrics: metrics["validation_accuracy"])
            after_trials = {
                "score": score,
                "test": chosen["test_accuracy"],
                "members": store.trained,
                "members_to_best": to_best,
                "training_seconds": store.seconds,
                "seconds_a_trial": (time.perf_counter() - began) / trials,
            }
    return Outcome(**after_trials, at_members=best if at_members is None else at_members)


def mean_and_interval(values: Sequence[float]) -> Interval:
    """Return the mean over seeds with the 95% interval of Student's t."""
    array = np.asarray(values, dtype=float)
    half = 0.0
    if len(array) > 1:
        half = float(student.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return float(array.mean()), float(array.mean() - half), float(array.mean() + half)


def compare(
    contest: Contest, *, trials: int, seeds: int, tell: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """Return a row for each pair of sampler and pruner, with its differences to random search and to the default."""
    measures: dict[tuple[str, str], list[dict[str, float]]] = {}
    for sampler, pruner in contest.pairs:
        tell(f"{sampler}, {pruner}")
        spaces = (space_of(contest, sampler, pruner, seed) for seed in range(seeds))
        measures[sampler, pruner] = [asdict(replay(contest, space, trials=trials)) for space in spaces]
    return [
        {
            "sampler": sampler,
            "pruner": pruner,
            "regret": contest.top - float(np.mean([measure["score"] for measure in own])),
            "found_best": float(np.mean([measure["score"] >= contest.top for measure in own])),
            **{key: mean_and_interval([measure[key] for measure in own]) for key in own[0]},
            "above_random": differences(own, measures[RANDOM, NONE]),
            "above_default": differences(own, measures[DEFAULT, NONE]),
        }
        for (sampler, pruner), own in measures.items()
    ]


def differences(own: Sequence[Mapping[str, float]], other: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    """Return the mean differences of two contenders over their seeds."""
    pairs = list(zip(own, other, strict=True))
    return {key: mean_and_interval([a[key] - b[key] for a, b in pairs]) for key in own[0]}


def show(row: Mapping[str, Any]) -> str:
    """Return a row to print: accuracies and shares in points."""

    def points(values: Sequence[float]) -> str:
        mean, low, high = (100 * value for value in values)
        return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"

    above = row["above_random"]
    parts = [
        f"{row['sampler']}, {row['pruner']}: {100 * row['score'][0]:.2f}",
        f"above random {points(above['score'])}",
        f"above the default {points(row['above_default']['score'])}",
        f"test {points(above['test'])}",
        f"at equal members {points(above['at_members'])}",
        f"regret {100 * row['regret']:.2f}",
        f"the best in {row['found_best']:.0%}",
        f"members {row['members'][0]:.1f}, to the best {row['members_to_best'][0]:.1f}",
        f"training {row['training_seconds'][0]:.0f} s",
        f"{1000 * row['seconds_a_trial'][0]:.0f} ms a trial",
    ]
    return "; ".join(parts)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Print each contest, a row for each contender."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--table", type=Path, default=HERE / "tabulated.csv")
    parser.add_argument("--contest", choices=("one", "pruners", "two", "ranges"), action="append", help="default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = read_table(arguments.table, HERE / "tabulated.yaml")
    began = time.perf_counter()
    document: dict[str, Any] = {name: getattr(arguments, name) for name in ("trials", "seeds")}
    for name, contest in contests(table).items():
        if arguments.contest and name not in arguments.contest:
            continue
        document[name] = compare(contest, trials=arguments.trials, seeds=arguments.seeds, tell=_tell)
        if not arguments.json:
            print(name, *(show(row) for row in document[name]), sep="\n", flush=True)
    document["seconds"] = round(time.perf_counter() - began, 1)
    if arguments.json:
        print(json.dumps(document, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
