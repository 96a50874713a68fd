"""Time a few updates on this processor, to choose the precision and to predict times."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch

from tlm_search.data.markers import Markers
from tlm_search.data.tokens import TokenArray
from tlm_search.model.architecture import Architecture
from tlm_search.model.footprint import Phase
from tlm_search.training.clock import MEDIAN_WARMUP, GpuClock, UpdateClock
from tlm_search.training.finetune import finetune
from tlm_search.training.pretrain import pretrain
from tlm_search.training.settings import Execution, Finetuning, Precision, Pretraining

Objective = Literal["pretraining", "finetuning"]

WORTHWHILE = 0.9  # bf16 must take less than this share of the time of fp32
HOPELESS = 3.0  # if a small product in bf16 takes longer than this x fp32, skip the updates
LEAST_FLOPS = 6e7  # of an update's forward pass; below it calls cost more than arithmetic
MOST_TOKENS, MOST_FLOPS = 2048, 5e10  # of a timed update; larger ones choose the same
_TIMED, _TURNS = 3, 2
GPU_TIMED = 15  # timed updates on a GPU after the uncounted updates
GPU_MEMBERS = 8  # stacked on a GPU, because a single member waits for the host in both precisions
_SIDE = 192  # of the matrices of the small product
_LABELS = 4
_SPECIAL = {"pad": 0, "cls": 1, "sep": 2, "mask": 3}
_MARKERS = Markers(4, 5, 6, 7)
_ALL: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Load:
    """The work of an update: ``texts`` of full length.

    ``masked`` is the share of tokens that pre-training predicts with its ``softmax``. ``pooling`` is for fine-tuning.
    """

    objective: Objective
    texts: int
    masked: float = 0.0
    pooling: str = "cls"
    softmax: str = "full"

    @classmethod
    def of(cls, architecture: Architecture, settings: Pretraining | Finetuning) -> Load:
        """Return the rounded load of ``settings``, so that nearly equal settings are measured once."""
        if isinstance(settings, Pretraining):
            masked = max(1, round(20 * settings.masking_probability)) / 20
            one = cls("pretraining", 1, masked=masked, softmax=settings.softmax)
        else:
            one = cls("finetuning", 1, pooling=settings.pooling)
        most = min(MOST_TOKENS // architecture.positions, int(MOST_FLOPS / one.flops(architecture)))
        texts = max(1, min(settings.batch_size, most))
        return replace(one, texts=1 << (texts.bit_length() - 1))

    def flops(self, architecture: Architecture) -> float:
        """Return the floating-point operations of an update's forward pass."""
        return Phase(self.texts, self.masked, self.softmax == "sampled").forward_flops(architecture)


def faster_precision(architecture: Architecture, load: Load, device: str = "cpu", *, members: int = 1) -> Precision:
    """Time a few updates in each precision, and return the precision that trains ``architecture`` faster on ``device``.

    The result is fp32 unless bf16 is clearly faster. On a CPU ``members`` members are stacked, because a single narrow
    member spends its time on calls in both precisions.
    """
    if not can_gain(architecture, load, device, members=members):
        return "float32"
    seconds, threads = dict.fromkeys(_ALL, math.inf), torch.get_num_threads()
    if device != "cpu":
        return _clearly_faster(_seconds_on_gpu(architecture, load, device, members=GPU_MEMBERS))
    # Measure the CPU time of a single thread, so that other work on the machine does not affect the result.
    torch.set_num_threads(1)
    try:
        # A processor without bf16 instructions is a hundred times slower, and the updates would take minutes.
        if seconds_per_product("bfloat16") > HOPELESS * seconds_per_product("float32"):
            return "float32"
        for precision in _ALL * _TURNS:
            clock = UpdateClock(time.thread_time)
            taken = seconds_per_update(architecture, load, members=members, precision=precision, clock=clock)
            seconds[precision] = min(taken, seconds[precision])
    finally:
        torch.set_num_threads(threads)
    return _clearly_faster(seconds)


def _seconds_on_gpu(architecture: Architecture, load: Load, device: str, *, members: int) -> Mapping[Precision, float]:
    """Return the seconds of an update in each precision, for at most ``members`` members as memory allows."""
    seconds = dict.fromkeys(_ALL, math.inf)
    try:
        for precision in _ALL * _TURNS:
            clock = GpuClock(warmup=MEDIAN_WARMUP)
            time_updates(
                architecture,
                load,
                updates=MEDIAN_WARMUP + GPU_TIMED + 1,
                clock=clock,
                members=members,
                precision=precision,
                device=device,
            )
            seconds[precision] = min(clock.seconds_per_update(), seconds[precision])
    except torch.OutOfMemoryError:
        if members == 1:
            raise
    else:
        return seconds
    return _seconds_on_gpu(architecture, load, device, members=members // 2)


def _clearly_faster(seconds: Mapping[Precision, float]) -> Precision:
    return "bfloat16" if seconds["bfloat16"] < WORTHWHILE * seconds["float32"] else "float32"


def can_gain(architecture: Architecture, load: Load, device: str = "cpu", *, members: int = 1) -> bool:
    """Return whether bf16 may help: not for small updates, and not on a GPU before Ampere, which lacks bf16."""
    enough = members * load.flops(architecture) >= LEAST_FLOPS
    return enough and (device == "cpu" or torch.cuda.get_device_capability() >= (8, 0))


def seconds_per_product(precision: Precision) -> float:
    """Return the minimum CPU seconds of a few products of two small matrices."""
    one = torch.ones(_SIDE, _SIDE, dtype=getattr(torch, precision))
    taken = []
    for _ in range(_TIMED):
        begin = time.thread_time()
        torch.mm(one, one)
        taken.append(time.thread_time() - begin)
    return min(taken)


def seconds_per_update(
    architecture: Architecture,
    load: Load,
    *,
    members: int = 1,
    precision: Precision = "float32",
    clock: UpdateClock | None = None,
) -> float:
    """Return the minimum seconds of a few updates on a CPU."""
    clock = clock or UpdateClock()
    time_updates(architecture, load, updates=_TIMED + 1, members=members, precision=precision, clock=clock)
    return float(np.diff(clock.ends).min())


def time_updates(
    architecture: Architecture,
    load: Load,
    *,
    updates: int,
    clock: UpdateClock,
    members: int = 1,
    precision: Precision = "float32",
    device: str = "cpu",
) -> None:
    """Train ``members`` stacked members on made-up texts of full length. ``clock`` records when each update ends."""
    length, count = architecture.positions, load.texts * updates
    ids = np.random.default_rng(0).integers(len(_SPECIAL), architecture.vocabulary, count * length)
    made_up = TokenArray(ids.astype(np.int32), np.arange(count + 1) * length)
    execution, seeds = Execution(device, precision), range(members)
    if load.objective == "pretraining":
        pretrain(
            architecture,
            Pretraining(1, load.texts, 1e-4, 0.0, 0.0, 0.0, load.masked, softmax=load.softmax),
            made_up,
            special=_SPECIAL,
            seeds=seeds,
            execution=execution,
            make_checkpointer=lambda *_: clock,
        )
    else:
        finetune(
            architecture,
            Finetuning(load.pooling, 1, load.texts, 1e-4, 0.0, 0.0, 0.0),
            made_up,
            np.arange(count) % _LABELS,
            classes=_LABELS,
            pad=_SPECIAL["pad"],
            markers=_MARKERS,
            seeds=seeds,
            pretrained=None,
            execution=execution,
            make_checkpointer=lambda *_: clock,
        )
