"""Measure how long a committee takes to answer on this machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tlm_search.data.markers import Markers
from tlm_search.model.architecture import Architecture
from tlm_search.model.hf import bert_config
from tlm_search.model.inference import member_logits
from tlm_search.model.linear import LinearWeights, linear_logits
from tlm_search.model.weights import classifier_weights, initial_weights

SECONDS = 0.5  # for a measurement, unless its calls are long
_TURN = 5  # timed calls of a model in each turn
_LEAST_TURNS, _MOST_TURNS = 3, 20
_ID = 5  # any token that is not special
_MARKERS = Markers(1, 2, 3, 4)  # any other tokens

Answer = Callable[[], object]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a call: the median and the 95th percentile."""

    p50_ms: float
    p95_ms: float


def measure_latency_ms(
    architecture: Architecture,
    *,
    members: int,
    labels: int,
    pooling: str,
    device: str = "cpu",
    linear: LinearWeights | None = None,
) -> float:
    """Return the median milliseconds of a pass of ``members`` stacked classifiers over a text of full length.

    A ``linear`` model answers too if given. The number of threads is torch's setting in this process.
    """
    answer = committee_answer(
        architecture, members=members, labels=labels, pooling=pooling, device=device, linear=linear
    )
    return race({"": answer}, seconds=SECONDS)[""].p50_ms


@torch.inference_mode()
def race(answers: Mapping[str, Answer], *, seconds: float) -> dict[str, Latency]:
    """Time the ``answers`` in turns of a few calls, so that other work on the machine slows all of them equally.

    Each turn begins with an uncounted call. The race ends after about ``seconds``, with 15 to 100 calls of each answer.
    """
    times: dict[str, list[float]] = {name: [] for name in answers}
    for answer in answers.values():
        answer()
    begin = time.perf_counter()
    for turn in range(_MOST_TURNS):
        if turn >= _LEAST_TURNS and time.perf_counter() - begin > seconds:
            break
        for name, answer in answers.items():
            times[name] += [_timed_ms(answer) for _ in range(1 + _TURN)][1:]
    return {name: Latency(statistics.median(t), statistics.quantiles(t, n=20)[-1]) for name, t in times.items()}


def committee_answer(
    architecture: Architecture,
    *,
    members: int,
    labels: int,
    pooling: str,
    texts: int = 1,
    stacked: bool = True,
    device: str = "cpu",
    linear: LinearWeights | None = None,
) -> Callable[[], Tensor]:
    """Return a call that passes ``texts`` texts of full length through ``members`` classifiers and votes.

    A ``linear`` model votes too. The members are ``stacked`` as a single model, or called one by one, which is faster
    if each keeps the processor busy. The time does not depend on the weights, so each member is a copy of the same
    random weights.
    """
    ids = torch.full((texts, architecture.positions), _ID, device=device)
    if linear is not None:
        where: dict[str, Any] = {"texts": texts, "stacked": stacked, "device": device}
        others = committee_answer(architecture, members=members, labels=labels, pooling=pooling, **where)
        tensors = {name: value.to(device) for name, value in linear.items()}
        return lambda: (others() + linear_logits(tensors, ids, None).exp().cpu()) / 2
    if not stacked:
        single = committee_answer(architecture, members=1, labels=labels, pooling=pooling, texts=texts, device=device)
        return lambda: torch.stack([single() for _ in range(members)]).mean(0)
    fresh = initial_weights(architecture, (0,)) | classifier_weights(architecture, labels, (0,), pooling=pooling)
    weights = {name: torch.cat([value.to(device)] * members) for name, value in fresh.items()}
    options: dict[str, Any] = {"pooling": pooling, "pad": 0, "markers": _MARKERS}

    def answer() -> Tensor:
        # An answer includes the softmax of the vote and the copy to the CPU.
        return member_logits(weights, architecture, ids, None, **options).softmax(-1).mean(0).cpu()

    return answer


def transformers_answer(
    architecture: Architecture, *, labels: int, attention: Literal["eager", "sdpa"], texts: int = 1, device: str = "cpu"
) -> Callable[[], Tensor]:
    """Return the same call for a classifier in plain ``transformers``.

    Raises:
        ValueError: the architecture has a convolution, which ``transformers`` lacks.
    """
    if architecture.convolution_layers:
        raise ValueError("transformers has no BERT with a convolution")
    from transformers import BertConfig, BertForSequenceClassification

    names = tuple(map(str, range(labels)))
    options: dict[str, Any] = {**bert_config(architecture, labels=names), "attn_implementation": attention}
    model: Any = BertForSequenceClassification(BertConfig(**options))
    model.to(device).eval()
    ids = torch.full((texts, architecture.positions), _ID, device=device)

    def answer() -> Tensor:
        probabilities: Tensor = model(input_ids=ids).logits.softmax(-1).cpu()
        return probabilities

    return answer


def _timed_ms(answer: Answer) -> float:
    begin = time.perf_counter()
    answer()
    return 1000 * (time.perf_counter() - begin)


def machine(device: str = "cpu") -> dict[str, object]:
    """Return the hardware and software of a measurement: processor or GPU, threads, torch."""
    name = torch.cuda.get_device_name() if device != "cpu" else _processor()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use ``threads`` threads inside the block, then restore the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
