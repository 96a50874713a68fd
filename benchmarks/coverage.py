"""Do the 95% intervals of accuracies, other metrics and differences to the reference hold the truth 95 times in 100?

Members with a known accuracy are simulated. An example has a difficulty, which all members share. A member has a skill,
which all examples share. Each pair of a member and an example has its own noise. The true accuracy of a committee of k
such members on such examples is computed once from a million draws; another metric is computed from two hundred
committees. Then studies are simulated, and the benchmark counts how often the interval of ``frontier`` holds the truth
(the target is 92% to 98%).

Two members cannot show how much other members would differ: if the two agree, that says next to nothing. Their
intervals are right if members differ by some points of accuracy, too wide if they are equal, and too narrow if they
differ by ten points. No prior on the difference that was tried is right in all three cases (``studies/LOG.md``), so the
cells of the other two cases are listed separately.

A search takes the best of many configurations on validation; among equal ones that is the luckiest, and its own members
are then tested. The benchmark counts how often the interval of the chosen committee holds the truth, for the members of
the search and for members with fresh seeds, which a confirmation trains.

A committee and a reference answer the same texts, and on few of them only one is right. The benchmark counts how often
the paired interval holds the true difference, and how often the committee would match (2.5% if it is worse by slightly
more than the margin).

    python benchmarks/coverage.py [--simulations 500] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.frontier import frontier, right_shares
from tlm_search.committee.interval import accuracy_interval, paired_interval, seed_half_width, widened
from tlm_search.committee.metrics import ACCURACY, Metric, Named
from tlm_search.committee.pool import pool_of
from tlm_search.committee.scores import CommitteeScores
from tlm_search.committee.verdict import MARGIN
from tlm_search.committee.vote import softmax
from tlm_search.search.confirm import FRESH_MEMBERS
from tlm_search.search.spread import pooled
from tlm_search.space.task import METRICS_OF_ONE_LABEL

LEAST, MOST = 0.92, 0.98
APART = ("two, equal", "two, unequal")  # no prior is right for both these worlds and "two members"
CLASSES = 4
DRAWS = 1_000_000
BLOCK = 100_000


@dataclass(frozen=True)
class World:
    """A kind of members and examples. ``signal`` sets the accuracy; the others are standard deviations in logits."""

    name: str
    members: int
    rows: int
    signal: float
    difficulty: float
    skill: float
    noise: float
    metric: str = "accuracy"
    # of the labels; if the metric is not accuracy, the members know them
    shares: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)

    @property
    def judged_by(self) -> Metric:
        """The metric. The first label is the positive one."""
        return Metric(self.metric, 0 if self.metric in METRICS_OF_ONE_LABEL else None)


WORLDS = (
    World("usual", members=4, rows=500, signal=2.0, difficulty=1.0, skill=0.15, noise=1.0),
    World("equal members", members=4, rows=500, signal=2.0, difficulty=1.0, skill=0.0, noise=1.0),
    World("unequal members", members=6, rows=500, signal=2.0, difficulty=1.0, skill=0.5, noise=1.0),
    World("many members", members=16, rows=1000, signal=1.0, difficulty=1.0, skill=0.2, noise=1.5),
    World("more texts", members=4, rows=2000, signal=2.0, difficulty=1.0, skill=0.2, noise=1.0),
    World("eight members", members=8, rows=1000, signal=1.5, difficulty=1.0, skill=0.2, noise=1.2),
    World("near 100%", members=4, rows=300, signal=4.0, difficulty=1.0, skill=0.2, noise=1.0),
    World("at 100%", members=4, rows=300, signal=6.0, difficulty=1.0, skill=0.3, noise=1.0),
    World("two members", members=2, rows=500, signal=2.0, difficulty=1.0, skill=0.2, noise=1.0),
    World("two, equal", members=2, rows=500, signal=2.0, difficulty=1.0, skill=0.0, noise=1.0),
    World("two, unequal", members=2, rows=500, signal=2.0, difficulty=1.0, skill=0.5, noise=1.0),
    World("three members", members=3, rows=500, signal=2.0, difficulty=1.0, skill=0.3, noise=1.0),
    World("one member", members=1, rows=500, signal=2.0, difficulty=1.0, skill=0.0, noise=1.0),
)
RARE, SKEWED = (0.03, 0.97), (0.6, 0.3, 0.07, 0.03)
OTHER_METRICS = tuple(
    World(name, members, rows, signal, difficulty=1, skill=0.2 if members > 1 else 0, noise=1, metric=metric, shares=of)
    for name, members, rows, signal, metric, of in (
        ("even labels", 4, 500, 2.0, "macro_f1", (0.25,) * 4),
        ("rare labels", 4, 1000, 3.0, "macro_f1", SKEWED),
        ("rare labels", 4, 1000, 3.0, "balanced_accuracy", SKEWED),
        ("one member", 1, 1000, 3.0, "macro_f1", SKEWED),
        ("30 of 1,000", 4, 1000, 4.0, "f1", RARE),
        ("90 of 3,000", 4, 3000, 4.0, "f1", RARE),
        ("one member", 1, 1000, 4.0, "f1", RARE),
        ("near 100%", 4, 1000, 9.0, "f1", RARE),
        ("30 of 1,000", 4, 1000, 4.0, "precision", RARE),
        ("30 of 1,000", 4, 1000, 4.0, "recall", RARE),
        ("30 of 1,000", 4, 1000, 4.0, "average_precision", RARE),
        ("90 of 3,000", 4, 3000, 4.0, "average_precision", RARE),
        ("one member", 1, 1000, 4.0, "average_precision", RARE),
    )
)
COMMITTEES, THEIR_ROWS = 200, 20_000  # the true value of another metric is the mean over these
TEXTS = (40, 100, 200, 1000)
# The share of texts on which only the committee is right, and the share on which only the reference is.
ONE_IS_RIGHT = ((0.0, 0.021), (0.01, 0.031), (0.05, 0.071), (0.02, 0.02))
# Searches choose from configurations, each with one of these signals for its members.
KINDS = {"alike": (2.0,), "different": (1.8, 1.9, 2.0, 2.1, 2.2)}
SEARCHES = tuple((kind, many, members) for kind in KINDS for many in (10, 40) for members in (1, 4))
SEARCHED = World("search", members=4, rows=1000, signal=2.0, difficulty=1.0, skill=0.15, noise=1.0)
VALIDATION_ROWS = 500
SINGLES = tuple((*study, skill) for study in ((1, 4), (8, 2), (8, 4)) for skill in (0.0, 0.15, 0.3))


def logits_of(
    world: World, labels: NDArray[np.int64], random: np.random.Generator, *, fresh: bool = False
) -> NDArray[np.float64]:
    """Draw the logits (members, rows, classes) of one study.

    ``fresh``: each example has its own members, which leaves the expected accuracy as it is.
    """
    rows, classes = len(labels), len(world.shares)
    shared = random.normal(size=(rows, classes)) * world.difficulty
    skill = random.normal(size=(world.members, rows if fresh else 1)) * world.skill
    logits = shared + random.normal(size=(world.members, rows, classes)) * world.noise
    logits[:, np.arange(rows), labels] += world.signal + skill
    return logits if world.metric == "accuracy" else logits + np.log(world.shares)


def labels_of(world: World, rows: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw the labels of the rows."""
    if world.metric == "accuracy":
        return np.zeros(rows, dtype=np.int64)
    return random.choice(len(world.shares), size=rows, p=world.shares)


def true_metrics(world: World, random: np.random.Generator, *, draws: int = DRAWS) -> NDArray[np.float64]:
    """Return the metric of committees of 1..K members on all possible examples."""
    of_accuracy = world.metric == "accuracy"
    blocks, rows = (max(draws // BLOCK, 1), BLOCK) if of_accuracy else (COMMITTEES, THEIR_ROWS)
    reached = np.zeros(world.members)
    for _ in range(blocks):
        labels = labels_of(world, rows, random)
        probabilities = softmax(logits_of(world, labels, random, fresh=of_accuracy))
        votes = np.cumsum(probabilities, axis=0) / np.arange(1, world.members + 1)[:, None, None]
        named = Named(votes.argmax(axis=-1), votes[..., 0], labels, len(world.shares))
        reached += named.values(world.judged_by)
    return reached / blocks


@dataclass(frozen=True)
class Coverage:
    """How often the intervals held the truth, and how wide they were, by committee size."""

    world: str
    metric: str
    size: int
    truth: float
    coverage: float
    width: float


def verdict(row: Coverage, *, simulations: int) -> str:
    """Say whether a coverage is within the target; if it is outside, say why."""
    if LEAST <= row.coverage <= MOST:
        return ""
    if row.world in APART:
        return "outside, as two members cannot tell"
    bound = LEAST if row.coverage < LEAST else MOST
    chance = 1.96 * (bound * (1 - bound) / simulations) ** 0.5
    return "outside, by chance perhaps" if abs(row.coverage - bound) <= chance else "outside"


def coverage(world: World, *, simulations: int, seed: int = 0, draws: int = DRAWS) -> list[Coverage]:
    """Simulate studies of ``world`` and count, for each committee size, the intervals that hold the truth."""
    random = np.random.default_rng(seed)
    truth = true_metrics(world, random, draws=draws)
    bounds = np.empty((simulations, world.members, 2))
    for simulation in range(simulations):
        labels = labels_of(world, world.rows, random)
        logits = logits_of(world, labels, random)
        of_sizes = frontier(logits[:, :1], logits, labels[:1], labels, metric=world.judged_by)
        bounds[simulation] = [scores.interval("test", world.metric) for scores in of_sizes]
    low, high = bounds[..., 0], bounds[..., 1]
    held = ((low <= truth) & (truth <= high)).mean(axis=0)
    width = (high - low).mean(axis=0)
    return [
        Coverage(world.name, world.metric, size + 1, float(truth[size]), float(held[size]), float(width[size]))
        for size in range(world.members)
    ]


@dataclass(frozen=True)
class Paired:
    """How often the interval of a difference held the truth, and how often its lower end was not below -``MARGIN``."""

    texts: int
    only_committee: float
    only_reference: float
    coverage: float
    matched: float


def paired(texts: int, only_committee: float, only_reference: float, *, simulations: int, seed: int = 0) -> Paired:
    """Simulate comparisons on ``texts`` texts; the shares are those of texts on which only one of the two is right."""
    random = np.random.default_rng(seed)
    held = matched = 0
    for _ in range(simulations):
        kind = random.choice(3, size=texts, p=(only_committee, only_reference, 1 - only_committee - only_reference))
        _, low, high = paired_interval(kind != 1, kind != 0)
        held += low <= only_committee - only_reference <= high
        matched += low >= -MARGIN
    return Paired(texts, only_committee, only_reference, held / simulations, matched / simulations)


@dataclass(frozen=True)
class Searched:
    """How often intervals of the chosen committee held the truth, and how far above it was its accuracy on average.

    ``search`` is for the chosen members, ``fresh`` for members with fresh seeds.
    """

    kind: str
    configurations: int
    members: int
    search_coverage: float
    search_bias: float
    fresh_coverage: float
    fresh_bias: float
    fresh_width: float


@dataclass(frozen=True)
class _Tried:
    """A configuration, with the values that a study records."""

    number: int
    frontier: tuple[CommitteeScores, ...]
    state: str = "complete"
    params: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def settings(self) -> Mapping[str, float]:
        return {"number": self.number}


def searched(kind: str, many: int, members: int, *, simulations: int, seed: int = 0, draws: int = DRAWS) -> Searched:
    """Simulate searches over ``many`` configurations with ``members`` members each."""
    random = np.random.default_rng(seed)
    world = replace(SEARCHED, members=members)
    signals = np.resize(KINDS[kind], many)
    truths = {signal: true_metrics(replace(world, signal=signal), random, draws=draws) for signal in KINDS[kind]}
    held, above, width = np.zeros((2, simulations)), np.zeros((2, simulations)), np.zeros(simulations)
    for simulation in range(simulations):
        texts = [random.normal(size=(rows, CLASSES)) * world.difficulty for rows in (VALIDATION_ROWS, world.rows)]
        skills = random.normal(size=(many, members)) * world.skill
        trials = [_tried(i, _votes(texts[0], signals[i] + skills[i], world, random)) for i in range(many)]
        chosen = pool_of(trials, None).best()[0]
        place, size = chosen.trial.number, chosen.size
        again = random.normal(size=max(size, FRESH_MEMBERS)) * world.skill
        for which, theirs in enumerate((skills[place], again)):
            test = _votes(texts[1], signals[place] + theirs, world, random)
            labels = np.zeros(world.rows, dtype=np.int64)
            scores = frontier(test[:, :1], test, labels[:1], labels)[size - 1]
            truth = truths[signals[place]][size - 1]
            low, high = scores.interval("test", "accuracy")
            held[which, simulation] = low <= truth <= high
            above[which, simulation] = scores.mean("test", "accuracy") - truth
            width[simulation] = high - low
    coverages, biases = held.mean(axis=1), above.mean(axis=1)
    return Searched(kind, many, members, *map(float, (coverages[0], biases[0], coverages[1], biases[1], width.mean())))


def _votes(
    texts: NDArray[np.float64], signals: NDArray[np.float64], world: World, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the logits (members, rows, classes) of members with these signals; the first label is true."""
    logits = texts + random.normal(size=(len(signals), *texts.shape)) * world.noise
    logits[:, :, 0] += signals[:, None]
    return logits


def _tried(number: int, validation: NDArray[np.float64]) -> _Tried:
    """Return a configuration with its results on validation, which are all that a choice uses."""
    labels, sizes = np.zeros(validation.shape[1], dtype=np.int64), range(1, len(validation) + 1)
    reached = right_shares(validation, labels, sizes=list(sizes)).mean(axis=1)
    scores = (CommitteeScores(size, 1, {"validation_accuracy": float(reached[size - 1])}) for size in sizes)
    return _Tried(number, tuple(scores))


@dataclass(frozen=True)
class Single:
    """How often the interval of one model held the truth: that over texts ``alone``, and that over ``seeds`` too.

    The spread over seeds is estimated from ``committees`` committees of ``members`` members of the same study.
    """

    committees: int
    members: int
    skill: float
    alone: float
    seeds: float


def single(committees: int, members: int, skill: float, *, simulations: int, seed: int = 0) -> Single:
    """Simulate a reference of one model, with committees whose members differ by their seeds as much as it does."""
    random = np.random.default_rng(seed)
    world = replace(SEARCHED, members=members, skill=skill)
    truth = float(true_metrics(replace(world, members=1), random, draws=DRAWS // 5)[0])
    held = np.zeros((2, simulations))
    for simulation in range(simulations):
        texts = random.normal(size=(world.rows, CLASSES)) * world.difficulty
        skills = world.signal + random.normal(size=(committees, members)) * skill
        labels = np.zeros(world.rows, dtype=np.int64)
        half = seed_half_width(pooled([_votes(texts, theirs, world, random) for theirs in skills], labels, ACCURACY))
        alone = _votes(texts, world.signal + random.normal(size=1) * skill, world, random)
        right = (alone[0].argmax(axis=-1) == labels).astype(np.float64)
        bounds = accuracy_interval(right)
        wider = widened(float(right.mean()), *bounds, half_width=half)
        held[:, simulation] = [low <= truth <= high for low, high in (bounds, wider)]
    return Single(committees, members, skill, *map(float, held.mean(axis=1)))


def _line(row: Searched) -> str:
    return (
        f"best of {row.configurations} {row.kind} configurations of {row.members}: members of the search "
        f"{100 * row.search_bias:+.1f} points, coverage {row.search_coverage:6.1%}; fresh seeds "
        f"{100 * row.fresh_bias:+.1f} points, coverage {row.fresh_coverage:6.1%}, width {100 * row.fresh_width:.1f}"
    )


def _line_of_single(row: Single) -> str:
    return (
        f"one model beside {row.committees} committees of {row.members}, skill {row.skill:g}: coverage by texts alone "
        f"{row.alone:6.1%}, with what seeds change {row.seeds:6.1%}"
    )


def main() -> int:
    """Print the coverage of each world and committee size, those within the target, and the same for differences."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--choice", action="store_true", help="of chosen committees alone")
    arguments = parser.parse_args()
    started = time.perf_counter()
    chosen = [searched(*search, simulations=arguments.simulations) for search in SEARCHES]
    alone = [single(*kind, simulations=arguments.simulations) for kind in SINGLES]
    if arguments.choice:
        document = {"searches": [asdict(row) for row in chosen], "singles": [asdict(row) for row in alone]}
        lines = "\n".join((*map(_line, chosen), *map(_line_of_single, alone)))
        print(json.dumps(document, indent=2) if arguments.json else lines)
        return 0
    results = [row for world in (*WORLDS, *OTHER_METRICS) for row in coverage(world, simulations=arguments.simulations)]
    pairs = [paired(texts, *apart, simulations=arguments.simulations) for texts in TEXTS for apart in ONE_IS_RIGHT]
    seconds = time.perf_counter() - started
    verdicts = [verdict(row, simulations=arguments.simulations) for row in results]
    if arguments.json:
        rows = [{**asdict(row), "verdict": said} for row, said in zip(results, verdicts, strict=True)]
        document = {
            "simulations": arguments.simulations,
            "seconds": seconds,
            "rows": rows,
            "paired": [asdict(row) for row in pairs],
            "searches": [asdict(row) for row in chosen],
            "singles": [asdict(row) for row in alone],
        }
        print(json.dumps(document, indent=2))
    else:
        for row, said in zip(results, verdicts, strict=True):
            print(
                f"{row.world:16s} size {row.size:2d}  {row.metric.replace('_', ' '):17s} {row.truth:6.1%}  "
                f"coverage {row.coverage:6.1%}  width {100 * row.width:4.1f} points"
                f"{'  ' + said if said else ''}"
            )
        for row in pairs:
            print(
                f"{row.texts:4d} texts, only the committee right on {row.only_committee:.1%}, only the reference on "
                f"{row.only_reference:.1%}: coverage {row.coverage:6.1%}, said to match {row.matched:6.1%}"
            )
        print("\n".join((*map(_line, chosen), *map(_line_of_single, alone))))
        counts = ", ".join(f"{count} {said or 'within 92% to 98%'}" for said, count in Counter(verdicts).most_common())
        print(f"{len(results)} cells: {counts}; {seconds:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
