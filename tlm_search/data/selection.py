"""Order the documents of a corpus: at random, or the documents most similar to the task first. No torch here.

The task is represented by its training texts alone, so that validation and test influence nothing. A *type* is a token
id that is not special. Documents are compared as members see them: cut to the tokenizer's length. Let T be the types of
the task and f(t) the share of type t in its tokens. A document d with the types D has the score

    overlap            |D & T| / |T|, the share of the task's types that d contains
    weighted_overlap   the sum of f(t) over the types t in D, the share of the task's tokens whose type d contains
    tfidf              the cosine of the TF-IDF vector of d and the mean TF-IDF vector of the task's texts, each of
                       length 1

TF is the number of occurrences, IDF ln((1 + n) / (1 + n_t)) + 1 for a type in n_t of the corpus's n documents (Salton
and Buckley 1988, "Term-weighting approaches in automatic text retrieval", with scikit-learn's smoothing). Documents of
equal score keep the corpus's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tlm_search.data.overlap import count_tokens
from tlm_search.data.tokens import TokenArray

Selection = Literal["random", "overlap", "weighted_overlap", "tfidf"]
Floats = NDArray[np.float64]

_SEED = 42  # the paper's
_BLOCK = 1 << 20  # tokens at once
_DIGITS = 12  # scores that differ less are ties, because machines round sums differently


def document_order(
    selection: Selection, corpus: TokenArray, task: TokenArray, *, vocabulary: int, special: Iterable[int]
) -> NDArray[np.int64]:
    """Return the numbers of the corpus's documents in the order of the selection, int64 ``(documents,)``.

    ``task`` holds the texts of the training split. Each array is read once (``tfidf`` reads the corpus twice).
    """
    if selection == "random":
        return np.random.default_rng(_SEED).permutation(len(corpus))
    left_out = tuple(special)
    if selection == "tfidf":
        scores = _tfidf_scores(corpus, task, vocabulary=vocabulary, special=left_out)
    else:
        counts = count_tokens(task.ids, vocabulary=vocabulary, special=left_out)
        values = (counts > 0) if selection == "overlap" else counts
        weights = values / max(int(values.sum()), 1)
        scores = np.concatenate(
            [np.bincount(rows, weights[types], minlength=size) for size, rows, types, _ in _blocks(corpus, left_out)]
        )
    return np.argsort(-np.round(scores, _DIGITS), kind="stable")


def _tfidf_scores(corpus: TokenArray, task: TokenArray, *, vocabulary: int, special: tuple[int, ...]) -> Floats:
    holding = np.zeros(vocabulary, dtype=np.int64)
    for _, _, types, _ in _blocks(corpus, special):
        holding += np.bincount(types, minlength=vocabulary)
    idf = np.log((1 + len(corpus)) / (1 + holding)) + 1
    mean = np.zeros(vocabulary)
    for size, rows, types, times in _blocks(task, special):
        mean += np.bincount(types, _normalised(times * idf[types], rows, size), minlength=vocabulary)
    mean /= max(float(np.sqrt((mean**2).sum())), np.finfo(np.float64).tiny)
    return np.concatenate(
        [
            np.bincount(rows, _normalised(times * idf[types], rows, size) * mean[types], minlength=size)
            for size, rows, types, times in _blocks(corpus, special)
        ]
    )


def _normalised(values: Floats, rows: NDArray[np.int64], size: int) -> Floats:
    lengths = np.sqrt(np.bincount(rows, values**2, minlength=size))
    return np.asarray(values / lengths[rows])


def _blocks(
    texts: TokenArray, special: tuple[int, ...]
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield blocks of texts: the number of texts, and for each type of a text the text, the type and its count."""
    start = 0
    while start < len(texts):
        end = int(np.searchsorted(texts.offsets, texts.offsets[start] + _BLOCK, side="right")) - 1
        end = min(max(end, start + 1), len(texts))
        ids = np.asarray(texts.ids[texts.offsets[start] : texts.offsets[end]], dtype=np.int64)
        rows = np.repeat(np.arange(end - start), np.diff(texts.offsets[start : end + 1]))
        kept = ~np.isin(ids, special)
        rows, ids = rows[kept], ids[kept]
        base = int(ids.max(initial=0)) + 1
        pairs, times = np.unique(rows * base + ids, return_counts=True)
        yield end - start, pairs // base, pairs % base, times
        start = end
