"""Word vectors are computed once, and each member starts from its own rotation of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_train import specs_of

from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.members.bert_trainer import BertTrainer
from tlm_search.members.train import MemberResult, obtain
from tlm_search.members.trainer import KIND as MEMBERS
from tlm_search.members.word_vectors import KIND, vectors_of
from tlm_search.store.local import Store
from tlm_search.training import cooccurrence
from tlm_search.training.checkpoint import Checkpoint

COUNTS: dict[str, Any] = {"initial_embeddings": "cooccurrence", "pretrain_size": 20, "pretrain_epochs": 0}
SHAPES = [
    {},
    {"depth": 3, "layer_weights": "shared"},
    {"convolution_layers": 1, "convolution_channels": 2, "normalisation": "pre"},
]


def members(data: PreparedData, store: Store, *, seeds: range = range(2), **settings: Any) -> tuple[MemberResult, ...]:
    trainer = BertTrainer(threads=1, device="cpu", checkpoint_seconds=0)
    specs = specs_of(data, trainer, seeds, **{**COUNTS, **settings})
    return obtain(specs, store=store, data=data, trainer=trainer).members


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The widths for which vectors were made."""
    widths: list[int] = []
    whole = cooccurrence.word_vectors

    def counted(corpus: TokenArray, *, width: int, **options: Any) -> Any:
        widths.append(width)
        return whole(corpus, width=width, **options)

    monkeypatch.setattr(cooccurrence, "word_vectors", counted)
    return widths


@pytest.mark.parametrize("shape", SHAPES, ids=["plain", "deep, shared", "convolution, pre-norm"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_members_of_all_shapes_start_from_them(data: PreparedData, shape: dict[str, Any], epochs: int) -> None:
    store = Store(data.root)
    found = members(data, store, **shape, pretrain_epochs=epochs)
    assert all(np.isfinite(member.test_logits).all() for member in found)
    (entry,) = store.entries(KIND)
    for member in found:
        course = member.document["pretraining"]
        assert bool(course["losses"]) == bool(epochs)
        assert course["seconds"] >= entry.document["seconds"] > 0
        assert (course["tokens"] > 0) == (course["flops"] > 0) == bool(epochs)


def test_what_counts_alone_leave_is_the_vectors_rotated(data: PreparedData) -> None:
    store = Store(data.root)
    members(data, store)
    (entry,) = store.entries(KIND)
    vectors = vectors_of(entry)
    known = np.flatnonzero(vectors.any(axis=1))
    tables = [entry.arrays("model")["bert.embeddings.word_embeddings.weight"] for entry in store.entries("pretrained")]
    assert len(tables) == 2
    for table in tables:
        np.testing.assert_allclose(table[known] @ table[known].T, vectors[known] @ vectors[known].T, atol=1e-4)
    assert np.abs(tables[0] - tables[1])[known].max() > 0.1


def test_they_are_made_once_for_a_width_and_a_prefix_of_the_corpus(data: PreparedData, made: list[int]) -> None:
    store = Store(data.root)
    members(data, store)
    members(data, store, seeds=range(2, 3))
    members(data, store, depth=2, pretrain_epochs=1)
    assert made == [16]
    members(data, store, width=32)
    members(data, store, pretrain_size=30)
    assert made == [16, 32, 16]
    assert len(store.sizes(KIND)) == 3
    assert store.verify() == []


def test_without_documents_or_epochs_a_member_is_the_fresh_one(data: PreparedData, made: list[int]) -> None:
    store = Store(data.root)
    fresh = members(data, store, pretrain_size=0)
    assert members(data, store, initial_embeddings="random")[0].digest == fresh[0].digest
    assert not made
    assert len(store.sizes(MEMBERS)) == 2
    assert "pretrained" not in store.kinds()


class KilledError(Exception):
    pass


def test_an_interrupted_pre_training_from_them_goes_on(
    data: PreparedData, made: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {"pretrain_epochs": 2, "pretrain_batch_size": 4}
    undisturbed = members(data, Store(tmp_path / "undisturbed"), **settings)
    store, saves = Store(tmp_path / "killed"), []
    save = Checkpoint.save

    def killing(self: Checkpoint, snapshot: Any) -> None:
        save(self, snapshot)
        saves.append(len(snapshot.losses))
        if len(saves) == 3:
            raise KilledError

    monkeypatch.setattr(Checkpoint, "save", killing)
    with pytest.raises(KilledError):
        members(data, store, **settings)
    for one, other in zip(members(data, store, **settings), undisturbed, strict=True):
        np.testing.assert_array_equal(one.test_logits, other.test_logits)
    assert saves[3] == saves[2] + 1, "it begins after the last checkpoint"
    assert made == [16, 16], "one for each store"
