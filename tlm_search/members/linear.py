"""The linear member: TF-IDF of words, or of words and word pairs, and logistic regression, fitted on token ids.

It is fitted once for a task and a tokenizer and kept in the store, as ``model`` (the tensors of
``tlm_search.model.linear``) and ``logits``. A *hybrid* is a member with it: its entry in the store refers to the plain
member and has logits alone, the logarithm of half of each one's probabilities. The mean of hybrids is then half the
mean of the plain members and half the linear model, whatever their number.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokenizer import open_tokenizer
from tlm_search.data.tokens import TokenArray
from tlm_search.data.words import pieces_of
from tlm_search.errors import TrainingError
from tlm_search.members.provenance import provenance
from tlm_search.members.spec import LinearSpec
from tlm_search.members.store import Arrays, Entry
from tlm_search.model.batching import batches, rows
from tlm_search.model.linear import LinearWeights, linear_logits, parameters_of, term_keys, term_tables, with_terms

_STRENGTHS = (1.0, 10.0, 100.0)  # C of the logistic regression, the inverse of its penalty
_ITERATIONS = 200
_LEAST_TEXTS = 2  # training texts that a word pair is in: most are in one alone, and say nothing of other texts
_NEVER = -1e4  # the score of a label that no training text has

Terms = tuple[NDArray[np.int64], NDArray[np.int64]]  # of each term that occurs: the text's number, and the key


def fit_linear(spec: LinearSpec, *, data: PreparedData) -> tuple[dict[str, Any], Arrays]:
    """Fit the linear model of ``spec``: its document and its arrays, as the store keeps them.

    Of words alone and of words with word pairs, and of three strengths of the penalty, the best on validation is taken,
    of equal ones the first. The value of a term is that of scikit-learn's ``TfidfVectorizer(sublinear_tf=True)``.

    Raises:
        TrainingError: the training texts have no words.
        StoreError: the tokenizer or the texts are not in the store.
    """
    began = time.perf_counter()
    texts = {split: TokenArray.open(data.folder(split)) for split in ("train", "validation", "test")}
    labels = {split: np.load(data.folder(split) / "labels.npy") for split in texts}
    pieces = pieces_of(open_tokenizer(data.folder("tokenizer")), special=data.special.values())
    chosen: dict[str, Any] = {"validation_accuracy": -1.0}
    words: NDArray[np.int64] = np.zeros(0, np.int64)
    flops = 0.0
    for pairs in (False, True):
        tables = term_tables(pieces, pairs=pairs)
        train, validation = (_terms(tables, texts[split], data.special["pad"]) for split in ("train", "validation"))
        keys, idf = _vocabulary(train, always=words, texts=len(texts["train"]))
        if not len(keys):
            raise TrainingError(
                "the linear model cannot be fitted: no training text has a word of two letters or digits",
                hint="take linear_member out of the space, or look at the task's texts",
            )
        words = words if pairs else keys
        known = _matrix(train, keys, idf, len(texts["train"]))
        asked = _matrix(validation, keys, idf, len(texts["validation"]))
        for strength in _STRENGTHS:
            model = _regression(known, labels["train"], strength)
            flops += 4.0 * known.nnz * spec.labels * int(np.max(model.n_iter_))
            accuracy = float(np.mean(model.predict(asked) == labels["validation"]))
            if accuracy > chosen["validation_accuracy"]:
                chosen = {"pairs": pairs, "strength": strength, "validation_accuracy": accuracy}
                weights = with_terms(tables, keys, idf=idf, **_coefficients(model, spec.labels))
    logits = {split: answers(weights, texts[split], pad=data.special["pad"]) for split in ("validation", "test")}
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


def linear_weights(entry: Entry) -> LinearWeights:
    """Return the tensors of a linear model as the store holds them."""
    return {name: torch.from_numpy(value) for name, value in entry.arrays("model").items()}


@torch.inference_mode()
def answers(weights: LinearWeights, texts: TokenArray, *, pad: int) -> NDArray[np.float32]:
    """Return the logarithms of the probabilities ``(texts, labels)`` that a linear model gives."""
    said = np.empty((len(texts), len(weights["intercept"])), np.float32)
    for chosen in batches(texts.lengths()):
        ids, mask = map(torch.from_numpy, rows(texts, chosen, pad=pad))
        said[chosen] = linear_logits(weights, ids, mask).numpy()
    return said


def _terms(tables: LinearWeights, texts: TokenArray, pad: int) -> Terms:
    numbers, found = [], []
    for chosen in batches(texts.lengths()):
        ids, mask = map(torch.from_numpy, rows(texts, chosen, pad=pad))
        keys, are_terms = (value.numpy() for value in term_keys(tables, ids, mask))
        numbers.append(np.broadcast_to(chosen[:, None], keys.shape)[are_terms])
        found.append(keys[are_terms])
    return np.concatenate(numbers), np.concatenate(found)


def _vocabulary(
    train: Terms, *, always: NDArray[np.int64], texts: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the different keys, rising, and the inverse document frequency of each as scikit-learn smooths it.

    Besides those that are ``always`` wanted, where these are given, only keys that enough texts have are kept.
    """
    keys, term = np.unique(train[1], return_inverse=True)
    frequency = np.bincount(np.unique(train[0] * len(keys) + term) % len(keys), minlength=len(keys))
    kept = np.isin(keys, always) | (frequency >= (_LEAST_TEXTS if len(always) else 1))
    return keys[kept], np.log((1 + texts) / (1 + frequency[kept])) + 1


def _matrix(terms: Terms, keys: NDArray[np.int64], idf: NDArray[np.float64], texts: int) -> Any:
    from scipy.sparse import csr_matrix
    from sklearn.preprocessing import normalize

    place = np.searchsorted(keys, terms[1]).clip(max=len(keys) - 1)
    known = keys[place] == terms[1]
    counts = csr_matrix((np.ones(known.sum()), (terms[0][known], place[known])), shape=(texts, len(keys)))
    counts.data = 1 + np.log(counts.data)
    return normalize(counts.multiply(idf).tocsr())


def _regression(matrix: Any, labels: NDArray[np.int64], strength: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # Where it stopped early it is judged on validation like the others.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=_ITERATIONS).fit(matrix, labels)


def _coefficients(model: Any, labels: int) -> Mapping[str, NDArray[np.float64]]:
    """Return coefficients and intercepts for all labels, also for those that no training text has."""
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # of two labels scikit-learn keeps the second alone
        weight, bias = np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])
    coefficients, intercept = np.zeros((weight.shape[1], labels)), np.full(labels, _NEVER)
    coefficients[:, model.classes_], intercept[model.classes_] = weight.T, bias
    return {"coefficients": coefficients, "intercept": intercept}
