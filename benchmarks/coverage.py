"""Do the 95% intervals of accuracies, and of differences to the reference, hold the truth 95 times in 100?

Members with a known accuracy are simulated: an example has a difficulty that all members share, a member has a skill
that all examples share, and each meets each with noise of its own. The true accuracy of a committee of k such members
on such examples is computed once from a million draws. Then studies are simulated, and it is counted how often the
interval of ``frontier`` holds the truth (the target is 92% to 98%).
Two members cannot tell how much others would differ: that the two agree says next to nothing. Their intervals are right
where members differ by some points of accuracy, too wide where they are equal, and too narrow where they differ by ten.
No prior on the difference that was tried serves all three (``studies/LOG.md``): the cells of the other two stand apart.

Of a committee and a reference that meet the same texts, on few of which only one is right, it is counted how often the
paired interval holds the true difference, and how often the committee would be said to match (2.5% where it is worse by
just more than the margin).

    python benchmarks/coverage.py [--simulations 500] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.frontier import frontier
from tlm_search.committee.interval import paired_interval
from tlm_search.committee.select import MARGIN

LEAST, MOST = 0.92, 0.98
APART = ("two, equal", "two, unequal")  # worlds that no prior serves beside "two members"
CLASSES = 4
DRAWS = 1_000_000
BLOCK = 100_000


@dataclass(frozen=True)
class World:
    """A kind of members and examples; ``signal`` sets the accuracy, the others are standard deviations in logits."""

    name: str
    members: int
    rows: int
    signal: float
    difficulty: float
    skill: float
    noise: float


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
TEXTS = (40, 100, 200, 1000)
# Shares of the texts that only the committee has right, and only the reference.
ONE_IS_RIGHT = ((0.0, 0.021), (0.01, 0.031), (0.05, 0.071), (0.02, 0.02))


def logits_of(world: World, rows: int, random: np.random.Generator, *, fresh: bool = False) -> NDArray[np.float64]:
    """Draw the logits (members, rows, classes) of one study; class 0 is the label.

    ``fresh``: each example meets members of its own, which leaves the expected accuracy as it is.
    """
    shared = random.normal(size=(rows, CLASSES)) * world.difficulty
    skill = random.normal(size=(world.members, rows if fresh else 1)) * world.skill
    logits = shared + random.normal(size=(world.members, rows, CLASSES)) * world.noise
    logits[:, :, 0] += world.signal + skill
    return logits


def true_accuracies(world: World, random: np.random.Generator, *, draws: int = DRAWS) -> NDArray[np.float64]:
    """Return the accuracy of committees of 1..K members on all possible examples."""
    right = np.zeros(world.members)
    for _ in range(draws // BLOCK):
        logits = logits_of(world, BLOCK, random, fresh=True)
        probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
        votes = np.cumsum(probabilities, axis=0)
        right += (votes.argmax(axis=-1) == 0).sum(axis=1)
    return right / (draws // BLOCK * BLOCK)


@dataclass(frozen=True)
class Coverage:
    """How often the intervals held the truth, and how wide they were, by committee size."""

    world: str
    size: int
    accuracy: float
    coverage: float
    width: float


def verdict(row: Coverage, *, simulations: int) -> str:
    """Say whether a coverage is within the target; or outside, and then why."""
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
    truth = true_accuracies(world, random, draws=draws)
    labels = np.zeros(world.rows, dtype=np.int64)
    bounds = np.empty((simulations, world.members, 2))
    for simulation in range(simulations):
        logits = logits_of(world, world.rows, random)
        rows = frontier(logits[:, :1], logits, labels[:1], labels)
        bounds[simulation] = [(row["test_low"], row["test_high"]) for row in rows]
    low, high = bounds[..., 0], bounds[..., 1]
    held = ((low <= truth) & (truth <= high)).mean(axis=0)
    width = (high - low).mean(axis=0)
    return [
        Coverage(world.name, size + 1, float(truth[size]), float(held[size]), float(width[size]))
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
    """Simulate comparisons on ``texts`` texts; the shares are of those on which only one of the two is right."""
    random = np.random.default_rng(seed)
    held = matched = 0
    for _ in range(simulations):
        kind = random.choice(3, size=texts, p=(only_committee, only_reference, 1 - only_committee - only_reference))
        _, low, high = paired_interval(kind != 1, kind != 0)
        held += low <= only_committee - only_reference <= high
        matched += low >= -MARGIN
    return Paired(texts, only_committee, only_reference, held / simulations, matched / simulations)


def main() -> int:
    """Print the coverage of each world and committee size, and how many are within the target; then of differences."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    started = time.perf_counter()
    results = [row for world in WORLDS for row in coverage(world, simulations=arguments.simulations)]
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
        }
        print(json.dumps(document, indent=2))
    else:
        for row, said in zip(results, verdicts, strict=True):
            print(
                f"{row.world:16s} size {row.size:2d}  accuracy {row.accuracy:6.1%}  "
                f"coverage {row.coverage:6.1%}  width {100 * row.width:4.1f} points"
                f"{'  ' + said if said else ''}"
            )
        for row in pairs:
            print(
                f"{row.texts:4d} texts, only the committee right on {row.only_committee:.1%}, only the reference on "
                f"{row.only_reference:.1%}: coverage {row.coverage:6.1%}, said to match {row.matched:6.1%}"
            )
        counts = ", ".join(f"{count} {said or 'within 92% to 98%'}" for said, count in Counter(verdicts).most_common())
        print(f"{len(results)} cells: {counts}; {seconds:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
