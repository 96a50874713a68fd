"""Obtain members: read them from the store if they exist, otherwise train and store them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.data.prepared import PreparedData
from tlm_search.files import HeldError
from tlm_search.members.spec import MemberSpec
from tlm_search.members.trainer import KIND, LINEAR, Trainer
from tlm_search.store.local import Entry, Store

_COSTS = ("seconds", "flops", "parameters", "answers")  # of a linear model; answers only with teachers
_HELPED = "helped"  # key in a member's document: the attempt for which a helper trained it


@dataclass(frozen=True)
class MemberResult:
    """A member for a committee: logits ``(rows, classes)`` of validation and test, and the cost of training.

    ``seconds`` and ``training_flops`` include the pre-training in full, even if several members share it. They do not
    include the linear model of a hybrid: ``linear`` has its ``seconds``, ``flops`` and ``parameters``.
    """

    digest: str
    validation_logits: NDArray[np.float32]
    test_logits: NDArray[np.float32]
    seconds: float
    training_flops: float
    document: Mapping[str, Any]
    linear: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Obtained:
    """Members in the order of their specs, and how many were trained and reused, with the tokens processed now.

    Members that helpers trained for the same attempt count as trained. A hybrid counts as trained if its plain member
    was trained.
    """

    members: tuple[MemberResult, ...]
    trained: int
    reused: int
    tokens: int


def obtain(
    specs: Sequence[MemberSpec],
    *,
    store: Store,
    data: PreparedData,
    trainer: Trainer,
    attempt: str = "",
    stack: int | None = None,
    counted: Collection[str] = (),
) -> Obtained:
    """Return the members of ``specs`` for an ``attempt`` at a trial: from the store, or trained now and stored.

    Members are handled in stacks of ``stack``, by default the size that the ``trainer`` chooses. The missing members of
    a stack are trained together. If several callers want the same member, the first trains it and the others wait. For
    hybrids the plain members are trained, and the first caller that needs the linear model fits it.

    Raises:
        TrainingError: a member could not be trained. Members that finished earlier are stored.
        StoreError: the store cannot be read or written.
    """
    plain = [spec.plain for spec in specs]
    found, tokens = _obtain_plain(plain, store=store, data=data, trainer=trainer, attempt=attempt, stack=stack)
    entries = [
        found[alone.digest]
        if spec.linear is None
        else _hybrid(spec, found[alone.digest], store=store, data=data, trainer=trainer)
        for spec, alone in zip(specs, plain, strict=True)
    ]
    trained = tokens.keys() - counted
    new = sum(alone.digest not in counted for alone in plain)
    read = sum(tokens[name] for name in trained)
    return Obtained(tuple(map(_result, entries)), trained=len(trained), reused=new - len(trained), tokens=read)


def _obtain_plain(
    specs: Sequence[MemberSpec],
    *,
    store: Store,
    data: PreparedData,
    trainer: Trainer,
    attempt: str,
    stack: int | None,
) -> tuple[dict[str, Entry], dict[str, int]]:
    """Return the entries of members, and the tokens processed for newly trained members, both by digest."""
    found = {spec.digest: entry for spec in specs if (entry := store.read(KIND, spec.digest))}
    tokens: dict[str, int] = {}
    stack = stack or trainer.stack(specs[0])
    for first in range(0, len(specs), stack):
        group = [spec for spec in specs[first : first + stack] if spec.digest not in found]
        with ExitStack() as locks:
            # Every process locks in the same order, so that two trials with common members cannot deadlock.
            for spec in sorted(group, key=lambda spec: spec.digest):
                locks.enter_context(store.lock(KIND, spec.digest))
            found.update({spec.digest: entry for spec in group if (entry := store.read(KIND, spec.digest))})
            for member in trainer.train([s for s in group if s.digest not in found], store=store, data=data):
                digest = member.spec.digest
                found[digest] = store.write(KIND, digest, member.document, member.arrays)
                tokens[digest] = member.tokens
    for digest, entry in found.items():
        helped = entry.document.get(_HELPED, {})
        if helped.get("attempt") == attempt:
            tokens.setdefault(digest, helped["tokens"])
    return found, tokens


def _hybrid(spec: MemberSpec, plain: Entry, *, store: Store, data: PreparedData, trainer: Trainer) -> Entry:
    """Return the hybrid ``spec`` of a ``plain`` member: from the store, or combined now and stored."""
    entry = store.read(KIND, spec.digest)
    if entry is not None:
        return entry
    linear = _linear(spec, store=store, data=data, trainer=trainer)
    own, others = plain.arrays("logits"), linear.arrays("logits")
    logits = {
        split: mixed_logits(own[split], others[split], share=spec.linear_share) for split in ("validation", "test")
    }
    document = {
        **{name: value for name, value in plain.document.items() if name != _HELPED},
        "spec": spec.to_document(),
        "linear": {name: linear.document[name] for name in _COSTS if name in linear.document},
    }
    return store.write(KIND, spec.digest, document, {"logits": logits})


def _linear(spec: MemberSpec, *, store: Store, data: PreparedData, trainer: Trainer) -> Entry:
    """Return the linear model of a hybrid, from the store or fitted now."""
    assert spec.linear is not None
    name = spec.linear.digest
    entry = store.read(LINEAR, name)
    if entry is None:
        with store.lock(LINEAR, name):
            entry = store.read(LINEAR, name)
            if entry is None:
                entry = store.write(LINEAR, name, *trainer.fit_linear(spec, store=store, data=data))
    return entry


def train_if_free(
    specs: Sequence[MemberSpec], *, store: Store, data: PreparedData, trainer: Trainer, attempt: str
) -> bool:
    """Train and store the missing members of ``specs`` to help an ``attempt``; for hybrids the plain members.

    Return False if no member is missing, or if another process is training a missing member.

    Raises:
        TrainingError: a member could not be trained.
        StoreError: the store cannot be read or written.
    """

    def missing() -> list[MemberSpec]:
        plain = [spec.plain for spec in specs]
        return sorted((s for s in plain if store.read(KIND, s.digest) is None), key=lambda spec: spec.digest)

    with suppress(HeldError), ExitStack() as locks:
        for spec in missing():
            locks.enter_context(store.lock(KIND, spec.digest, wait=False))
        members = trainer.train(missing(), store=store, data=data)
        for member in members:
            helped = {"attempt": attempt, "tokens": member.tokens}
            store.write(KIND, member.spec.digest, {**member.document, _HELPED: helped}, member.arrays)
        return bool(members)
    return False


def wait_for(specs: Sequence[MemberSpec], *, store: Store, data: PreparedData, trainer: Trainer) -> bool:
    """Wait until no process trains any of ``specs``; return whether the store then has all of them.

    Hybrids are combined and stored if their plain members exist.

    Raises:
        TrainingError: the linear model of a hybrid could not be fitted.
        StoreError: the store cannot be read or written.
    """
    plain = [spec.plain for spec in specs]
    for spec in plain:
        if store.read(KIND, spec.digest) is None:
            with store.lock(KIND, spec.digest):
                pass
    entries = [store.read(KIND, spec.digest) for spec in plain]
    for spec, entry in zip(specs, entries, strict=True):
        if spec.linear is not None and entry is not None:
            _hybrid(spec, entry, store=store, data=data, trainer=trainer)
    return None not in entries


def trainer_named(name: str, *, cpus: float, gpus: float) -> Trainer:
    """Return the trainer ``bert``, ``simulated`` or ``package.module:Class`` with its share of the machine.

    Raises:
        UserError: the class cannot be imported or created.
    """
    if ":" in name:
        from tlm_search.members.own import load_own

        return load_own(name)
    if name == "simulated":
        from tlm_search.members.simulated import SimulatedTrainer

        return SimulatedTrainer()
    from tlm_search.members.bert_trainer import BertTrainer

    return BertTrainer(threads=max(1, int(cpus)), device="cuda" if gpus else "cpu", share=min(1.0, gpus) or 1.0)


def mixed_logits(plain: NDArray[np.floating], linear: NDArray[np.floating], *, share: float) -> NDArray[np.float32]:
    """Return the logarithm of the weighted mean of two softmax outputs, ``(rows, labels)``.

    ``share`` is the weight of ``linear``.
    """
    parts = []
    for logits, weight in ((np.asarray(plain, np.float64), 1 - share), (np.asarray(linear, np.float64), share)):
        parts.append(np.log(weight) + logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    return np.asarray(np.logaddexp(*parts), np.float32)


def _result(entry: Entry) -> MemberResult:
    logits = entry.arrays("logits")
    costs = [entry.document["finetuning"], entry.document["pretraining"] or {}]
    return MemberResult(
        digest=entry.digest,
        validation_logits=logits["validation"],
        test_logits=logits["test"],
        seconds=sum(cost.get("seconds", 0.0) for cost in costs),
        training_flops=sum(cost.get("flops", 0.0) for cost in costs),
        document=entry.document,
        linear=entry.document.get("linear"),
    )
