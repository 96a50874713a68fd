"""The real trainer where things go wrong: interrupted, or short of memory."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from machines import On
from test_train import FAST, specs_of

from tlm_search.data.prepared import PreparedData
from tlm_search.errors import OutOfMemoryError
from tlm_search.members import bert_trainer, precision
from tlm_search.members.bert_trainer import PRETRAINED, BertTrainer
from tlm_search.members.train import obtain
from tlm_search.members.trainer import KIND
from tlm_search.model.architecture import Architecture
from tlm_search.search.trial import run_trial
from tlm_search.space.settings import complete
from tlm_search.store.local import Store
from tlm_search.store.shared import open_store
from tlm_search.training.checkpoint import Checkpoint
from tlm_search.training.speed import Load

PRETRAINING = {"pretrain_size": 20, "pretrain_epochs": 2, "pretrain_batch_size": 4, "pretrain_dropout": 0.1}
CPU = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."


class KilledError(Exception):
    pass


def members(data: PreparedData, store: Store, *, stack: int = 1, **settings: Any) -> tuple[np.ndarray, ...]:
    trainer = BertTrainer(threads=1, device="cpu", checkpoint_seconds=0)
    specs = specs_of(data, trainer, range(2), **PRETRAINING, **settings)
    obtained = obtain(specs, store=store, data=data, trainer=trainer, stack=stack)
    return tuple(member.test_logits for member in obtained.members)


def scratch(store: Store) -> list[Path]:
    return [file for file in store.root.glob("scratch/*/*") if file.is_file()]


@pytest.mark.parametrize(("stack", "deaths"), [(1, (3, 16)), (2, (3, 7))])
def test_an_interrupted_pre_training_goes_on(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch, stack: int, deaths: tuple[int, int]
) -> None:
    """The process dies in the pre-training of each member, or twice while both train: the result has the same bits."""
    undisturbed = members(data, Store(data.root / "undisturbed"), stack=stack)
    store, saves = Store(data.root / "killed"), []
    save = Checkpoint.save

    def killing(self: Checkpoint, snapshot: Any) -> None:
        save(self, snapshot)
        saves.append(len(snapshot.losses))
        if len(saves) in deaths:
            raise KilledError

    monkeypatch.setattr(Checkpoint, "save", killing)
    for _ in range(2):
        with pytest.raises(KilledError):
            members(data, store, stack=stack)
        assert len(scratch(store)) == 1
    for one, other in zip(members(data, store, stack=stack), undisturbed, strict=True):
        np.testing.assert_array_equal(one, other)
    assert saves[3] == saves[2] + 1, "it begins after the last checkpoint"
    assert not scratch(store)


@pytest.mark.parametrize("stack", [1, 3])
def test_members_with_one_pre_training_are_told_apart_by_fine_tuning(
    data: PreparedData, tmp_path: Path, stack: int
) -> None:
    store, trainer = Store(tmp_path), BertTrainer(threads=1, device="cpu")
    settings = complete({**FAST, **PRETRAINING, "committee_size": 3, "pretrain_seeds": 1})
    *_, whole = run_trial(settings, seed=0, data=data, store=store, trainer=trainer, prunable=False, chunks=3 // stack)
    assert len(list(store.entries(PRETRAINED))) == 1
    members = [store.read(KIND, digest) for digest in whole.members]
    assert len({member.arrays("logits")["test"].tobytes() for member in members if member}) == 3
    # The pre-training counts once, for committees of every size.
    phases = [(m.document["pretraining"]["flops"], m.document["finetuning"]["flops"]) for m in members if m]
    shared = phases[0][0]
    assert [scores.figures["training_flops"] for scores in whole.frontier] == [
        pytest.approx(shared + sum(own for _, own in phases[:size])) for size in (1, 2, 3)
    ]
    assert whole.metrics["training_flops"] == whole.frontier[-1].figures["training_flops"]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError(CPU), MemoryError()]
)
def test_out_of_memory_is_tried_again_in_pieces(
    data: PreparedData,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    micro_batches = short_of_memory(monkeypatch, error, below=2)
    found = members(data, Store(data.root / "short"))
    assert micro_batches == [1, bert_trainer.MICRO_BATCHES] * 2
    assert all(np.isfinite(logits).all() for logits in found)


def test_what_does_not_fit_in_pieces_either_says_so(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    micro_batches = short_of_memory(monkeypatch, RuntimeError(CPU), below=99)
    with pytest.raises(OutOfMemoryError, match=r"even with batches in 4 micro-batches: .*can't allocate") as caught:
        members(data, Store(data.root / "short"))
    assert micro_batches == [1, bert_trainer.MICRO_BATCHES]
    assert caught.value.hint is not None


def test_another_runtime_error_is_no_lack_of_memory(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    short_of_memory(monkeypatch, RuntimeError("a bug"), below=99)
    with pytest.raises(RuntimeError, match="a bug"):
        members(data, Store(data.root / "bug"))


def test_the_precision_is_measured_once_and_a_checkpoint_keeps_its_own(
    data: PreparedData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, together = [], set()

    def faster(architecture: Architecture, load: Load, device: str, *, members: int) -> str:
        asked.append(load.objective)
        together.add(members)
        return "bfloat16"

    monkeypatch.setattr(precision, "can_gain", lambda *_, **__: True)
    monkeypatch.setattr(precision, "faster_precision", faster)
    store = Store(data.root)
    members(data, store)
    members(data, store, finetune_learning_rate=3e-3)
    assert asked == ["pretraining", "finetuning"]
    assert together == {precision.TOGETHER}, "as narrow members are trained"
    assert {entry.document["precision"] for entry in store.entries("pretrained")} == {"bfloat16"}


def short_of_memory(monkeypatch: pytest.MonkeyPatch, error: Exception, *, below: int) -> list[int]:
    """Let fine-tuning run out of memory below this many micro-batches; return the numbers that were tried."""
    micro_batches: list[int] = []
    whole = bert_trainer.finetune

    def short(*arguments: Any, execution: Any, **named: Any) -> Any:
        micro_batches.append(execution.micro_batches)
        if execution.micro_batches < below:
            raise error
        return whole(*arguments, execution=execution, **named)

    monkeypatch.setattr(bert_trainer, "finetune", short)
    return micro_batches


def test_a_pre_training_that_died_goes_on_on_another_machine(
    data: PreparedData, on: On, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = members(data, Store(data.root / "undisturbed"))
    save = Checkpoint.save
    saves = []

    def killing(self: Checkpoint, snapshot: Any) -> None:
        save(self, snapshot)
        saves.append(len(snapshot.losses))
        if len(saves) == 3:
            raise KilledError

    monkeypatch.setattr(Checkpoint, "save", killing)
    with pytest.raises(KilledError):
        members(data, open_store(on("a") / ".store"))
    there = open_store(on("b") / ".store")
    for one, other in zip(members(data, there), undisturbed, strict=True):
        np.testing.assert_array_equal(one, other)
    assert saves[3] == saves[2] + 1, "it begins after the last checkpoint"
    assert not scratch(there)


@pytest.mark.parametrize(("share", "stacked"), [(1.0, 8), (0.02, 8), (0.0066, 2), (0.001, 1)])
def test_on_a_gpu_as_many_members_are_stacked_as_its_share_holds(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch, share: float, stacked: int
) -> None:
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80e9))
    trainer = BertTrainer(threads=1, device="cuda", share=share)
    (spec,) = specs_of(data, trainer, range(1), width=512, head_size=64)
    assert trainer.stack(spec) == stacked
    assert shares == ([share] if share < 1 else [])


def test_each_update_is_told_with_the_tokens_up_to_it(data: PreparedData, tmp_path: Path) -> None:
    trainer, steps = BertTrainer(threads=1, device="cpu"), []
    trainer.tell = steps.append
    specs = specs_of(data, trainer, range(2), **PRETRAINING)
    obtained = obtain(specs, store=Store(tmp_path), data=data, trainer=trainer, stack=2)
    by_phase = {phase: [step for step in steps if step.phase == phase] for phase in ("pre-training", "fine-tuning")}
    for told in by_phase.values():
        assert [step.update for step in told] == list(range(1, told[0].updates + 1))
        assert {step.seeds for step in told} == {(0, 1)}
        assert [step.tokens for step in told] == sorted(step.tokens for step in told)
    assert by_phase["pre-training"][0].updates == 10
    assert sum(told[-1].tokens for told in by_phase.values()) == obtained.tokens
