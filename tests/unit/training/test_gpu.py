"""Training on a GPU, if the machine has one: graphs, stacks, random draws and precision must agree with a CPU."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_texts import CONVOLVED, FINETUNING, MARKERS, PRETRAINING, SHAPE, SPECIAL, TEST, TRAIN, TRAIN_LABELS

from tlm_search.model.architecture import Architecture
from tlm_search.model.weights import Weights
from tlm_search.training import graphs
from tlm_search.training import pretrain as pretraining
from tlm_search.training.batches import BatchSampler, ScoredBatch
from tlm_search.training.checkpoint import Checkpoint
from tlm_search.training.engine import TrainingLog
from tlm_search.training.finetune import finetune, predict
from tlm_search.training.pretrain import pretrain
from tlm_search.training.settings import Execution, Pretraining
from tlm_search.training.speed import Load, faster_precision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

LONG = replace(PRETRAINING, epochs=4)
MUON = replace(LONG, optimiser="muon")
DEEP = replace(SHAPE, depth=2, normalisation="pre", shared_layers=True)
CASES = [(SHAPE, LONG), (CONVOLVED, LONG), (DEEP, LONG), (SHAPE, MUON)]
NAMES = ["plain", "convolution", "pre-norm, shared", "muon"]


def pretrained(
    architecture: Architecture, settings: Pretraining, *seeds: int, device: str = "cuda", **execution: object
) -> tuple[Weights, TrainingLog]:
    return pretrain(
        architecture, settings, TRAIN, special=SPECIAL, seeds=seeds, execution=Execution(device, **execution)
    )


def close(log: TrainingLog, other: TrainingLog, *, within: float) -> None:
    np.testing.assert_allclose(
        [[loss for _, loss in member] for member in log.losses],
        [[loss for _, loss in member] for member in other.losses],
        atol=within,
    )


@pytest.mark.parametrize(("architecture", "settings"), CASES, ids=NAMES)
def test_graphs_compute_what_kernels_one_by_one_do(
    monkeypatch: pytest.MonkeyPatch, architecture: Architecture, settings: Pretraining
) -> None:
    plain, record, recorded = replace(settings, dropout=0.0), graphs.Graphs._record, []

    def noted(self: graphs.Graphs, batch: ScoredBatch) -> object:
        recorded.append(batch.shape)
        return record(self, batch)

    monkeypatch.setattr(graphs.Graphs, "_record", noted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights, log = pretrained(architecture, plain, 1, 2)
    assert 0 < len(recorded) < 5  # graphs for 60 updates
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 0)
    expected, eager = pretrained(architecture, plain, 1, 2)
    close(log, eager, within=1e-3)
    assert all(torch.allclose(weights[name], expected[name], atol=5e-3) for name in weights)


@pytest.mark.parametrize(("architecture", "settings"), CASES, ids=NAMES)
def test_a_gpu_computes_what_a_cpu_does(architecture: Architecture, settings: Pretraining) -> None:
    plain = replace(settings, dropout=0.0)
    close(pretrained(architecture, plain, 1, 2)[1], pretrained(architecture, plain, 1, 2, device="cpu")[1], within=2e-2)


@pytest.mark.parametrize("settings", [LONG, replace(LONG, dropout=0.0)], ids=["dropout", "none"])
def test_a_member_of_a_stack_is_its_solo_twin(settings: Pretraining) -> None:
    """With dropout too: each member draws its own."""

    def logits(seeds: Sequence[int]) -> np.ndarray:
        encoders, _ = pretrained(SHAPE, settings, *seeds)
        short = replace(FINETUNING, epochs=2, dropout=settings.dropout)
        weights, _ = finetune(
            SHAPE,
            short,
            TRAIN,
            TRAIN_LABELS,
            classes=3,
            pad=0,
            seeds=seeds,
            pretrained=encoders,
            execution=Execution("cuda"),
        )
        return predict(SHAPE, weights, TEST, pooling="cls", pad=0)

    stacked = logits((5, 6, 7))
    for index, seed in enumerate((5, 6, 7)):
        np.testing.assert_allclose(stacked[index], logits((seed,))[0], atol=1e-2)


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_bf16_and_pieces_follow_fp32(seeds: Sequence[int]) -> None:
    plain = replace(LONG, dropout=0.0)
    log = pretrained(SHAPE, plain, *seeds)[1]
    close(pretrained(SHAPE, plain, *seeds, precision="bfloat16")[1], log, within=0.1)
    close(pretrained(SHAPE, plain, *seeds, micro_batches=4)[1], log, within=1e-2)


@pytest.mark.parametrize("pooling", ["cls", "mean", "spans"])
def test_fine_tuning_in_graphs_with_hard_and_soft_labels(monkeypatch: pytest.MonkeyPatch, pooling: str) -> None:
    settings = replace(FINETUNING, dropout=0.0, pooling=pooling, epochs=4)
    soft = np.eye(3, dtype=np.float32)[TRAIN_LABELS]

    def log(labels: np.ndarray) -> TrainingLog:
        return finetune(
            SHAPE,
            settings,
            TRAIN,
            labels,
            classes=3,
            pad=0,
            markers=MARKERS,
            seeds=(1, 2),
            pretrained=None,
            execution=Execution("cuda"),
        )[1]

    hard, learned = log(TRAIN_LABELS), log(soft)
    close(hard, learned, within=2e-2)
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 0)
    close(hard, log(TRAIN_LABELS), within=2e-2)


def test_what_cannot_be_recorded_is_computed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout: a failed recording must restore the generators."""
    expected = pretrained(SHAPE, LONG, 1)[1]
    losses = pretraining.mlm_losses

    def waiting(*arguments: object) -> torch.Tensor:
        torch.cuda.synchronize()  # forbidden while a graph is recorded
        return losses(*arguments)

    monkeypatch.setattr(pretraining, "mlm_losses", waiting)
    with pytest.warns(UserWarning, match="no CUDA graph could be recorded"):
        close(pretrained(SHAPE, LONG, 1)[1], expected, within=0.1)  # the dropout differs from that of a graph


@pytest.mark.parametrize("heads", [12, 2])
def test_the_precision_of_a_member_is_measured(heads: int) -> None:
    """Also for a narrow member: alone it waits for the host in either precision."""
    shape = Architecture(1, heads, 64, 256 * heads, 30_522, 128)
    assert faster_precision(shape, Load("pretraining", 16, 0.15), "cuda") == "bfloat16"


def test_a_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    """With dropout: graphs draw from the generators that are in the checkpoint."""

    class EnoughError(Exception):
        pass

    def make_checkpointer(sampler: BatchSampler, dropouts: Sequence[torch.Generator]) -> Checkpoint:
        def saved() -> None:
            if sampler.epoch == 3 and not whole:
                raise EnoughError

        return Checkpoint(tmp_path, key=["gpu"], facts={}, seconds=0, sampler=sampler, dropouts=dropouts, saved=saved)

    whole = False
    expected = pretrained(SHAPE, LONG, 1, 2)[1]
    execution = Execution("cuda")
    with pytest.raises(EnoughError):
        pretrain(
            SHAPE, LONG, TRAIN, special=SPECIAL, seeds=(1, 2), execution=execution, make_checkpointer=make_checkpointer
        )
    whole = True
    log = pretrain(
        SHAPE, LONG, TRAIN, special=SPECIAL, seeds=(1, 2), execution=execution, make_checkpointer=make_checkpointer
    )[1]
    close(log, expected, within=1e-2)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_an_update_does_not_wait_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for single kernels, while a graph is recorded, and when it is repeated."""
    call, updates = graphs.Graphs.__call__, []

    def watched(self: graphs.Graphs, micro_batches: Sequence[ScoredBatch]) -> torch.Tensor:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return call(self, micro_batches)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            updates.append(micro_batches)

    monkeypatch.setattr(graphs.Graphs, "__call__", watched)
    pretrained(SHAPE, LONG, 1, 2)
    assert len(updates) == 60
