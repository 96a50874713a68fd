"""Find or train: each member is trained once, whoever asks first; a failure stores nothing and says why."""

import math
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tlm_search.data.prepared import PreparedData
from tlm_search.errors import DivergedError
from tlm_search.members.bert_trainer import BertTrainer
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.members.spec import MemberSpec, committee_specs
from tlm_search.members.train import obtain, train_if_free
from tlm_search.members.trainer import KIND, TrainedMember, Trainer
from tlm_search.model.weights import Weights
from tlm_search.space.settings import Value, complete
from tlm_search.store.local import Store
from tlm_search.training.engine import TrainingLog
from tlm_search.training.pretrain import pretrain

SHAPE: dict[str, Value] = {"depth": 1, "width": 16, "head_size": 8, "feed_forward": 2}
FAST: dict[str, Value] = {**SHAPE, "finetune_epochs": 3, "pretrain_epochs": 1, "finetune_learning_rate": 5e-3}


class CountingTrainer(SimulatedTrainer):
    def __init__(self) -> None:
        self.trained: list[str] = []
        self.stacks: list[list[int]] = []

    def train(self, specs: Sequence[MemberSpec], *, store: Store, data: PreparedData) -> tuple[TrainedMember, ...]:
        self.trained += [spec.digest for spec in specs]
        self.stacks += [sorted(spec.seed for spec in specs)] if specs else []
        return super().train(specs, store=store, data=data)


def specs_of(data: PreparedData, trainer: Trainer, seeds: range, **settings: Value) -> tuple[MemberSpec, ...]:
    full = complete({**FAST, **settings})
    corpus = data.prefix_fingerprint(int(full["pretrain_size"]))
    return committee_specs(full, vocabulary=40, positions=12, labels=3, corpus=corpus, task="task", seeds=seeds)


def test_members_are_trained_once_and_come_in_the_order_of_their_specs(data: PreparedData) -> None:
    store, trainer = Store(data.root), CountingTrainer()
    small, large = specs_of(data, trainer, range(2)), specs_of(data, trainer, range(4))
    first = obtain(small, store=store, data=data, trainer=trainer)
    second = obtain(large, store=store, data=data, trainer=trainer)
    assert (first.trained, first.reused, second.trained, second.reused) == (2, 0, 2, 2)
    assert trainer.trained == [spec.digest for spec in large] == [member.digest for member in second.members]
    np.testing.assert_array_equal(first.members[1].test_logits, second.members[1].test_logits)


def test_of_each_stack_those_that_are_missing_are_trained_at_once(data: PreparedData) -> None:
    """Whatever was stored before, another trial that trains a stack of this one finds all of it or none."""
    store, trainer = Store(data.root), CountingTrainer()
    specs = specs_of(data, trainer, range(7))
    obtain(specs[1:2], store=store, data=data, trainer=trainer)
    obtained = obtain(specs, store=store, data=data, trainer=trainer, stack=3)
    assert trainer.stacks == [[1], [0, 2], [3, 4, 5], [6]]
    assert (obtained.trained, obtained.reused) == (6, 1)


def test_a_helper_trains_a_stack_unless_somebody_trains_one_of_it(data: PreparedData) -> None:
    store, trainer = Store(data.root), CountingTrainer()
    specs = specs_of(data, trainer, range(4))
    obtain(specs[:1], store=store, data=data, trainer=trainer)

    def helps() -> bool:
        return train_if_free(specs, store=store, data=data, trainer=trainer, attempt="this")

    with store.lock(KIND, specs[2].digest):
        assert not helps()
    for spec in specs[1:]:  # no lock on it is held
        with store.lock(KIND, spec.digest, wait=False):
            pass
    assert helps()
    assert not helps()
    assert trainer.stacks == [[0], [1, 2, 3]]
    obtained = obtain(specs, store=store, data=data, trainer=trainer, attempt="this")
    assert (obtained.trained, obtained.reused) == (3, 1)


class SlowTrainer(CountingTrainer):
    """Gives the other trial time to ask for the same member while this one trains it."""

    def train(self, specs: Sequence[MemberSpec], *, store: Store, data: PreparedData) -> tuple[TrainedMember, ...]:
        time.sleep(0.05)
        return super().train(specs, store=store, data=data)


def _obtain(data: PreparedData, seeds: list[int], barrier: Any, answers: Any) -> None:
    trainer = SlowTrainer()
    specs = [specs_of(data, trainer, range(seed, seed + 1))[0] for seed in seeds]
    barrier.wait()
    obtained = obtain(specs, store=Store(data.root), data=data, trainer=trainer)
    answers.put(
        (trainer.trained, obtained.trained, obtained.reused, [m.test_logits.tolist() for m in obtained.members])
    )


@pytest.mark.parametrize("second", [[0, 1, 2, 3], [3, 2, 1, 0]])
def test_two_trials_that_want_the_same_members_at_once_train_each_of_them_once(
    data: PreparedData, second: list[int]
) -> None:
    first = [0, 1, 2, 3]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    barrier, answers = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_obtain, args=(data, seeds, barrier, answers)) for seeds in (first, second)]
    for process in processes:
        process.start()
    one, other = answers.get(timeout=60), answers.get(timeout=60)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(one[0] + other[0]) == len(set(one[0] + other[0])) == 4
    assert (one[1] + other[1], one[2] + other[2]) == (4, 4)
    assert sorted(one[3]) == sorted(other[3])
    assert Store(data.root).verify() == []


@pytest.mark.parametrize("pretrain_size", [0, 20])
@pytest.mark.parametrize("convolution_layers", [0, 1])
def test_real_members_learn_and_are_stored_with_what_they_cost(
    data: PreparedData, pretrain_size: int, convolution_layers: int
) -> None:
    store, trainer = Store(data.root), BertTrainer(threads=1, device="cpu")
    specs = specs_of(
        data,
        trainer,
        range(2),
        pretrain_size=pretrain_size,
        convolution_layers=convolution_layers,
        finetune_epochs=15,
        finetune_batch_size=4,
    )
    obtained = obtain(specs, store=store, data=data, trainer=trainer)
    labels = data.true_labels("test")
    for member in obtained.members:
        assert member.test_logits.shape == (18, 3)
        assert (member.test_logits.argmax(-1) == labels).mean() > 0.6
        assert member.seconds > 0
        assert member.training_flops > 0
    document = obtained.members[0].document
    assert document["labels"] == ["a", "b", "c"]
    assert (document["pretraining"] is None) == (pretrain_size == 0)
    assert obtained.tokens == 2 * (30 * 8 * 15 + pretrain_size * 8)
    assert obtain(specs, store=store, data=data, trainer=trainer).trained == 0


def test_fine_tunings_share_their_pre_training(data: PreparedData) -> None:
    store, trainer = Store(data.root), BertTrainer(threads=1, device="cpu")
    for rate in (1e-3, 2e-3):
        specs = specs_of(data, trainer, range(1), pretrain_size=20, finetune_learning_rate=rate)
        obtain(specs, store=store, data=data, trainer=trainer)
    assert len(list(store.entries("pretrained"))) == 1
    assert len(list(store.entries("members"))) == 2


def test_members_trained_as_a_stack_are_those_trained_alone(data: PreparedData) -> None:
    trainer = BertTrainer(threads=1, device="cpu")
    specs = specs_of(data, trainer, range(3), pretrain_size=20)
    alone = obtain(specs, store=Store(data.root), data=data, trainer=trainer, stack=1)
    assert trainer.stack(specs[0]) > 1
    stacked = obtain(specs, store=Store(data.root / "other"), data=data, trainer=trainer)
    for one, other in zip(alone.members, stacked.members, strict=True):
        np.testing.assert_allclose(one.test_logits, other.test_logits, atol=1e-3)
    assert alone.tokens == stacked.tokens


def test_a_member_that_diverges_says_why_and_is_not_stored(data: PreparedData) -> None:
    store, trainer = Store(data.root), BertTrainer(threads=1, device="cpu")
    specs = specs_of(data, trainer, range(1), pretrain_size=20, pretrain_learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"pre-training loss of seed 0 is no longer a number") as caught:
        obtain(specs, store=store, data=data, trainer=trainer)
    assert caught.value.hint == "lower pretrain_learning_rate"
    assert not list(store.entries("members"))
    assert not list(store.entries("pretrained"))


def test_of_a_stack_those_that_did_not_diverge_are_kept(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    store, trainer = Store(data.root), BertTrainer(threads=1, device="cpu")
    specs = specs_of(data, trainer, range(3), pretrain_size=20)

    def spoiled(*arguments: Any, **options: Any) -> tuple[Weights, TrainingLog]:
        weights, course = pretrain(*arguments, **options)
        losses = [*course.losses]
        losses[1] = ((1, math.nan),)
        return weights, replace(course, losses=tuple(losses))

    monkeypatch.setattr(trainer, "stack", lambda spec: 3)
    monkeypatch.setattr("tlm_search.members.bert_trainer.pretrain", spoiled)
    with pytest.raises(DivergedError, match=r"pre-training loss of seed 1 is no longer a number"):
        obtain(specs, store=store, data=data, trainer=trainer)
    kept = {entry.document["spec"]["seed"] for entry in store.entries("pretrained")}
    assert kept == {0, 2}


def test_latency_is_measured_once(data: PreparedData) -> None:
    store, trainer = Store(data.root), BertTrainer(threads=1, device="cpu")
    spec = specs_of(data, trainer, range(1))[0]
    first = trainer.latency_ms(spec, members=2, store=store)
    assert 0 < first == trainer.latency_ms(spec, members=2, store=store)
    mean = specs_of(data, trainer, range(1), pooling="mean")[0]
    assert trainer.latency_ms(mean, members=2, store=store) > 0
    assert {entry.document["key"]["pooling"] for entry in store.entries("latency")} == {"cls", "mean"}
