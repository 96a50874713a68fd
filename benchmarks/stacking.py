"""Members per hour: K members trained stacked, as one model, against the same K one after another.

Both are the engine as `tlm-search run` uses it, on made-up texts of full length. A turn is one training of a few
updates by each. Turns alternate, and the median over turns counts. The first update of each training is not timed; on a
GPU, some warm-up updates before it are not timed either. A member takes 1,000 updates of pre-training or of
fine-tuning. `--processes` adds the same K members in K processes that share the GPU.

    python benchmarks/stacking.py [--width 128] [--members 1 2 4 8] [--device cpu] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any, get_args

import torch

from tlm_search.members.precision import TOGETHER
from tlm_search.model.architecture import Architecture
from tlm_search.model.latency import machine
from tlm_search.training.clock import GpuClock, clock_of
from tlm_search.training.memory import keep_freed_memory
from tlm_search.training.settings import Precision
from tlm_search.training.speed import Load, Objective, faster_precision, time_updates

UPDATES = 1000  # of one member
MASKED = 0.15


class Together(GpuClock):
    """Starts the clock when all processes are ready, so that they share the GPU during all timed updates."""

    def __init__(self, ready: Any) -> None:
        super().__init__()
        self.ready = ready

    def is_due(self) -> bool:
        """Note the time; never due."""
        if len(self.ends) == self.warmup:
            self.ready.wait()
        return super().is_due()


def one_of_many(architecture: Architecture, load: Load, precision: Precision, updates: int, ready: Any) -> float:
    """Train one member while others train theirs; return the seconds of an update."""
    clock = Together(ready)
    time_updates(
        architecture, load, updates=clock.warmup + 1 + updates, precision=precision, device="cuda", clock=clock
    )
    return clock.seconds / clock.updates


def processes(architecture: Architecture, load: Load, precision: Precision, updates: int, members: int) -> float:
    """Return the seconds in which ``members`` processes together do one update for each member."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(members, mp_context=context) as pool:
        ready = manager.Barrier(members)
        tasks = [pool.submit(one_of_many, architecture, load, precision, updates, ready) for _ in range(members)]
        return members / sum(1 / task.result() for task in tasks)


def measure(architecture: Architecture, objective: Objective, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each number of members."""
    load = Load(objective, given.batch_size, MASKED if objective == "pretraining" else 0.0)
    # Each form uses its own precision: a single narrow member waits for calls in either precision.
    alone_in = faster_precision(architecture, load, given.device)
    stacked_in = faster_precision(architecture, load, given.device, members=TOGETHER)

    def seconds(members: int, precision: Precision) -> float:
        clock = clock_of(given.device)
        time_updates(
            architecture,
            load,
            updates=clock.warmup + 1 + given.updates,
            members=members,
            precision=precision,
            device=given.device,
            clock=clock,
        )
        return clock.seconds / clock.updates

    rows = []
    for members in given.members:
        stacked, alone = [], []
        for _ in range(given.turns):
            stacked.append(seconds(members, stacked_in))
            alone.append(members * seconds(1, alone_in))
        taken = {"stacked": stacked, "one after another": alone}
        if given.processes:
            taken["processes"] = [processes(architecture, load, alone_in, given.updates, members)]
        per_hour = {name: members * 3600 / (UPDATES * statistics.median(turns)) for name, turns in taken.items()}
        ratio = statistics.median(a / s for s, a in zip(stacked, alone, strict=True))
        rows.append(
            {
                "objective": objective,
                "precision": {"stacked": stacked_in, "one after another": alone_in},
                "members": members,
                "members_per_hour": {name: round(value, 1) for name, value in per_hour.items()},
                "ratio": round(ratio, 3),
            }
        )
    return rows


def main() -> int:
    """Print members per hour, stacked and one after another, and the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--length", type=int, default=32, help="tokens of a text")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--updates", type=int, default=8, help="timed updates in a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--processes", action="store_true", help="time K processes, too; with --device cuda")
    parser.add_argument("--objectives", nargs="+", choices=get_args(Objective), default=get_args(Objective))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    size = min(64, given.width)
    architecture = Architecture(given.depth, given.width // size, size, 4 * given.width, given.vocabulary, given.length)
    if given.processes and given.device == "cpu":
        parser.error("--processes: only with --device cuda")
    rows = [row for objective in given.objectives for row in measure(architecture, objective, given)]
    if given.json:
        print(json.dumps({"machine": machine(given.device), "options": vars(given), "rows": rows}, indent=1))
        return 0
    print(f"members of {UPDATES:,} updates per hour")
    print("objective    members    stacked  one after another  ratio  processes")
    for row in rows:
        per_hour = row["members_per_hour"]
        print(
            f"{row['objective']:12s} {row['members']:7d} {per_hour['stacked']:10.0f} "
            f"{per_hour['one after another']:18.0f} {row['ratio']:6.2f} {per_hour.get('processes', math.nan):10.0f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
