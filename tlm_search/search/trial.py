"""One trial: settings -> members -> a vote -> metrics, rung by rung. No Ray, no Optuna here."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tlm_search.committee.frontier import frontier
from tlm_search.committee.metrics import ACCURACY, Metric
from tlm_search.committee.scores import CommitteeScores
from tlm_search.data.markers import Markers
from tlm_search.data.prepared import PreparedData
from tlm_search.digest import digest
from tlm_search.members.spec import MemberSpec, committee_specs, hybrid_digests, settings_of_teachers, students
from tlm_search.members.train import MemberResult, obtain
from tlm_search.members.trainer import Trainer
from tlm_search.space.settings import CLASS_WEIGHTS, Value, weights_of_labels
from tlm_search.store.local import Store

if TYPE_CHECKING:
    from tlm_search.committee.vote import Integers

SEEDS_PER_STUDY = 1_000  # at least the largest committee, so that studies of different seeds share no member


@dataclass(frozen=True)
class Rung:
    """The results of a trial when its first ``size`` members vote; ``done`` if these are all.

    ``metrics`` has the latency only when ``done``. ``frontier`` has the scores of each size up to this one. With
    self-training the members are the students, and the counts include their teachers. ``trained``, ``reused``,
    ``tokens`` and ``seconds`` (of waiting for the members) count from the start of the trial. They include what helpers
    trained, and members beyond ``size`` that were trained together with these. ``peak_gb`` is the most memory that its
    worker ever took, 0 if that is unknown.
    """

    size: int
    done: bool
    metrics: Mapping[str, float]
    frontier: tuple[CommitteeScores, ...]
    members: Sequence[str]
    trained: int
    reused: int
    tokens: int
    seconds: float
    peak_gb: float = 0.0

    def attributes(self, settings: Mapping[str, Value]) -> dict[str, Any]:
        """Return what a study stores of a trial with complete ``settings`` that reached this rung, as JSON."""
        return {
            "settings": dict(settings),
            "members": list(self.members),
            "trained": self.trained,
            "reused": self.reused,
            "seconds": round(self.seconds, 3),
            "metrics": {name: value for name, value in self.metrics.items() if math.isfinite(value)},
            "frontier": [scores.stored() for scores in self.frontier],
        }

    def to_document(self) -> dict[str, Any]:
        """Return the rung as JSON."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Rung:
        """Rebuild from ``to_document``."""
        frontier = (CommitteeScores(**{**scores, "bias": tuple(scores["bias"])}) for scores in document["frontier"])
        return cls(**{**document, "frontier": tuple(frontier)})


def run_trial(
    settings: Mapping[str, Value],
    *,
    seed: int,
    data: PreparedData,
    store: Store,
    trainer: Trainer,
    prunable: bool = True,
    chunks: int = 1,
    attempt: str = "",
    metric: Metric = ACCURACY,
) -> Iterator[Rung]:
    """Train the committee that complete ``settings`` describe, and yield its results at 1, 2, 4, ... members.

    Stop iterating to prune the trial; later members are then not trained. If the trial is not ``prunable``, its members
    are trained in stacks as large as the trainer allows when the trial is split into ``chunks``, even beyond the next
    report. ``seed`` is the study's. Helpers have the same ``attempt`` and ``chunks``. With self-training the teachers
    are trained or found first; they vote only if there are no students. ``metric`` is the task's metric.

    Raises:
        TrainingError: a member could not be trained.
        UserError: the store or the data cannot be used.
    """
    data = data.of(settings)
    specs = trial_specs(settings, seed=seed, data=data, trainer=trainer)
    validation_labels, test_labels = data.true_labels("validation"), data.true_labels("test")
    stack = None if prunable else stack_of(specs, trainer, chunks)
    found: list[MemberResult] = []
    trained = reused = tokens = 0
    started = time.monotonic()
    teachers: Sequence[MemberResult] = ()
    counted: set[str] = set()
    if wanted := teacher_specs(settings, seed=seed, data=data, trainer=trainer):
        together = None if prunable else stack_of(wanted, trainer, chunks)
        taught = obtain(wanted, store=store, data=data, trainer=trainer, attempt=attempt, stack=together)
        teachers, trained, reused, tokens = taught.members, taught.trained, taught.reused, taught.tokens
        counted = {spec.plain.digest for spec in wanted}
    for size in rungs(len(specs)):
        if size > len(found):
            wanted = specs[len(found) : size if stack is None else math.ceil(size / stack) * stack]
            obtained = obtain(
                wanted, store=store, data=data, trainer=trainer, attempt=attempt, stack=stack, counted=counted
            )
            found += obtained.members
            trained, reused, tokens = trained + obtained.trained, reused + obtained.reused, tokens + obtained.tokens
        members = found[:size]
        scores = committee_frontier(members, validation_labels, test_labels, metric=metric)
        if teachers or specs[0].linear or settings["pretrain_seeds"]:
            # The cost of what members share does not grow with the committee, so each size has its own costs.
            scores = tuple(at.having(committee_costs(specs[0], members[: at.size], teachers)) for at in scores)
        metrics = {**scores[-1].metrics(), **committee_costs(specs[0], members, teachers)}
        if size == len(specs):
            scores = with_latency(scores, specs[0], trainer=trainer, store=store)
            metrics["latency_ms"] = scores[-1].figures["latency_ms"]
        yield Rung(
            size=size,
            done=size == len(specs),
            metrics=metrics,
            frontier=scores,
            members=[member.digest for member in members],
            trained=trained,
            reused=reused,
            tokens=tokens,
            seconds=time.monotonic() - started,
            peak_gb=trainer.peak_gb(),
        )


def stack_of(specs: Sequence[MemberSpec], trainer: Trainer, chunks: int) -> int:
    """Return how many members are trained as one model, when the trial is split into ``chunks``."""
    return min(trainer.stack(specs[0]), math.ceil(len(specs) / chunks))


def rungs(members: int) -> list[int]:
    """Return the sizes at which a committee of ``members`` reports: 1, 2, 4, ... and all of them."""
    return [2**power for power in range(members.bit_length()) if 2**power < members] + [members]


def chunk_sizes(members: int, *, prunable: bool, chunks: int = 1) -> list[int]:
    """Return how many members a trial trains in each step. A ``prunable`` trial makes a step to each rung."""
    if prunable:
        return [upper - lower for lower, upper in pairwise([0, *rungs(members)])]
    chunk = math.ceil(members / chunks)
    return [min(chunk, members - first) for first in range(0, members, chunk)]


def trial_specs(
    settings: Mapping[str, Value], *, seed: int, data: PreparedData, trainer: Trainer
) -> tuple[MemberSpec, ...]:
    """Return the members that vote in a trial; member number i has the same seed in every trial of the study.

    With self-training they are students: their teachers are ``teacher_specs``. With 0 ``student_epochs`` they are
    members such as these, with a linear model that learned from them.
    """
    data = data.of(settings)
    teachers = teacher_specs(settings, seed=seed, data=data, trainer=trainer)
    first = seed * SEEDS_PER_STUDY
    members = committee_specs(
        {**settings, CLASS_WEIGHTS: weights_of_labels(settings[CLASS_WEIGHTS], data.labels)},
        vocabulary=data.vocabulary,
        positions=data.length,
        labels=len(data.labels),
        corpus=data.prefix_fingerprint(int(settings["pretrain_size"])),
        task=data.task_fingerprint,
        tokenizer=data.tokenizer_fingerprint,
        marked=Markers.of(data.special) is not None,
        trainer=trainer.identity,
        seeds=range(first, first + int(settings["committee_size"])),
    )
    return students(members, teachers, settings, unlabelled=data.unlabelled_fingerprint) if teachers else members


def teacher_specs(
    settings: Mapping[str, Value], *, seed: int, data: PreparedData, trainer: Trainer
) -> tuple[MemberSpec, ...]:
    """Return the teachers of a trial's members, from its configuration without self-training; none without it."""
    of_teachers = settings_of_teachers(settings)
    return () if of_teachers is None else trial_specs(of_teachers, seed=seed, data=data, trainer=trainer)


def committee_frontier(
    members: Sequence[MemberResult], validation_labels: Integers, test_labels: Integers, *, metric: Metric = ACCURACY
) -> tuple[CommitteeScores, ...]:
    """Return the scores of each size 1..K from the members' logits."""
    return frontier(
        np.stack([member.validation_logits for member in members]),
        np.stack([member.test_logits for member in members]),
        validation_labels,
        test_labels,
        metric=metric,
    )


def with_latency(
    frontier: Iterable[CommitteeScores], spec: MemberSpec, *, trainer: Trainer, store: Store
) -> tuple[CommitteeScores, ...]:
    """Add the latency of each size in ms, so that a smaller committee can be chosen by it."""
    return tuple(at.having({"latency_ms": trainer.latency_ms(spec, members=at.size, store=store)}) for at in frontier)


def committee_costs(
    spec: MemberSpec, members: Sequence[MemberResult], teachers: Sequence[MemberResult] = ()
) -> dict[str, float]:
    """Return parameters, floating-point operations and seconds of training all members, now or earlier.

    The linear model of hybrids counts once. So does a pre-training that members share, and everything that they share
    with their ``teachers``. The teachers have another linear model if that of the members learns from them.
    """
    if spec.trainer:  # of a user's own members only what they report is known
        known = [member.document.get("parameters", math.nan) for member in members]
        extra = members[0].linear or {}
        return {
            "parameters": float(sum(known) + extra.get("parameters", 0)),
            "training_flops": math.nan,
            "training_seconds": sum(member.seconds for member in members) + extra.get("seconds", 0.0),
        }
    one = spec.architecture.classifier_parameters(spec.labels, pooling=spec.settings.pooling)
    nothing = {"parameters": 0, "flops": 0.0, "seconds": 0.0}
    linear = [members[0].linear or nothing]
    if teachers and spec.linear is not None and spec.linear.teaching is not None:
        linear.append(teachers[0].linear or nothing)
    training = training_costs(members, teachers)
    return {
        "parameters": float(linear[0]["parameters"] + len(members) * one),
        "training_flops": sum(model["flops"] for model in linear) + training["training_flops"],
        "training_seconds": sum(model["seconds"] for model in linear) + training["training_seconds"],
    }


def training_costs(members: Sequence[MemberResult], teachers: Sequence[MemberResult]) -> dict[str, float]:
    """Return operations and seconds of training members and their teachers; what several of them share counts once.

    They share pre-trained encoders and the answers of the teachers; if the teachers vote, everything except the linear
    model.
    """
    phases: dict[str, Mapping[str, float]] = {}
    answers: Mapping[str, float] = {}
    for member in (*teachers, *members):
        own, pretraining = member.document["finetuning"], member.document["pretraining"]
        within = own.get("answers", {})
        answers = within or (member.linear or {}).get("answers", {})  # those of the last member, which is not a teacher
        digests = hybrid_digests(member.document["spec"])
        plain = member.digest if digests is None else digests.plain
        phases[plain] = {name: own[name] - within.get(name, 0.0) for name in ("flops", "seconds")}
        if pretraining:
            phases[digest(member.document["spec"]["pretrained"])] = pretraining
    costs = [*phases.values(), answers]
    return {f"training_{name}": float(sum(cost.get(name, 0.0) for cost in costs)) for name in ("flops", "seconds")}
