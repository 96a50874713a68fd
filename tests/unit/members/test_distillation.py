"""Students: their names, what they are taught, and that they learn it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_train import FAST, specs_of

from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.errors import StoreError
from tlm_search.members import bert_trainer
from tlm_search.members import distillation as distillation_module
from tlm_search.members.bert_trainer import BertTrainer
from tlm_search.members.distillation import SOFT_LABELS, Targets, soft_labels
from tlm_search.members.spec import Distillation, MemberSpec, committee_specs
from tlm_search.members.train import obtain
from tlm_search.model.loss import UNSCORED, class_losses, soft_losses
from tlm_search.search.trial import run_trial
from tlm_search.space.settings import complete
from tlm_search.store.local import Store
from tlm_search.training.finetune import finetune
from tlm_search.training.settings import Execution

GOLDEN = ("0642e8356bd94959fc80cde11c163b25", "dcbe351ff9f53589e3d34cef03864ae8")


def test_members_keep_the_names_that_they_have_in_stores() -> None:
    """The golden names were computed by the same lines at commit 8dce27b, before students existed."""
    settings = complete({"depth": 1, "width": 64, "pretrain_size": 4000})
    (member,) = committee_specs(
        settings, vocabulary=4096, positions=32, labels=5, corpus="corpus", task="task", seeds=[7]
    )
    assert member.pretrained is not None
    assert (member.digest, member.pretrained.digest) == GOLDEN
    student = replace(member, teaching=Distillation(("a" * 32, "b" * 32)))
    other = replace(member, teaching=Distillation(("a" * 32, "c" * 32)))
    more = replace(member, teaching=Distillation(("a" * 32, "b" * 32), documents=10, corpus="corpus"))
    assert len({member.digest, student.digest, other.digest, more.digest}) == 4
    assert student.pretrained == member.pretrained


def test_sure_probabilities_are_labels() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, generator=random, requires_grad=True)
    labels = torch.tensor([[0, 2, 1, UNSCORED], [1, 1, 0, 2]])
    texts = torch.tensor([[0, 2, 1, UNSCORED], [1, 1, 0, 2]])  # text i has the label i
    plain, soft = class_losses(logits, labels), soft_losses(logits, texts, torch.eye(3))
    torch.testing.assert_close(plain, soft)
    gradients = [torch.autograd.grad(losses.sum(), logits)[0] for losses in (plain, soft)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_fine_tuning_on_sure_probabilities_is_fine_tuning_on_labels(data: PreparedData, micro_batches: int) -> None:
    (spec,) = specs_of(data, BertTrainer(threads=1, device="cpu"), range(1))
    labels = np.load(data.folder("train") / "labels.npy")
    weights = [
        finetune(
            spec.architecture,
            spec.settings,
            TokenArray.open(data.folder("train")),
            wanted,
            classes=3,
            pad=0,
            seeds=(0,),
            pretrained=None,
            execution=Execution(micro_batches=micro_batches),
        )[0]
        for wanted in (labels, np.eye(3, dtype=np.float32)[labels])
    ]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=1e-4, rtol=1e-3)


def test_students_learn_what_the_committee_says(data: PreparedData) -> None:
    """On new texts they are nearer to the committee's answers than members that learned from labels."""
    store, trainer = Store(data.root), BertTrainer(threads=1, device="cpu")
    specs = specs_of(data, trainer, range(3), pretrain_size=20, finetune_epochs=6, finetune_batch_size=4)
    members = obtain(specs, store=store, data=data, trainer=trainer).members
    teachers = tuple(member.digest for member in members)
    teaching = Distillation(teachers, documents=40, corpus=data.prefix_fingerprint(40))
    students = [replace(spec, teaching=teaching) for spec in specs[:2]]
    learned = obtain(students, store=store, data=data, trainer=trainer)
    assert len(list(store.entries("pretrained"))) == 3, "they start from what members started from"
    said = np.mean([softmax(member.test_logits) for member in members], axis=0)

    def distance(logits: np.ndarray) -> float:
        return float(np.abs(softmax(logits) - said).mean())

    assert max(distance(s.test_logits) for s in learned.members) < min(distance(m.test_logits) for m in members)
    document = learned.members[0].document
    assert document["spec"]["teaching"] == {"teachers": list(teachers), "documents": 40, "corpus": teaching.corpus}
    assert document["finetuning"]["flops"] > members[0].document["finetuning"]["flops"] * 70 / 30
    assert obtain(students, store=store, data=data, trainer=trainer).trained == 0


def test_a_lesson_has_the_mean_answers_of_the_stored_members(data: PreparedData) -> None:
    store, trainer = Store(data.root), BertTrainer(threads=1, device="cpu")
    specs = specs_of(data, trainer, range(2))
    members = obtain(specs, store=store, data=data, trainer=trainer).members
    student = replace(specs[0], teaching=Distillation(tuple(member.digest for member in members)))
    # Pretend that the test texts are to be learned: the store has their logits.
    lesson = soft_labels(student, store=store, data=replace(data, train="test"), device="cpu")
    expected = np.mean([softmax(member.test_logits) for member in members], axis=0)
    np.testing.assert_allclose(lesson.labels, expected, atol=1e-5)
    np.testing.assert_allclose(lesson.labels.sum(-1), 1, atol=1e-5)
    assert lesson.flops > 0


def test_a_committee_answers_once_for_all_its_students(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, store, asked = BertTrainer(threads=1, device="cpu"), Store(data.root), []
    specs = specs_of(data, trainer, range(2))
    teachers = obtain(specs, store=store, data=data, trainer=trainer)
    lesson = Distillation(tuple(member.digest for member in teachers.members))

    def counted(spec: MemberSpec, **where: Any) -> Targets:
        asked.append(spec.seed)
        return soft_labels(spec, **where)

    monkeypatch.setattr(bert_trainer, "soft_labels", counted)
    students = [replace(spec, teaching=lesson) for spec in specs]
    assert obtain(students, store=store, data=data, trainer=trainer).trained == 2
    assert asked == [0]


def test_a_teacher_that_is_gone_is_told(data: PreparedData) -> None:
    trainer = BertTrainer(threads=1, device="cpu")
    student = replace(specs_of(data, trainer, range(1))[0], teaching=Distillation(("0" * 32,)))
    with pytest.raises(StoreError, match=r"member 0+ of the committee is missing or damaged in the store"):
        obtain_one(student, data, trainer)


def obtain_one(spec: MemberSpec, data: PreparedData, trainer: BertTrainer) -> None:
    obtain([spec], store=Store(data.root), data=data, trainer=trainer)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def unlabelled(data: PreparedData, texts: int = 20) -> PreparedData:
    generator = np.random.default_rng(1)
    rows = [[2, *(10 + 5 * (i % 3) + generator.integers(0, 5, 6)).tolist(), 3] for i in range(texts)]
    TokenArray.write(data.root / "unlabelled", rows, vocabulary=40)
    fingerprint = TokenArray.open(data.root / "unlabelled").fingerprint()
    return replace(data, unlabelled="unlabelled", unlabelled_texts={"used": texts}, unlabelled_fingerprint=fingerprint)


def test_students_keep_the_names_that_they_have_in_stores() -> None:
    """The golden names were computed at commit 04973ea, before unlabelled texts existed."""
    settings = complete({"depth": 1, "width": 64, "pretrain_size": 4000})
    (member,) = committee_specs(
        settings, vocabulary=4096, positions=32, labels=5, corpus="corpus", task="task", seeds=[7]
    )
    teachers = ("a" * 32, "b" * 32)
    student = replace(member, teaching=Distillation(teachers))
    more = replace(member, teaching=Distillation(teachers, documents=10, corpus="corpus"))
    assert student.digest == "d3788b11efd8f660e6862af23254bb46"
    assert more.digest == "2271b37d529a2912b3236c3561f63e44"
    new = replace(member, teaching=Distillation(teachers, unlabelled="texts"))
    assert new.digest not in (student.digest, more.digest)
    assert len({teaching.digest for s in (student, more, new) if (teaching := s.teaching)}) == 3


def test_self_trained_members_learn_what_their_teachers_say_of_unlabelled_texts(data: PreparedData) -> None:
    """Run a trial as a study does: find or train the teachers first, then students with other texts, rung by rung."""
    data = unlabelled(data)
    store, trainer = Store(data.root), BertTrainer(threads=1, device="cpu")
    given = {**FAST, "pretrain_size": 20, "committee_size": 2, "teachers": 2, "self_training": 1, "student_epochs": 2}
    settings = complete({**given, "student_batch_size": 8})
    at = {"seed": 0, "data": data, "store": store, "trainer": trainer}
    rungs = list(run_trial(settings, **at))
    assert [rung.size for rung in rungs] == [1, 2]
    assert (rungs[-1].trained, rungs[-1].reused) == (4, 0)
    assert len(store.sizes("pretrained")) == 2, "students start from what their teachers started from"
    (labels,) = store.entries(SOFT_LABELS)
    assert (labels.document["texts"], labels.document["labels"]) == (50, 3)
    said = labels.arrays("labels")["probabilities"]
    assert (said.shape, said.dtype) == ((50, 3), np.float32)
    np.testing.assert_allclose(said.sum(-1), 1, atol=1e-5)
    entries = [entry for name in rungs[-1].members if (entry := store.read("members", name))]
    tokens = sum(len(TokenArray.open(data.folder(part)).ids) for part in ("train", "unlabelled"))
    assert [entry.document["finetuning"]["tokens"] for entry in entries] == [2 * tokens] * 2
    assert [entry.document["finetuning"]["answers"] for entry in entries] == [dict(labels.document["course"])] * 2
    plain = list(run_trial(complete({**FAST, "pretrain_size": 20, "committee_size": 2}), **at))[-1]
    assert (plain.trained, plain.reused) == (0, 2)
    again = list(run_trial(settings, **{**at, "trainer": BertTrainer(threads=1, device="cpu")}))[-1]
    assert (again.trained, again.reused, again.metrics) == (0, 4, rungs[-1].metrics)


def test_what_teachers_said_is_asked_once_whatever_process_trains(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, store = unlabelled(data), Store(data.root)
    trainer = BertTrainer(threads=1, device="cpu")
    specs = specs_of(data, trainer, range(2))
    teachers = obtain(specs, store=store, data=data, trainer=trainer)
    teaching = Distillation(tuple(member.digest for member in teachers.members), unlabelled=data.unlabelled_fingerprint)
    first = soft_labels(replace(specs[0], teaching=teaching), store=store, data=data, device="cpu")
    monkeypatch.setattr(distillation_module, "predict", None)  # no teacher may answer again
    again = soft_labels(replace(specs[1], teaching=teaching), store=store, data=data, device="cpu")
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.seconds, first.flops) == (again.seconds, again.flops)
    assert len(again.texts) == 50
    assert store.verify() == []
