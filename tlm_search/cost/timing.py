"""Measure how long members take on this machine: a few updates of the real engine on the study's texts.

The measurements are stored, see ``store.measured``.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tlm_search.data.markers import Markers
from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.digest import digest, without_defaults
from tlm_search.members.distillation import texts_of
from tlm_search.members.precision import measured_precision
from tlm_search.members.spec import MemberSpec, PretrainSpec
from tlm_search.members.stacks import over_stacks, phases_of, stack_size
from tlm_search.model.architecture import Architecture
from tlm_search.model.latency import SECONDS as LATENCY_SECONDS
from tlm_search.model.latency import machine
from tlm_search.model.weights import Weights
from tlm_search.store.local import Store
from tlm_search.store.measured import is_measured, measured
from tlm_search.training.checkpoint import Checkpointer
from tlm_search.training.clock import MEDIAN_WARMUP, GpuClock, UpdateClock
from tlm_search.training.finetune import finetune, predict
from tlm_search.training.memory import keep_freed_memory
from tlm_search.training.pretrain import pretrain
from tlm_search.training.settings import Execution, Finetuning, Pretraining
from tlm_search.training.speed import Load, Objective

STEP_TIMES = "pace"
START = "start"  # the time that a training on a GPU takes in addition to its updates
MEASURING_SECONDS = 60.0  # for a prediction; then other trainings are estimated from the measurements
_LEAST_UPDATES, _MOST_UPDATES = 4, 64  # timed updates: fewer are unreliable, more take too long
_ANSWERS = 256  # texts for timing answers
_SECONDS = 0.5  # of timed updates

Measure = Callable[[], Mapping[str, float]]
Settings = TypeVar("Settings", Pretraining, Finetuning)
Labels = NDArray[np.int64] | NDArray[np.float32]


class StepTimes:
    """Seconds of pre-training, fine-tuning and answering on ``device`` with ``threads`` threads.

    Each kind of training is measured once on a kind of machine and stored in ``store``. After a minute of measuring,
    further kinds are estimated from the measurements by their floating-point operations. To repeat measurements that
    were made on a busy machine, remove the store's folder ``pace``. ``chunk_sizes`` maps the number of members of a
    trial to the numbers of members that are trained together.
    """

    def __init__(
        self,
        data: PreparedData,
        store: Store,
        *,
        threads: int,
        device: str,
        share: float = 1.0,
        chunk_sizes: Callable[[int], Sequence[int]] = lambda members: [members],
    ) -> None:
        self.data, self.store, self.device, self._chunk_sizes = data, store, device, chunk_sizes
        self._stack_size = partial(stack_size, device=device, threads=threads, share=share)
        torch.set_num_threads(threads)
        keep_freed_memory()
        self.machine = machine(device)
        self._deadline = time.monotonic() + MEASURING_SECONDS
        self._known: dict[str, Mapping[str, float]] = {}
        self._points: dict[tuple[Objective, int], dict[str, dict[float, float]]] = {}
        self._executions: dict[tuple[Architecture, Load], Execution] = {}

    def _data_of(self, spec: PretrainSpec | MemberSpec) -> PreparedData:
        """Return the data with the same vocabulary size and length as a member."""
        shape = (spec.architecture.vocabulary, spec.architecture.positions)
        return next((data for data in self.data.all() if (data.vocabulary, data.length) == shape), self.data)

    def pretraining(self, spec: PretrainSpec, members: int) -> float:
        """Return the seconds of ``members`` pre-trainings like ``spec``."""
        settings, data = spec.settings, self._data_of(spec)
        texts = data.folder("corpus")
        if not settings.epochs:
            return 0.0
        batch = min(settings.batch_size, spec.documents)
        shape = {"masking_probability": settings.masking_probability, "dropout": settings.dropout, "batch_size": batch}
        later = {"optimiser": "adamw", "softmax": "full"}
        chosen = without_defaults({name: getattr(settings, name) for name in later}, later)
        key = {**shape, **chosen, "texts": data.corpus_fingerprint}
        update = phases_of(spec)[-1]._replace(texts=batch).forward_flops(spec.architecture)
        flops = {START: update, "update": update}
        updates = math.ceil(spec.documents / settings.batch_size) * settings.epochs

        def seconds(stack: int) -> float:
            def measure() -> Mapping[str, float]:
                corpus = TokenArray.open(texts).prefix(spec.documents)
                return self._updates(lambda n, clock: self._pretrain(spec, corpus, n, clock, stack))

            known = self._known_seconds("pretraining", spec, {**key, "stack": stack}, flops, measure)
            return known.get(START, 0.0) + updates * known["update"]

        return self._over_stacks(spec, members, seconds)

    def finetuning(self, spec: MemberSpec, members: int) -> float:
        """Return the seconds of ``members`` fine-tunings like ``spec``, with answers on validation and test.

        The time of students includes the answers of their teachers.
        """
        settings, data = spec.settings, self._data_of(spec)
        rows = data.rows
        taught = 0 if spec.teaching is None else data.unlabelled_texts.get("used", 0)
        learned = rows["train"] + taught
        batch = min(settings.batch_size, learned)
        shape = {"pooling": settings.pooling, "dropout": settings.dropout, "batch_size": batch, "labels": spec.labels}
        key = {**shape, "texts": data.task_fingerprint}
        if taught:
            key["unlabelled"] = data.unlabelled_fingerprint
        text = spec.architecture.forward_flops(data.length)
        flops = {START: batch * text, "update": batch * text, "text": text}
        updates = math.ceil(learned / settings.batch_size) * settings.epochs
        asked = 0 if spec.teaching is None else len(spec.teaching.teachers) * learned

        def known(stack: int) -> Mapping[str, float]:
            def measure() -> Mapping[str, float]:
                texts, labels = self._learned(spec)
                timed = self._updates(lambda n, clock: self._begin_finetuning(spec, texts, labels, n, clock, stack))
                return {**timed, "text": self._seconds_per_answer(spec, texts, labels, stack)}

            return self._known_seconds("finetuning", spec, {**key, "stack": stack}, flops, measure)

        def seconds(stack: int) -> float:
            part = known(stack)
            answers = (rows["validation"] + rows["test"]) * part["text"]
            return part.get(START, 0.0) + updates * part["update"] + answers

        trained = self._over_stacks(spec, members, seconds)
        return trained + (asked * known(1)["text"] if asked else 0.0)

    def _learned(self, spec: MemberSpec) -> tuple[TokenArray, Labels]:
        """Return the texts that a member like ``spec`` learns, with labels of the same kind as its own."""
        data = self._data_of(spec)
        if spec.teaching is None:
            return TokenArray.open(data.folder("train")), data.true_labels("train")
        texts = texts_of(spec.teaching, data)
        return texts, np.full((len(texts), spec.labels), 1 / spec.labels, np.float32)

    def latencies(self, size: int) -> float:
        """Return the seconds of measuring the latencies of committees of 1 to ``size`` members."""
        return size * LATENCY_SECONDS

    def _stack(self, spec: PretrainSpec | MemberSpec) -> int:
        return self._stack_size(spec.architecture, phases_of(spec))

    def _over_stacks(self, spec: PretrainSpec | MemberSpec, members: int, seconds: Callable[[int], float]) -> float:
        most = self._stack(spec)
        return sum(over_stacks(chunk, most, seconds) for chunk in self._chunk_sizes(members))

    def _known_seconds(
        self,
        objective: Objective,
        spec: PretrainSpec | MemberSpec,
        key: Mapping[str, Any],
        flops: Mapping[str, float],
        measure: Measure,
    ) -> Mapping[str, float]:
        """Return the measurement for ``key``, or an estimate by ``flops`` if the time for measuring is used up.

        The result has the seconds of an update, of the answer to a text, and of the start, if they apply.
        """
        key = {"architecture": spec.architecture.to_document(), **key, "objective": objective, "machine": self.machine}
        name = digest(key)
        points = self._points.setdefault((objective, key["stack"]), {})
        if name not in self._known:
            late = points and time.monotonic() > self._deadline
            if late and not is_measured(STEP_TIMES, key, store=self.store):
                return {part: interpolated(known, flops[part]) for part, known in points.items()}
            self._execution(spec)  # before `measured`, because it may need a measurement too
            document = measured(
                STEP_TIMES, key, lambda: {"seconds": dict(measure())}, machine=self.machine, store=self.store
            )
            self._known[name] = document["seconds"]
        for part, taken in self._known[name].items():
            points.setdefault(part, {})[flops[part]] = taken
        return self._known[name]

    def _updates(self, train: Callable[[int, UpdateClock], None]) -> dict[str, float]:
        """Let ``train`` make some updates as warm-up, then enough updates to time; on a GPU also time the start."""
        updates = _LEAST_UPDATES
        for _ in range(2):
            clock = UpdateClock() if self.device == "cpu" else GpuClock(warmup=MEDIAN_WARMUP)
            train(clock.warmup + 1 + updates, clock)
            each = clock.seconds_per_update()
            enough = min(_MOST_UPDATES, math.ceil(_SECONDS / each))
            if enough <= updates:
                break
            updates = enough
        return {"update": each} if self.device == "cpu" else {"update": each, START: clock.start_seconds()}

    def _pretrain(self, spec: PretrainSpec, corpus: TokenArray, updates: int, clock: UpdateClock, members: int) -> None:
        texts = sample(corpus, updates * min(spec.settings.batch_size, spec.documents))[0]
        pretrain(
            spec.architecture,
            once(spec.settings, spec.documents),
            texts,
            special=self._data_of(spec).special,
            seeds=range(members),
            execution=self._execution(spec),
            make_checkpointer=lambda *_: clock,
        )

    def _begin_finetuning(
        self,
        spec: MemberSpec,
        texts: TokenArray,
        labels: Labels,
        updates: int,
        clock: UpdateClock,
        members: int,
    ) -> None:
        # Use all texts, even for few updates, because the cost of an update depends on the number of different words.
        epochs = math.ceil(updates * spec.settings.batch_size / len(texts))
        with suppress(_EnoughError):
            self._finetune(
                spec, replace(spec.settings, epochs=epochs), texts, labels, _Limited(clock, updates), members
            )

    def _finetune(
        self,
        spec: MemberSpec,
        settings: Finetuning,
        texts: TokenArray,
        labels: Labels,
        clock: Checkpointer | None,
        members: int,
    ) -> Weights:
        weights, _ = finetune(
            spec.architecture,
            settings,
            texts,
            labels,
            classes=spec.labels,
            pad=self._data_of(spec).special["pad"],
            markers=Markers.of(self._data_of(spec).special),
            seeds=range(members),
            pretrained=None,
            execution=self._execution(spec),
            make_checkpointer=None if clock is None else lambda *_: clock,
        )
        return weights

    def _seconds_per_answer(self, spec: MemberSpec, texts: TokenArray, labels: Labels, members: int) -> float:
        few, rows = sample(texts, min(spec.settings.batch_size, len(texts)))
        weights = self._finetune(spec, once(spec.settings, len(few)), few, labels[rows], None, members)
        asked = sample(TokenArray.open(self._data_of(spec).folder("test")), _ANSWERS)[0]
        special, taken = self._data_of(spec).special, []
        pooling, markers = spec.settings.pooling, Markers.of(special)
        for _ in range(4):
            begin = self._now()
            predict(spec.architecture, weights, asked, pooling=pooling, pad=special["pad"], markers=markers)
            taken.append(self._now() - begin)
        return statistics.median(taken[1:]) / _ANSWERS

    def _execution(self, spec: PretrainSpec | MemberSpec) -> Execution:
        wanted = (spec.architecture, Load.of(spec.architecture, spec.settings))
        if wanted not in self._executions:
            stack = self._stack(spec)
            precision = measured_precision(
                spec.architecture, spec.settings, stack=stack, device=self.device, store=self.store
            )
            self._executions[wanted] = Execution(self.device, precision)
        return self._executions[wanted]

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


class _EnoughError(Exception):
    """The requested number of updates was timed."""


class _Limited:
    """A clock that ends the training after a number of updates."""

    def __init__(self, clock: UpdateClock, updates: int) -> None:
        self.clock, self.updates = clock, updates
        self.restore, self.save = clock.restore, clock.save

    def is_due(self) -> bool:
        self.clock.is_due()
        if len(self.clock.ends) >= self.updates:
            raise _EnoughError
        return False


def once(settings: Settings, texts: int) -> Settings:
    """Return ``settings`` for a single epoch with at least one full batch of ``texts``."""
    return replace(settings, epochs=1, batch_size=min(settings.batch_size, texts))


def sample(texts: TokenArray, count: int) -> tuple[TokenArray, NDArray[np.int64]]:
    """Return ``count`` evenly spaced ``texts`` and their numbers. Texts are repeated if they are too few."""
    numbers = np.arange(count) % len(texts) if count > len(texts) else np.arange(count) * len(texts) // count
    chosen = [np.asarray(texts[number]) for number in numbers.tolist()]
    offsets = np.cumsum([0, *map(len, chosen)], dtype=np.int64)
    firsts = None if texts.firsts is None else texts.firsts[numbers]
    return TokenArray(np.concatenate(chosen), offsets, firsts), numbers


def interpolated(points: Mapping[float, float], flops: float) -> float:
    """Return the seconds for ``flops``: log-linear between measured ``points``, proportional outside of them.

    If a point took no time, return the largest time.
    """
    known = sorted(points)
    if min(points.values()) <= 0:
        return max(points.values())
    nearest = min(max(flops, known[0]), known[-1])
    logs = np.interp(math.log(nearest), np.log(known), np.log([points[x] for x in known]))
    return float(np.exp(logs)) * flops / nearest
