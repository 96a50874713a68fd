"""Members without training: logits from a formula, to try a space, a sampler or a cluster in seconds.

The accuracy rises with width, depth and pre-training, and has a single best learning rate. Members make some errors in
common and some alone, so committees gain like real committees. Equal specs give equal logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.data.prepared import SIMULATED_ROWS, PreparedData
from tlm_search.members.spec import MemberSpec
from tlm_search.members.trainer import FINETUNING, Step, Tell, TrainedMember, silent
from tlm_search.store.local import Arrays, Store

_LINEAR_SIGNAL, _LINEAR_TERMS = 1.2, 5_000
_BASELINE_SIGNAL, _BASELINE_SEED = 0.6, 1


class SimulatedTrainer:
    """A ``Trainer`` that draws logits instead of training."""

    tell: Tell = staticmethod(silent)
    identity = ""

    def stack(self, spec: MemberSpec) -> int:
        """Return 1: members are drawn one by one."""
        return 1

    def peak_gb(self) -> float:
        """Return 0: the memory is unknown, because nothing is trained."""
        return 0.0

    def train(self, specs: Sequence[MemberSpec], *, store: Store, data: PreparedData) -> tuple[TrainedMember, ...]:
        """Draw the members' logits."""
        return tuple(self._draw(spec, data) for spec in specs)

    def fit_linear(self, spec: MemberSpec, *, store: Store, data: PreparedData) -> tuple[Mapping[str, Any], Arrays]:
        """Draw logits whose errors are on other texts than the errors of the members."""
        assert spec.linear is not None
        generator = np.random.default_rng(int(spec.linear.digest, 16))
        logits = {}
        for split in ("validation", "test"):
            right = np.eye(len(data.labels))[data.true_labels(split)]
            logits[split] = (generator.normal(size=right.shape) + _LINEAR_SIGNAL * right).astype(np.float32)
        parameters = (_LINEAR_TERMS + 1) * len(data.labels) + _LINEAR_TERMS
        costs = {"seconds": 0.1, "flops": 1e9, "parameters": parameters}
        return {"spec": spec.linear.to_document(), "labels": list(data.labels), **costs}, {"logits": logits}

    def latency_ms(self, spec: MemberSpec, *, members: int, store: Store) -> float:
        """Return a made-up latency that grows with depth, width and members."""
        architecture = spec.architecture
        linear = 0.0 if spec.linear is None else 0.1
        return 0.1 + linear + members * architecture.forward_flops(architecture.positions) / 1e10

    def _draw(self, spec: MemberSpec, data: PreparedData) -> TrainedMember:
        logits = _logits(data, signal=_signal(spec), seed=int(spec.digest, 16))
        unlabelled = spec.teaching is not None and spec.teaching.unlabelled
        rows = SIMULATED_ROWS + (data.unlabelled_texts.get("used", 0) if unlabelled else 0)
        flops = (
            3
            * spec.architecture.forward_flops(data.length)
            * (rows + (spec.pretrained.documents if spec.pretrained else 0))
        )
        costs = {"seconds": flops / 1e12, "tokens": rows * data.length, "flops": flops, "losses": [[1, 1.0]]}
        document = {"spec": spec.to_document(), "labels": list(data.labels), "finetuning": costs, "pretraining": None}
        self.tell(Step(FINETUNING, (spec.seed,), 1, 1, rows * data.length))
        return TrainedMember(spec, document, {"logits": logits}, tokens=rows * data.length)


def simulated_baseline(data: PreparedData) -> dict[str, NDArray[np.float32]]:
    """Return the logits of a simulated linear model by split. It is slightly worse than most members."""
    return _logits(data, signal=_BASELINE_SIGNAL, seed=_BASELINE_SEED)


def _logits(data: PreparedData, *, signal: float, seed: int) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    logits = {}
    for split in ("validation", "test"):
        right = np.eye(len(data.labels))[data.true_labels(split)]
        noise = np.random.default_rng(len(split)).normal(size=right.shape) + generator.normal(size=right.shape)
        logits[split] = (noise + signal * right).astype(np.float32)
    return logits


def _signal(spec: MemberSpec) -> float:
    shape = spec.architecture
    rate = abs(math.log10(spec.settings.learning_rate / 1e-3))
    size = math.log2(1 + shape.width / 16) + 0.5 * math.log2(shape.depth)
    learned = 0.0 if spec.pretrained is None else 0.15 * math.log2(1 + spec.pretrained.documents / 1000)
    taught = 0.0 if spec.teaching is None else 0.1 * math.log2(1 + len(spec.teaching.teachers))
    return 0.6 + 0.25 * size + learned + taught - 0.5 * rate
