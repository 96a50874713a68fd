"""Word vectors from counts follow the definition on a small corpus, in whichever way they are computed."""

import math
import mmap
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from small_texts import TRAIN, array_of

from tlm_search.data.tokens import TokenArray
from tlm_search.model.weights import initial_std
from tlm_search.training import cooccurrence
from tlm_search.training.cooccurrence import word_vectors

SPECIAL = range(5)
OPTIONS: dict[str, Any] = {"vocabulary": 40, "special": SPECIAL}


def pairs(corpus: TokenArray, window: int) -> Iterator[tuple[int, int]]:
    for text in range(len(corpus)):
        ids = corpus[text].tolist()
        for i, one in enumerate(ids):
            for j, other in enumerate(ids):
                if i != j and abs(i - j) <= window and one not in SPECIAL and other not in SPECIAL:
                    yield one, other


def information_of(corpus: TokenArray, *, window: int = 8, power: float = 0.75) -> np.ndarray:
    """Return the positive pointwise mutual information by its definition, (vocabulary, vocabulary)."""
    counts = np.zeros((40, 40))
    for one, other in pairs(corpus, window):
        counts[one, other] += 1
    joint, word = counts / counts.sum(), counts.sum(axis=1) / counts.sum()
    context = word**power / (word**power).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.maximum(np.log(joint / np.outer(word, context)), 0), nan=0.0)


def vectors_of(information: np.ndarray, width: int) -> np.ndarray:
    left, values, _ = np.linalg.svd(information)
    vectors = left[:, :width] * np.sqrt(values[:width])
    known = information.any(axis=1)
    vectors[known] -= vectors[known].mean(axis=0)
    vectors *= initial_std(width) * math.sqrt(width) / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    return np.where(known[:, None], vectors, 0)


@pytest.mark.parametrize(("window", "power"), [(8, 0.75), (2, 0.75), (8, 1.0)])
def test_the_vectors_are_those_of_the_definition(window: int, power: float) -> None:
    """The definition leaves the signs of the columns open."""
    expected = vectors_of(information_of(TRAIN, window=window, power=power), 8)
    found = word_vectors(TRAIN, **OPTIONS, width=8, window=window, power=power)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=2e-3)
    assert found.dtype == np.float32


def test_a_vector_is_as_long_as_a_fresh_row_and_their_mean_is_that_of_directions() -> None:
    found = word_vectors(TRAIN, **OPTIONS, width=8)
    lengths = np.linalg.norm(found, axis=1)
    known = np.setdiff1d(np.unique(TRAIN.ids), SPECIAL)
    np.testing.assert_allclose(lengths[known], initial_std(8) * math.sqrt(8), rtol=1e-5)
    assert not lengths[:5].any()
    assert not np.delete(lengths, known).any(), "of words that do not occur nothing is known"


def test_words_of_one_label_are_near_each_other() -> None:
    found = word_vectors(TRAIN, **OPTIONS, width=8)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-9)
    likeness = unit @ unit.T
    inside = np.mean([likeness[a : a + 5, a : a + 5].mean() for a in (10, 15, 20)])
    assert inside > likeness[10:15, 15:25].mean() + 0.3


def test_neighbours_end_at_a_texts_end_and_special_tokens_are_none() -> None:
    generator = np.random.default_rng(0)
    texts = [[2, *np.where(generator.random(9) < 0.2, 1, generator.integers(5, 15, 9)).tolist(), 3] for _ in range(9)]
    found = word_vectors(array_of(texts), **OPTIONS, width=8, window=3)
    expected = vectors_of(information_of(array_of(texts), window=3), 8)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)
    np.testing.assert_array_equal(found, word_vectors(array_of(texts[::-1]), **OPTIONS, width=8, window=3))


@pytest.mark.parametrize("threads", [1, 3])
def test_the_bits_do_not_depend_on_threads(threads: int) -> None:
    before = torch.get_num_threads()
    ids = np.random.default_rng(0).zipf(1.2, 20_000) % 600 + 5
    corpus, options = TokenArray(ids.astype(np.uint16), np.arange(0, 20_001, 50)), {"vocabulary": 605, "width": 32}
    one = word_vectors(corpus, **options, special=SPECIAL)
    try:
        torch.set_num_threads(threads)
        np.testing.assert_array_equal(word_vectors(corpus, **options, special=SPECIAL), one)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_largest_entry_of_each_direction_is_positive() -> None:
    matrix = torch.from_numpy(information_of(TRAIN)).float()
    for sign in (1, -1):
        vectors = cooccurrence._left_vectors(sign * matrix, 6)
        assert (np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0) > 0).all()


@pytest.mark.parametrize(("name", "size"), [("_BLOCK_TOKENS", 50), ("_BLOCK_CELLS", 70), ("_SIDE", 3)])
def test_blocks_do_not_change_the_vectors(monkeypatch: pytest.MonkeyPatch, name: str, size: int) -> None:
    whole = word_vectors(TRAIN, **OPTIONS, width=8)
    monkeypatch.setattr(cooccurrence, name, size)
    np.testing.assert_array_equal(word_vectors(TRAIN, **OPTIONS, width=8), whole)


def test_a_prefix_of_a_corpus_is_a_corpus() -> None:
    ids = np.concatenate([[7, 7, 7], TRAIN.ids]).astype(np.uint16)
    behind = TokenArray(ids[3:], TRAIN.offsets + 3)
    np.testing.assert_array_equal(word_vectors(behind, **OPTIONS, width=8), word_vectors(TRAIN, **OPTIONS, width=8))


@pytest.mark.parametrize("limit", [{"COUNTED_CONTEXTS": 12}, {"COUNTED_CELLS": 30 * 12}])
def test_contexts_are_the_most_frequent_words_and_no_more(
    monkeypatch: pytest.MonkeyPatch, limit: dict[str, int]
) -> None:
    ((name, most),) = limit.items()
    monkeypatch.setattr(cooccurrence, name, most)
    sizes = []
    taken = mmap.mmap

    def counted(fileno: int, length: int) -> mmap.mmap:
        sizes.append(length)
        return taken(fileno, length)

    monkeypatch.setattr(cooccurrence.mmap, "mmap", counted)
    found = word_vectors(TRAIN, **OPTIONS, width=8)
    assert sizes == [4 * 30 * 12], "30 words occur"
    times = np.bincount(TRAIN.ids, minlength=40)
    times[:5] = 0
    expected = vectors_of(information_of(TRAIN)[:, np.argsort(-times, kind="stable")[:12]], 8)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=2e-3)


def test_a_larger_corpus_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "_BLOCK_TOKENS", 2_000)

    def peak(texts: int) -> int:
        generator = np.random.default_rng(0)
        ids = generator.integers(5, 40, texts * 20).astype(np.uint16)
        corpus = TokenArray(ids, np.arange(texts + 1) * 20)
        tracemalloc.start()
        word_vectors(corpus, **OPTIONS, width=8)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(4_000) < 1.2 * peak(200)


@pytest.mark.parametrize(
    "texts",
    [
        [[2, 10, 11, 3], [2, 12, 10, 3], [2, 13, 3]],
        [[2, 10, 3]],
        [[2, 3], [1]],
        [[10, 10, 10]],
        [[10, 11]],
    ],
    ids=["three documents", "one word", "no word", "one word again and again", "two words"],
)
def test_a_corpus_that_says_little_gives_what_it_can(texts: list[list[int]]) -> None:
    found = word_vectors(array_of(texts), **OPTIONS, width=16)
    assert found.shape == (40, 16)
    assert np.isfinite(found).all()
    assert not found[:5].any()
    assert not found[14:].any()
    lengths = np.linalg.norm(found, axis=1)
    full = initial_std(16) * math.sqrt(16)
    assert all(math.isclose(length, full, rel_tol=1e-5) for length in lengths[lengths > 0])
