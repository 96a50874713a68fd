"""How do the time and the memory of a training update grow, and how well does `validate --time` predict a run?

Growth: one pre-training update of the engine on made-up texts of full length. One of tokens (batch size), members
(stacked), width, depth and vocabulary changes at a time. The result is the least-squares slope of log seconds over log
size, and the slope between the two largest sizes. A slope of 1 is linear; below 1, calls rather than arithmetic take
the time.

Memory: the peak RSS of an update above the memory of the process before it, against parameters, gradients, both moments
of AdamW and the tensors saved for the backward pass. The rest are gradients of activations and other short-lived
tensors.

Prediction: `tlm-search validate --time`, then `tlm-search run`, of small spaces on pydocs. `seconds` are those of the
trials, one after another; `wall` is the time of the whole command, with Ray's start and the evaluation.

    python benchmarks/growth.py [--parts growth memory prediction] [--threads 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from tlm_search.model.architecture import Architecture
from tlm_search.model.latency import machine
from tlm_search.model.weights import initial_weights
from tlm_search.study.location import find_study, read_study
from tlm_search.training.clock import UpdateClock
from tlm_search.training.memory import keep_freed_memory
from tlm_search.training.speed import Load, time_updates

PARTS = ("growth", "memory", "prediction")
BASE = {"batch_size": 32, "members": 1, "width": 128, "depth": 1, "vocabulary": 4096, "length": 32}
SIZES = {
    "tokens": ("batch_size", (8, 16, 32, 64, 128)),
    "members": ("members", (1, 2, 4, 8)),
    "width": ("width", (64, 128, 256, 512)),
    "depth": ("depth", (1, 2, 4, 8)),
    "vocabulary": ("vocabulary", (1024, 4096, 16_384, 32_768)),
}
UPDATES, TURNS = 3, 3
MASKED = 0.15
MEMORY = ({}, {"width": 256, "vocabulary": 30_522}, {"width": 256, "depth": 6, "length": 128})
PROGRAM = "from tlm_search.cli.main import main; main()"
_SHARED: dict[str, Any] = {
    "corpus": {"source": "pydocs", "documents": 4000},
    "tokenizer": {"vocabulary": 4096, "length": 32},
    "task": {
        "source": "pydocs",
        "labels": 5,
        "train_per_label": 30,
        "validation_per_label": 200,
        "test_per_label": 400,
    },
    "sampler": "random",
    "pruner": "none",
}
_FIXED = {"head_size": 32, "pretrain_batch_size": 32, "masking_probability": 0.4, "pooling": "mean"}
_SEARCHED: dict[str, Any] = {
    "search": {
        **_FIXED,
        "depth": {"choices": [1, 2]},
        "width": 64,
        "pretrain_size": 4000,
        "pretrain_epochs": 1,
        "committee_size": 2,
    },
    "reference": {"depth": 4, "committee_size": 1},
    "points": [{"depth": 1}, {"depth": 2}],
    "budget": {"trials": 2},
    "resources": {"concurrent_trials": 1},
}
SPACES: dict[str, dict[str, Any]] = {
    "pre-trained": {
        "search": {**_FIXED, "depth": 1, "width": 64, "pretrain_size": 4000, "pretrain_epochs": 2, "committee_size": 2},
        "budget": {"trials": 1},
        "resources": {"concurrent_trials": 1},  # otherwise the idle core would train one of its members
    },
    "fresh": {
        "search": {
            **_FIXED,
            "depth": 2,
            "width": 128,
            "finetune_epochs": 12,
            "finetune_batch_size": 8,
            "finetune_learning_rate": {"low": 1e-4, "high": 1e-3, "log": True},
            "committee_size": 2,
        },
        "budget": {"trials": 2},
        "resources": {"concurrent_trials": 1},
    },
    "searched": _SEARCHED,
    # The same space with another seed, so that the store has nothing of it; each trial slows the other.
    "two at once": {**_SEARCHED, "seed": 1, "resources": {}},
}


def shape(sizes: Mapping[str, int]) -> Architecture:
    """Return a BERT with heads of 64, or one head."""
    head = min(64, sizes["width"])
    width, depth = sizes["width"], sizes["depth"]
    return Architecture(depth, width // head, head, 4 * width, sizes["vocabulary"], sizes["length"])


def load(sizes: Mapping[str, int]) -> Load:
    """Return a pre-training update."""
    return Load("pretraining", sizes["batch_size"], MASKED)


def update_seconds(sizes: Mapping[str, int]) -> float:
    """Return the fewest seconds of a few updates."""
    clock = UpdateClock()
    time_updates(
        shape(sizes),
        load(sizes),
        updates=UPDATES + 1,
        members=sizes["members"],
        clock=clock,
    )
    return float(np.diff(clock.ends).min())


def growth() -> dict[str, Any]:
    """Return milliseconds and slopes by the growing quantity; the sizes take turns."""
    points = [(name, key, size) for name, (key, sizes) in SIZES.items() for size in sizes]
    taken: dict[tuple[str, int], list[float]] = {}
    for _ in range(TURNS):
        for name, key, size in points:
            taken.setdefault((name, size), []).append(update_seconds({**BASE, key: size}))
    result = {}
    for name, (key, sizes) in SIZES.items():
        seconds = [statistics.median(taken[name, size]) for size in sizes]
        grown = [size * BASE["length"] if key == "batch_size" else size for size in sizes]
        result[name] = {
            "sizes": grown,
            "ms": [round(1000 * value, 2) for value in seconds],
            "slope": round(slope(grown, seconds), 2),
            "slope_at_the_end": round(slope(grown[-2:], seconds[-2:]), 2),
        }
    return result


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the least-squares slope of log seconds over log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def memory_of(changed: Mapping[str, int], threads: int) -> dict[str, Any]:
    """Measure one shape. Call it in a new process, whose peak memory has not been higher before."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    small = {**BASE, "width": 64, "vocabulary": 512, "batch_size": 2}
    update_seconds(small)  # loads what a first update loads
    sizes = {**BASE, **changed}
    parameters = sum(value.numel() for value in initial_weights(shape(sizes), (0,)).values())
    before = _status("VmRSS")
    clock = UpdateClock()
    time_updates(shape(sizes), load(sizes), updates=3, clock=clock)
    peak = _status("VmHWM") - before
    counted = {"parameters": 4 * parameters, "gradients": 4 * parameters, "optimiser": 8 * parameters}
    counted["activations"] = kept_bytes(sizes)
    total = sum(counted.values())
    return {
        "shape": {key: sizes[key] for key in ("depth", "width", "vocabulary", "length", "batch_size")},
        "counted_mb": {name: round(value / 2**20, 1) for name, value in counted.items()},
        "sum_mb": round(total / 2**20, 1),
        "peak_mb": round(peak / 2**20, 1),
        "ratio": round(peak / total, 2),
    }


def kept_bytes(sizes: Mapping[str, int]) -> int:
    """Return the bytes that one update saves for its backward pass, without weights, each storage once."""
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        if not value.is_leaf:
            storage = value.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        time_updates(shape(sizes), load(sizes), updates=1, clock=UpdateClock())
    return sum(kept.values())


def memory(threads: int) -> list[dict[str, Any]]:
    """Return a row for each shape."""
    rows = []
    for changed in MEMORY:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(memory_of, (changed, threads)))
    return rows


def prediction() -> list[dict[str, Any]]:
    """Return a row for each of the small spaces: predicted and actual seconds."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="tlm-search-benchmark-") as scratch:
        folder = Path(scratch)
        for name, sections in SPACES.items():
            study = name.replace(" ", "-")
            file = folder / f"{study}.yaml"
            file.write_text(yaml.safe_dump({**_SHARED, **sections, "name": study}))
            place = ["--studies-dir", str(folder / "studies")]
            begin = time.perf_counter()
            said = json.loads(_tlm_search("validate", str(file), "--time", "--json", *place))
            middle = time.perf_counter()
            _tlm_search("run", str(file), *place)
            wall = time.perf_counter() - middle
            record = read_study(find_study(study, str(folder / "studies")))
            trials = [*record.trials, *([record.reference] if record.reference else [])]
            assert all(trial.seconds and not trial.error for trial in trials)
            rows.append(
                row_of(
                    name,
                    predicted=said["cost"]["expected"]["seconds"],
                    seconds=math.fsum(trial.seconds or 0 for trial in trials),
                    predicted_wall=said["time"]["wall_seconds"]["expected"],
                    wall=wall,
                    validate=middle - begin,
                )
            )
    return rows


def row_of(name: str, **seconds: float) -> dict[str, Any]:
    """Return predicted and actual seconds as a row; ``off`` is the prediction's error as a share of the actual time."""
    off = {
        "off": seconds["predicted"] / seconds["seconds"] - 1,
        "wall_off": seconds["predicted_wall"] / seconds["wall"] - 1,
    }
    return {"space": name, **{key: round(value, 2) for key, value in {**seconds, **off}.items()}}


def _tlm_search(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"tlm-search {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def show(result: Mapping[str, Any]) -> None:
    """Print the parts that were measured."""
    for name, row in result.get("growth", {}).items():
        pairs = ", ".join(f"{size:,}: {ms:.1f} ms" for size, ms in zip(row["sizes"], row["ms"], strict=True))
        print(f"{name:11s} slope {row['slope']:.2f}, at the end {row['slope_at_the_end']:.2f}   {pairs}")
    for row in result.get("memory", []):
        said = ", ".join(f"{name} {value:.0f}" for name, value in row["counted_mb"].items())
        words = ", ".join(f"{name} {value}" for name, value in row["shape"].items())
        print(f"{words}: peak {row['peak_mb']:.0f} MiB, {row['ratio']:.2f} times {row['sum_mb']:.0f} ({said})")
    for row in result.get("prediction", []):
        print(
            f"{row['space']:12s} predicted {row['predicted']:6.1f} s, took {row['seconds']:6.1f} ({row['off']:+.0%}); "
            f"wall predicted {row['predicted_wall']:6.1f} s, took {row['wall']:6.1f} ({row['wall_off']:+.0%}); "
            f"validate --time took {row['validate']:.1f} s"
        )


def main() -> int:
    """Print slopes, memory and predictions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1, help="of growth and memory; a trial has one by default")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    parts = {"growth": growth, "memory": lambda: memory(given.threads), "prediction": prediction}
    result = {name: parts[name]() for name in given.parts}
    if given.json:
        print(json.dumps({"machine": machine(), **result}, indent=1))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
