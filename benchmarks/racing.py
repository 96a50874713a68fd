"""Ours and its peers in turns, on the same work: options, work, race and result of the training benchmarks.

A turn is one training of a few updates by each. Turns alternate, and the median over turns counts. The first update of
a turn is not timed; on a GPU, some warm-up updates before it are not timed either. If other work runs on the machine,
`--threads 1 --clock cpu` counts processor time instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from contenders import Work, tokenised
from transformers.utils import logging

from tlm_search.model.architecture import Architecture
from tlm_search.model.latency import machine
from tlm_search.training.clock import GPU_WARMUP

OURS = "ours, members: "


def race(contenders: Mapping[str, Callable[[], float]], *, turns: int) -> dict[str, list[float]]:
    """Return the seconds of each contender in each of ``turns`` turns."""
    logging.set_verbosity_error()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, run in contenders.items():
            seconds[name].append(run())
    return seconds


def document(work: Work, seconds: Mapping[str, Sequence[float]], **facts: object) -> dict[str, object]:
    """Return the result as JSON; ratios are medians over the turns of the ratio in the same turn.

    Ours is listed under ``ours`` for the first number of members, and under ``stacked`` for each number.
    """
    stacked: dict[int, dict[str, Any]] = {}
    peers = [name for name in seconds if not name.startswith(OURS)]
    for members in (int(name.removeprefix(OURS)) for name in seconds if name.startswith(OURS)):
        own = seconds[f"{OURS}{members}"]
        ratios = {
            peer: members * statistics.median(p / o for p, o in zip(seconds[peer], own, strict=True)) for peer in peers
        }
        speed = members * work.timed_tokens / statistics.median(own)
        stacked[members] = {
            "tokens_per_second": round(speed, 1),
            "ratio": {peer: round(ratio, 2) for peer, ratio in ratios.items()},
        }
    first, turns = next(iter(stacked.values())), len(next(iter(seconds.values())))
    speeds = {peer: round(work.timed_tokens / statistics.median(seconds[peer]), 1) for peer in peers}
    return {
        "tokens_per_second": {"ours": first["tokens_per_second"], **speeds},
        "ratio": first["ratio"],
        "stacked": stacked,
        "updates": work.updates * turns,
        "tokens": round(work.timed_tokens * turns),
        "device": work.device,
        "machine": machine(work.device),
        "threads": torch.get_num_threads(),
        "turns": {name: [round(value, 3) for value in taken] for name, taken in seconds.items()},
        **facts,
    }


def add_options(parser: argparse.ArgumentParser, *, updates: int) -> None:
    """Add the options of both benchmarks."""
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--vocabulary", type=int, default=30_522)
    parser.add_argument("--length", type=int, default=128, help="tokens a text is cut to")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--updates", type=int, default=updates, help="timed updates in a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--members", type=int, nargs="+", default=[1], help="of ours, stacked; the peers train one")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: processor time of all threads")
    parser.add_argument("--data", default="pydocs", help="what to train on, as a space names it")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def work_of(arguments: argparse.Namespace, texts: Sequence[str], labels: Sequence[int], folder: Path) -> Work:
    """Prepare the work: a vocabulary trained on the ``texts``, and as many texts as a turn needs."""
    tokenizer, ids = tokenised(texts, vocabulary=arguments.vocabulary, length=arguments.length, folder=folder)
    head_size = min(64, arguments.width)
    shape = Architecture(
        depth=arguments.depth,
        heads=arguments.width // head_size,
        head_size=head_size,
        feed_forward=4 * arguments.width,
        vocabulary=arguments.vocabulary,
        positions=arguments.length,
    )
    count = arguments.batch_size * all_updates(arguments)
    now = time.process_time if arguments.clock == "cpu" else time.perf_counter
    size, updates, dropout = arguments.batch_size, arguments.updates, arguments.dropout
    where = (arguments.device, now)
    return Work(shape, ids[:count], labels[:count], size, updates, dropout, tokenizer, folder, *where)


def all_updates(arguments: argparse.Namespace) -> int:
    """Return the number of updates in a turn, including those that are not timed."""
    return int(arguments.updates) + 1 + (GPU_WARMUP if arguments.device == "cuda" else 0)


def show(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the result."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    for peer, speed in list(result["tokens_per_second"].items())[1:]:  # without ours
        print(f"{peer:20s} {speed:10.0f} tokens/s")
    for members, ours in result["stacked"].items():
        ratios = ", ".join(f"{ratio:.2f} times {peer}" for peer, ratio in ours["ratio"].items())
        print(f"{OURS + str(members):20s} {ours['tokens_per_second']:10.0f} tokens/s: {ratios}")
