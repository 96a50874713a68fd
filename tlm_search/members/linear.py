"""The linear member: TF-IDF of words, or of words and word pairs, and logistic regression, fitted on token ids.

It is fitted once for a task and a tokenizer, and stored as ``model`` (the tensors of ``tlm_search.model.linear``) and
``logits``. A *hybrid* combines a plain member with the linear member. Its store entry refers to the plain member and
has only logits: by default the logarithm of the mean of both probabilities. So the mean of any number of hybrids is
half the mean of the plain members and half the linear model.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tlm_search.data.markers import Markers
from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import open_tokenizer
from tlm_search.data.vocabulary.words import pieces_of
from tlm_search.errors import StoreError, TrainingError
from tlm_search.members.baseline import (
    FEWEST_FEATURES,
    LONG_PASS,
    MOST_COEFFICIENTS,
    STRENGTHS,
    of_all_labels,
    of_classes,
    passes_of,
    regression,
)
from tlm_search.members.provenance import provenance
from tlm_search.members.spec import LinearSpec
from tlm_search.members.trainer import LINEAR
from tlm_search.model.batching import batches, rows
from tlm_search.model.linear import LinearWeights, linear_logits, parameters_of, term_keys, term_tables, with_terms
from tlm_search.store.local import Arrays, Entry, Store

_HINT = "set linear_member to false, or check the task's texts"
_DIGITS = 9  # of cross-entropies: smaller differences are ties

Terms = tuple[NDArray[np.int64], NDArray[np.int64]]  # for each occurrence of a term: number of the text, key


def fit_linear(
    spec: LinearSpec, *, data: PreparedData, taught: tuple[TokenArray, NDArray[np.int64]] | None = None
) -> tuple[dict[str, Any], Arrays]:
    """Fit the linear model of ``spec``; return its document and its arrays for the store.

    It learns the labels of the training texts, or the texts and labels of the teachers in ``taught``.

    The candidates are words alone and words with word pairs, each with three strengths of the regularisation. The most
    accurate candidate on validation wins; cross-entropy decides between equal candidates. Pairs are skipped if a fit
    would take long. If entities are marked, words count again by their span; if texts are pairs, by their text. Feature
    values equal those of scikit-learn's ``TfidfVectorizer(sublinear_tf=True)``. The most frequent terms are used, as in
    ``baseline``.

    Raises:
        TrainingError: the training texts have no words, or all have the same label.
        StoreError: the tokenizer or the texts are not in the store.
    """
    began = time.perf_counter()
    texts = {split: TokenArray.open(data.folder(split)) for split in ("train", "validation", "test")}
    labels = {split: data.true_labels(split) for split in texts}
    if taught is not None:
        texts["train"], labels["train"] = taught
    if len(np.unique(labels["train"])) < 2:
        raise TrainingError("the linear model cannot be fitted: all training texts have one label", hint=_HINT)
    pieces = pieces_of(open_tokenizer(data.folder("tokenizer")), special=data.special.values())
    markers, pad = Markers.of(data.special), data.special["pad"]
    weighed = of_classes(spec.class_weights, labels["train"], spec.labels)
    best, chosen, flops = (-1.0, 0.0), {}, 0.0
    for pairs in (False, True):
        tables = term_tables(pieces, pairs=pairs, markers=markers, ordered=spec.ordered, two_texts=data.pairs)
        train, validation = (_terms(tables, texts[split], pad) for split in ("train", "validation"))
        keys, idf = _vocabulary(train, texts=len(texts["train"]), labels=spec.labels)
        known = _matrix(train, keys, idf, len(texts["train"]))
        if pairs and known.nnz * spec.labels > LONG_PASS:
            break
        asked = _matrix(validation, keys, idf, len(texts["validation"]))
        model = regression(passes_of(known, spec.labels), weights=weighed)
        for strength in STRENGTHS:
            coefficients, intercept = _fitted(model, known, labels["train"], strength, spec.labels)
            flops += 4.0 * known.nnz * spec.labels * int(np.max(model.n_iter_))
            score = _score(asked @ coefficients.T + intercept, labels["validation"])
            if score > best:
                best, chosen = score, {"pairs": pairs, "strength": strength, "validation_accuracy": score[0]}
                weights = with_terms(tables, keys, idf=idf, coefficients=coefficients.T, intercept=intercept)
    logits = {split: answers(weights, texts[split], pad=pad) for split in ("validation", "test")}
    document = {
        "spec": spec.to_document(),
        "labels": list(data.labels),
        **chosen,
        "terms": len(weights["idf"]),
        "parameters": parameters_of(weights),
        "seconds": time.perf_counter() - began,
        "flops": flops,
        **provenance(data, "cpu"),
    }
    return document, {"model": {name: value.numpy() for name, value in weights.items()}, "logits": logits}


def linear_entry(spec: LinearSpec, *, store: Store) -> Entry:
    """Return the linear model of ``spec``, to which hybrids refer.

    Raises:
        StoreError: the store has no such model.
    """
    entry = store.read(LINEAR, spec.digest)
    if entry is None:
        raise StoreError(
            f"the linear model {spec.digest} is missing or damaged in the store {store.root}",
            hint="run the space again with --fresh; it reuses all members and fits the linear model again",
        )
    return entry


def linear_weights(entry: Entry) -> LinearWeights:
    """Return the tensors of a stored linear model."""
    weights = {name: torch.from_numpy(value) for name, value in entry.arrays("model").items()}
    if "pair" in weights:
        weights["pair"] = weights["pair"].reshape(())  # older entries hold a list of one number
    return weights


@torch.inference_mode()
def answers(weights: LinearWeights, texts: TokenArray, *, pad: int) -> NDArray[np.float32]:
    """Return the log-probabilities ``(texts, labels)`` of a linear model."""
    said = np.empty((len(texts), len(weights["intercept"])), np.float32)
    for chosen in batches(texts.lengths()):
        said[chosen] = linear_logits(weights, *rows(texts, chosen, pad=pad).tensors()).numpy()
    return said


def _terms(tables: LinearWeights, texts: TokenArray, pad: int) -> Terms:
    numbers, found = [], []
    for chosen in batches(texts.lengths()):
        keys, are_terms = (value.numpy() for value in term_keys(tables, *rows(texts, chosen, pad=pad).tensors()))
        numbers.append(np.broadcast_to(chosen[:, None, None], keys.shape)[are_terms])
        found.append(keys[are_terms])
    return np.concatenate(numbers), np.concatenate(found)


def _vocabulary(train: Terms, *, texts: int, labels: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the ascending keys of the terms, and their inverse document frequencies with scikit-learn's smoothing.

    Raises:
        TrainingError: the texts have no terms.
    """
    keys, term = np.unique(train[1], return_inverse=True)
    if not len(keys):
        raise TrainingError(
            "the linear model cannot be fitted: no training text has a word of two letters or digits", hint=_HINT
        )
    frequency = np.bincount(np.unique(train[0] * len(keys) + term) % len(keys), minlength=len(keys))
    most = max(MOST_COEFFICIENTS // labels, FEWEST_FEATURES)
    kept = np.sort(np.argsort(-frequency, kind="stable")[:most])
    return keys[kept], np.log((1 + texts) / (1 + frequency[kept])) + 1


def _matrix(terms: Terms, keys: NDArray[np.int64], idf: NDArray[np.float64], texts: int) -> Any:
    from scipy.sparse import csr_matrix
    from sklearn.preprocessing import normalize

    index = np.searchsorted(keys, terms[1]).clip(max=len(keys) - 1)
    known = keys[index] == terms[1]
    counts = csr_matrix((np.ones(known.sum()), (terms[0][known], index[known])), shape=(texts, len(keys)))
    counts.data = 1 + np.log(counts.data)
    return normalize(counts.multiply(idf).tocsr()).astype(np.float32)


def _fitted(
    model: Any, rows: Any, truth: NDArray[np.int64], strength: float, labels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the fitted coefficients ``(labels, terms)`` and intercepts of the regression."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # The passes are bounded: a fit that stops before it converges is only slightly more regularised.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(C=strength).fit(rows, truth)
    return of_all_labels(model, labels)


def _score(scores: NDArray[np.floating], truth: NDArray[np.int64]) -> tuple[float, float]:
    """Return the accuracy and the negative cross-entropy."""
    logits = torch.from_numpy(np.asarray(scores, np.float64)).log_softmax(-1).numpy()
    entropy = -float(logits[np.arange(len(truth)), truth].mean())
    return float((logits.argmax(-1) == truth).mean()), -round(entropy, _DIGITS)
