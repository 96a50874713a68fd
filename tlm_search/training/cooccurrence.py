"""Word vectors from co-occurrence counts, to initialise the embedding table.

Counts of neighbouring words become positive pointwise mutual information, and its truncated singular value
decomposition becomes vectors (Levy and Goldberg 2014, "Neural word embedding as implicit matrix factorization"; context
counts are smoothed as in Levy, Goldberg and Dagan 2015). The decomposition uses subspace iteration from a random start
(Halko, Martinsson and Tropp 2011, arXiv 0909.4061, algorithm 4.4).

The counts are a dense matrix of words and contexts, which becomes mutual information in place. Products with it are
faster than with a sparse matrix. Contexts are the most frequent words: at most ``COUNTED_CONTEXTS``, and at most as
many as fit into ``COUNTED_CELLS`` cells (1 GiB). The corpus is read in blocks.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlm_search.data.tokens import TokenArray
from tlm_search.model.footprint import COUNTED_CELLS, COUNTED_CONTEXTS
from tlm_search.model.weights import initial_std

WINDOW = 8  # tokens on each side
POWER = 0.75  # exponent that smooths the counts of contexts
_BLOCK_TOKENS = 2**19  # tokens counted at once
_BLOCK_CELLS = 2**23  # cells converted at once
_MORE_DIRECTIONS = 16  # directions of the iteration in addition to the width
_ITERATIONS = 3
_START = 0  # seed of the random start
_SIDE = 1024  # of the squares mirrored at once
_SMALL = 1e-6  # of the largest singular value; smaller values are rounding errors

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def word_vectors(
    corpus: TokenArray,
    *,
    vocabulary: int,
    width: int,
    special: Collection[int],
    window: int = WINDOW,
    power: float = POWER,
) -> Floats:
    """Return a vector for each word, ``(vocabulary, width)``; zeros for words that ``corpus`` lacks.

    The ``special`` tokens get no vectors and are no contexts. ``window`` is in tokens on each side. The vectors are
    centred, then scaled to the length of a random row of an embedding table. If the corpus has fewer independent
    directions than ``width``, the last columns are zero. On the same machine equal corpora give equal bits, for any
    number of threads.
    """
    table = np.zeros((vocabulary, width), np.float32)
    words = _by_frequency(corpus, vocabulary, special)
    if not len(words):
        return table
    contexts = min(COUNTED_CONTEXTS, max(1, COUNTED_CELLS // len(words)), len(words))
    # A separate mapping returns its memory to the system, even if the C library keeps freed memory.
    memory = mmap.mmap(-1, 4 * len(words) * contexts)
    counts = np.frombuffer(memory, np.uint32).reshape(len(words), contexts)
    neighbours = _count(counts, corpus, words, vocabulary=vocabulary, window=window)
    vectors = _left_vectors(torch.from_numpy(_to_information(counts, neighbours, power)), width)
    known = vectors.any(axis=1)
    if not known.any():
        return table
    centred = vectors[known] - vectors[known].mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    lengths[lengths <= _SMALL * lengths.max()] = np.inf
    table[words[known], : vectors.shape[1]] = centred / lengths * (initial_std(width) * math.sqrt(width))
    return table


def _by_frequency(corpus: TokenArray, vocabulary: int, special: Collection[int]) -> Ints:
    """Return the words of the corpus, the most frequent first."""
    times = np.zeros(vocabulary, np.int64)
    for block in _blocks(corpus):
        times += np.bincount(block.ids, minlength=vocabulary)
    times[list(special)] = 0
    return np.argsort(-times, kind="stable")[: np.count_nonzero(times)]


def _blocks(corpus: TokenArray) -> Iterator[TokenArray]:
    """Yield the texts in blocks of about ``_BLOCK_TOKENS`` tokens."""
    offsets, first = corpus.offsets, 0
    while first < len(corpus):
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _BLOCK_TOKENS, side="right")) - 1)
        ids = corpus.ids[offsets[first] - offsets[0] : offsets[last] - offsets[0]]
        yield TokenArray(ids, offsets[first : last + 1] - offsets[first])
        first = last


def _count(counts: NDArray[np.uint32], corpus: TokenArray, words: Ints, *, vocabulary: int, window: int) -> Ints:
    """Count how often each of ``words`` occurs within ``window`` tokens of each context; contexts are the first words.

    Return the total number of neighbours of each word, including those that are no contexts.
    """
    rank, contexts = np.full(vocabulary, -1), counts.shape[1]
    rank[words] = np.arange(len(words))
    cells, neighbours = counts.reshape(-1), np.zeros(len(words), np.int64)
    for block in _blocks(corpus):
        # The gap keeps the window of a word inside its own text.
        ranks = np.full(len(block.ids) + window * len(block), -1)
        ranks[np.arange(len(block.ids)) + window * np.repeat(np.arange(len(block)), block.lengths())] = rank[block.ids]
        for distance in range(1, window + 1):
            one, other = ranks[:-distance], ranks[distance:]
            both = np.flatnonzero((one >= 0) & (other >= 0))
            frequent, rare = np.minimum(one[both], other[both]), np.maximum(one[both], other[both])
            for part in (frequent, rare):
                neighbours += np.bincount(part, minlength=len(words))
            # Count only in the row of the rarer word, to write half of the counts and near each other in memory.
            counted = frequent < contexts
            np.add.at(cells, rare[counted] * contexts + frequent[counted], np.uint32(1))
    _mirror(counts[:contexts])
    return neighbours


def _mirror(square: NDArray[np.uint32]) -> None:
    """Add the transpose in place. All counts are on or below the diagonal."""
    for first in range(0, len(square), _SIDE):
        own = slice(first, first + _SIDE)
        square[own, own] += square[own, own].T.copy()
        for other in range(first + _SIDE, len(square), _SIDE):
            square[own, other : other + _SIDE] = square[other : other + _SIDE, own].T


def _blocks_of_rows(matrix: NDArray[np.uint32]) -> Iterator[slice]:
    step = max(1, _BLOCK_CELLS // matrix.shape[1])
    for first in range(0, len(matrix), step):
        yield slice(first, first + step)


def _to_information(counts: NDArray[np.uint32], neighbours: Ints, power: float) -> Floats:
    """Convert ``counts`` in place to positive pointwise mutual information, and return it."""
    information: Floats = counts.view(np.float32)
    smoothed = neighbours**power
    with np.errstate(divide="ignore", invalid="ignore"):
        of_words = np.log(neighbours).astype(np.float32)
        of_contexts = np.log(smoothed[: counts.shape[1]] / smoothed.sum()).astype(np.float32)
        for rows in _blocks_of_rows(counts):
            value = np.log(counts[rows], dtype=np.float32)
            value -= of_words[rows, None]
            value -= of_contexts
            # fmax turns minus infinity (words that are never neighbours) and NaN (words without neighbours) into 0.
            np.fmax(value, 0, out=information[rows])
    return information


def _left_vectors(matrix: Tensor, width: int) -> Floats:
    """Return the first left singular vectors times the square roots of the singular values: ``(rows, <= width)``."""
    directions = min(width + _MORE_DIRECTIONS, *matrix.shape)
    with _one_thread():
        start = torch.randn(matrix.shape[1], directions, generator=torch.Generator().manual_seed(_START))
        basis, _ = torch.linalg.qr(matrix @ start)
        for _ in range(_ITERATIONS):
            basis, _ = torch.linalg.qr(matrix.T @ basis)
            basis, _ = torch.linalg.qr(matrix @ basis)
        left, values, _ = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
        left, values = left[:, :width], values[:width]
        values = torch.where(values > _SMALL * values.max(), values, 0)
        vectors = basis @ left * values.sqrt()
    # The sign of a singular vector is arbitrary: make its largest entry positive.
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    signed: Floats = (vectors * torch.where(largest < 0, -1.0, 1.0)).numpy()
    return signed


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
