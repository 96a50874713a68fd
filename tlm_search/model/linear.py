"""A linear classifier on words (TF-IDF) as tensors. From token ids it gives the same answers as scikit-learn.

Words are joined from their tokens; words of a single character are left out. The key of a word is a polynomial of its
characters modulo 2^64, so it does not depend on how the word was split into tokens. Two words of a vocabulary have the
same key with a probability of about 2^-60. Terms are words and, in some models, pairs of adjacent words. The last bits
of its key give the bucket of a term. Terms are counted by comparing all terms of a text with each other, without a loop
over texts, so that the model can be traced.

The tensors:

- ``pieces`` int64 ``(vocabulary, 3)``: for each token the polynomial of its characters, their number (0 for tokens that
  are no part of a word, such as punctuation and special tokens), and 1 if it begins a word;
- ``powers`` int64 ``(powers,)``: the powers of the polynomial's base;
- ``buckets`` int64 ``(2^b,)``: the start of each bucket in ``keys`` int64 ``(terms + 8,)``; a bucket has up to 8 keys;
- ``idf`` float32 ``(terms,)``, ``coefficients`` float32 ``(terms, labels)``, ``intercept`` float32 ``(labels,)``;
- ``share`` float32 ``()``: the model's share of the votes of a committee; absent if it is half;
- ``pair`` int64 ``()``: the factor for the key of the first word of a pair; only if pairs are terms;
- ``markers`` int64 ``(4,)``: the tokens that mark two entities; and ``roles`` int64 ``(5,)``: a factor for the key of a
  word in each kind of span; only if entities are marked. Each word is then also a term for each span in which it
  begins: the head, the tail, the words between, and the words left and right (``tlm_search.model.spans``). With eight
  ``roles`` these also tell which entity comes first. Pairs of texts have no markers, and two ``roles``: for words of
  the first text and of the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tlm_search.data.markers import Markers
from tlm_search.data.vocabulary.words import Pieces
from tlm_search.model.spans import by_order, find_spans
from tlm_search.space.settings import HALF

LinearWeights = dict[str, Tensor]  # by the names above

_WIDEST = 8  # keys of a bucket
# Numbers of roles of a word: with marked entities, with marked entities in order, and in a pair of texts.
_SPANS, _ORDERED, _TEXTS = 5, 8, 2
_FLOATS = ("idf", "coefficients", "intercept")
_BASE, _PAIR, _SEED = 0xD1342543DE82EF95, 0xF1357AEA2E62A9C5, 0x2545F4914F6CDD1D  # arbitrary odd numbers
_POWERS = 512  # characters of a word with different powers
_TINY = 1e-30


def term_tables(
    pieces: Pieces, *, pairs: bool, markers: Markers | None = None, ordered: bool = False, two_texts: bool = False
) -> LinearWeights:
    """Return the tensors for ``term_keys`` from the vocabulary.

    ``pairs`` adds pairs of words. ``markers``, or ``two_texts`` for pairs of texts, add roles. ``ordered`` roles also
    tell which entity comes first.
    """
    tokens = zip(pieces.texts, pieces.begins.tolist(), strict=True)
    columns = [[_polynomial(text), len(text), int(begins)] for text, begins in tokens]
    powers = np.multiply.accumulate(np.array([1] + [_BASE] * (_POWERS - 1), np.uint64))
    tables = {"pieces": _signed(np.array(columns, np.uint64)), "powers": _signed(powers)}
    if pairs:
        tables["pair"] = _signed(np.array(_PAIR, np.uint64))
    if markers is not None:
        tables["roles"] = _roles(_ORDERED if ordered else _SPANS)
        tables["markers"] = torch.tensor(markers)
    elif two_texts:
        tables["roles"] = _roles(_TEXTS)
    return tables


def with_terms(
    tables: LinearWeights,
    keys: NDArray[np.int64],
    *,
    idf: NDArray[np.floating],
    coefficients: NDArray[np.floating],
    intercept: NDArray[np.floating],
) -> LinearWeights:
    """Return the tensors of a model whose terms have these distinct ``keys``.

    ``idf`` is ``(terms,)``, ``coefficients`` ``(terms, labels)``, ``intercept`` ``(labels,)``.
    """
    buckets = 1 << max(4, len(keys).bit_length())
    while np.bincount(keys & (buckets - 1), minlength=buckets).max() > _WIDEST:
        buckets *= 2
    order = np.lexsort([keys, keys & (buckets - 1)])
    sizes = np.bincount(keys & (buckets - 1), minlength=buckets)
    return {
        **tables,
        "buckets": torch.from_numpy(np.cumsum(sizes) - sizes),
        # A lookup always reads 8 keys from the start of a bucket, so the last bucket needs padding.
        "keys": torch.from_numpy(np.pad(keys[order], (0, _WIDEST))),
        "idf": torch.from_numpy(idf[order].astype(np.float32)),
        "coefficients": torch.from_numpy(np.ascontiguousarray(coefficients[order], np.float32)),
        "intercept": torch.from_numpy(intercept.astype(np.float32)),
    }


def parameters_of(weights: LinearWeights) -> int:
    """Count the parameters: coefficients, intercepts and inverse document frequencies."""
    return sum(weights[name].numel() for name in _FLOATS)


def term_keys(
    weights: LinearWeights, ids: Tensor, mask: Tensor | None, types: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return keys for each text, int64 ``(texts, kinds, length)``, and which of them are terms, bool.

    ``ids`` are int64 ``(texts, length)``. ``mask``, bool, marks the tokens; None means all. ``types``, int64, are 1 for
    the tokens of the second text of a pair; None if the texts are not pairs. The kinds are words, words in each role,
    and pairs of words. Terms of different kinds never have the same key.
    """
    code, characters, begins = weights["pieces"][ids].unbind(-1)
    if mask is not None:
        characters = characters * mask
    within = (characters > 0).long()
    # A token continues a word unless it is marked as a beginning, or it or the token before is not part of a word.
    starts = 1 - within * F.pad(within[:, :-1], (1, 0)) * (1 - begins)
    word = starts.cumsum(1) - 1
    none = torch.zeros_like(ids)
    passed = characters.cumsum(1) - characters
    exponent = passed - none.scatter_add(1, word, passed * starts).gather(1, word)
    keys = none.scatter_add(1, word, code * weights["powers"][exponent.clamp(max=_POWERS - 1)])
    kept = none.scatter_add(1, word, characters) > 1
    terms, are_terms = [keys.unsqueeze(1)], [kept.unsqueeze(1)]
    if "roles" in weights:
        if "markers" in weights:
            # Skip the first span, the whole text.
            spans = find_spans(ids, mask, cast(Markers, weights["markers"].unbind()))[:, 1:]
            if len(weights["roles"]) == _ORDERED:
                spans = by_order(spans)
        else:
            second = none.bool() if types is None else types > 0
            spans = torch.stack([~second, second], 1)
        inside = (spans & (starts > 0).unsqueeze(1)).long()
        inside = torch.zeros_like(inside).scatter_add(2, word.unsqueeze(1).expand_as(inside), inside)
        terms.append(keys.unsqueeze(1) * weights["roles"].unsqueeze(1))
        are_terms.append((inside > 0) & kept.unsqueeze(1))
    if "pair" in weights:
        pairs, are_pairs = _pairs(keys, kept, weights["pair"])
        terms.append(pairs.unsqueeze(1))
        are_terms.append(are_pairs.unsqueeze(1))
    return torch.cat(terms, 1), torch.cat(are_terms, 1)


def _pairs(keys: Tensor, kept: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys of pairs of adjacent words, ``(texts, length)``, and which pairs exist.

    Words that are not ``kept`` are skipped.
    """
    packed = torch.zeros_like(keys).scatter_add(1, (kept.cumsum(1) - 1).clamp(min=0), keys * kept)
    number = torch.arange(1, 1 + keys.shape[1], device=keys.device)
    return packed * factor + F.pad(packed[:, 1:], (0, 1)), number < kept.sum(1, keepdim=True)


def with_share(weights: LinearWeights, share: float) -> LinearWeights:
    """Return the tensors of a model with a ``share`` of the votes of a committee."""
    return weights if share == HALF else {**weights, "share": torch.tensor(share)}


def share_of(weights: LinearWeights) -> Tensor:
    """Return the share ``()`` of a model in the votes of a committee."""
    return weights.get("share", torch.tensor(HALF))


def mixture(members: Tensor, linear: Sequence[Tensor], shares: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the weighted mean of ``members`` and ``linear`` models with the weights ``shares``.

    Inputs are logarithms of probabilities, ``(texts, labels)``; each share is ``()``.
    """
    said = members + (1 - torch.stack(list(shares)).sum()).log()
    for model, share in zip(linear, shares, strict=True):
        said = torch.logaddexp(said, model + share.log())
    return said


def empty(shapes: Mapping[str, Sequence[int]]) -> LinearWeights:
    """Return empty tensors of these ``shapes`` by name, to load a state into.

    Raises:
        KeyError: a shape is missing.
    """
    kinds = {name: torch.float32 if name in (*_FLOATS, "share") else torch.int64 for name in (*_FLOATS, *shapes)}
    return {name: torch.zeros(tuple(shapes[name]), dtype=kind) for name, kind in kinds.items()}


def require_shapes(shapes: Mapping[str, tuple[int, ...]], *, vocabulary: int, labels: int) -> None:
    """Require that tensors of these ``shapes`` form a model of this vocabulary and these ``labels``.

    Raises:
        ValueError: a tensor is missing or has another shape.
    """
    (terms,), (buckets,) = shapes.get("idf", (0,)), shapes.get("buckets", (0,))
    expected: dict[str, tuple[int, ...]] = {
        "pieces": (vocabulary, 3), "powers": (_POWERS,), "buckets": (max(1, 1 << (buckets.bit_length() - 1)),),
        "keys": (terms + _WIDEST,), "idf": (terms,), "coefficients": (terms, labels), "intercept": (labels,),
    }  # fmt: skip
    of_spans = (_ORDERED,) if shapes.get("roles") == (_ORDERED,) else (_SPANS,)
    optional = {"share": (), "pair": (), "markers": (4,), "roles": of_spans if "markers" in shapes else (_TEXTS,)}
    expected |= {name: shape for name, shape in optional.items() if name in shapes}
    wrong = [name for name in sorted({*shapes, *expected}) if shapes.get(name) != expected.get(name)]
    if wrong or terms < 1:
        raise ValueError(
            f"the linear model's {wrong[0][:80] if wrong else 'idf'} does not fit {terms} terms, {labels} labels"
        )


def require_values(models: Sequence[LinearWeights]) -> None:
    """Require buckets within the keys of each model, and possible shares of the votes; raises ValueError."""
    for weights in models:
        buckets, share = weights["buckets"], float(share_of(weights))
        if int(buckets.min()) < 0 or int(buckets.max()) > len(weights["idf"]) or not 0 <= share <= 1:
            raise ValueError(
                f"a linear model's buckets ({buckets.min()} to {buckets.max()}) or share ({share:g}) is out of range"
            )
    if sum(float(share_of(weights)) for weights in models) > 1 + 1e-6:
        raise ValueError("the linear models have more than all of the votes")


def linear_logits(weights: LinearWeights, ids: Tensor, mask: Tensor | None, types: Tensor | None = None) -> Tensor:
    """Return the logarithms of the probabilities, ``(texts, labels)``; see ``term_keys`` for the arguments.

    The value of a term is the same as in scikit-learn's ``TfidfVectorizer(sublinear_tf=True)``: (1 + ln count) x idf,
    divided by the length of the text's vector.
    """
    keys, are_terms = term_keys(weights, ids, mask, types)
    begin = weights["buckets"][keys & (weights["buckets"].shape[0] - 1)]
    offsets = torch.arange(_WIDEST, device=ids.device)
    hits = (weights["keys"][begin.unsqueeze(-1) + offsets] == keys.unsqueeze(-1)) & are_terms.unsqueeze(-1)
    known = hits.sum(-1)
    term = (begin + (hits * offsets).sum(-1)) * known
    same = (term.unsqueeze(2) == term.unsqueeze(3)) & (known.unsqueeze(2) > 0)
    count = same.sum(-1).flatten(1).clamp(min=1).to(weights["idf"].dtype)
    known, term = known.flatten(1), term.flatten(1)
    value = known * (1 + count.log()) * weights["idf"][term]
    # Divide the value of a term among its occurrences.
    share = value / count
    length = (value * share).sum(1, keepdim=True).sqrt().clamp(min=_TINY)
    scores = ((share / length).unsqueeze(1) @ weights["coefficients"][term]).squeeze(1) + weights["intercept"]
    return scores.log_softmax(-1)


def _roles(count: int) -> Tensor:
    return _signed(np.array([_random(-1 - role) | 1 for role in range(count)], np.uint64))


def _polynomial(text: str) -> int:
    """Return the polynomial of ``text`` modulo 2^64: the hash of each character times a power of the base."""
    total = 0
    for character in reversed(text):
        total = (total * _BASE + _random(ord(character))) % 2**64
    return total


def _random(number: int) -> int:
    """Return a hash of each ``number``: SplitMix64 (Steele, Lea and Flood 2014)."""
    state = (_SEED + number * 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def _signed(values: NDArray[np.uint64]) -> Tensor:
    return torch.from_numpy(values.view(np.int64))
