"""Texts to rows of tokens: packing, masking and orders, drawn by each member's own generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlm_search.data.tokens import TokenArray
from tlm_search.model.bert import Tokens

Ints = NDArray[np.int64]
UNSCORED = -100


@dataclass(frozen=True)
class TextBatch:
    """B texts for each of K members: their ``tokens`` and where each text ``starts``, ``(K, B)``."""

    tokens: Tokens
    starts: Tensor

    def to(self, device: str) -> TextBatch:
        """Return the batch on ``device``."""
        return TextBatch(self.tokens.to(device), self.starts.to(device))


@dataclass(frozen=True)
class MaskedBatch:
    """Texts with masked tokens; ``positions`` and ``targets`` ``(K, n)`` are what is scored, UNSCORED fills up."""

    tokens: Tokens
    positions: Tensor
    targets: Tensor

    def to(self, device: str) -> MaskedBatch:
        """Return the batch on ``device``."""
        return MaskedBatch(self.tokens.to(device), self.positions.to(device), self.targets.to(device))


def orders(texts: int, *, batch_size: int, epochs: int, generators: Sequence[np.random.Generator]) -> Iterator[Ints]:
    """Yield the texts of each update, ``(K, <= batch_size)``: each member's own shuffle of all texts in every epoch."""
    for _ in range(epochs):
        order = np.stack([generator.permutation(texts) for generator in generators])
        for first in range(0, texts, batch_size):
            yield order[:, first : first + batch_size]


def assemble(texts: TokenArray, chosen: Ints, *, length: int, packed: bool, pad: int) -> TextBatch:
    """Lay the ``chosen`` texts ``(K, B)`` out in rows of ``length`` tokens.

    ``packed`` puts several texts into a row, first fit by falling length, so that next to nothing is padding; a text
    still sees only itself and counts its positions from 0. Otherwise each text has a row.
    """
    starts_of, sizes_of = texts.offsets[chosen], texts.offsets[chosen + 1] - texts.offsets[chosen]
    places = [_first_fit(sizes, length) if packed else np.arange(len(sizes)) * length for sizes in sizes_of]
    used = [int(place.max()) // length + 1 for place in places]
    rows = max(used)
    shape = (len(chosen), rows * length)
    ids, positions = np.full(shape, pad, np.int64), np.zeros(shape, np.int64)
    segments = np.zeros(shape, np.int64)
    for member, (place, begin, size) in enumerate(zip(places, starts_of, sizes_of, strict=True)):
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        target = np.repeat(place, size) + within
        ids[member, target] = texts.ids[np.repeat(begin, size) + within]
        positions[member, target] = within
        segments[member, target] = np.repeat(np.arange(1, len(size) + 1), size)
    whole = rows == chosen.shape[1] and bool((sizes_of == length).all())
    laid = torch.from_numpy(np.stack((ids, positions, segments))).view(3, len(chosen), rows, length)
    tokens = Tokens(laid[0], laid[1], laid[2], full=whole, sizes=tuple(length * own for own in used))
    return TextBatch(tokens, torch.from_numpy(np.stack(places)))


def mask(
    batch: TextBatch,
    *,
    probability: float,
    vocabulary: int,
    special: Sequence[int],
    mask_id: int,
    generators: Sequence[np.random.Generator],
) -> MaskedBatch:
    """Choose tokens to be predicted, as BERT does: 80% become the mask, 10% a random token, 10% stay.

    ``special`` tokens and padding are never chosen.
    """
    tokens = batch.tokens
    ids = tokens.ids.flatten(1).numpy().copy()
    eligible = (tokens.segments.flatten(1).numpy() > 0) & ~np.isin(ids, special)
    chosen, targets = [], []
    for member, generator in enumerate(generators):
        candidates = np.flatnonzero(eligible[member])
        places = candidates[generator.random(len(candidates)) < probability]
        targets.append(ids[member, places])
        fate = generator.random(len(places))
        ids[member, places[fate < 0.8]] = mask_id
        scrambled = places[fate >= 0.9]
        ids[member, scrambled] = generator.integers(0, vocabulary, len(scrambled))
        chosen.append(places)
    masked = Tokens(
        torch.from_numpy(ids).view_as(tokens.ids), tokens.positions, tokens.segments, tokens.full, tokens.sizes
    )
    return MaskedBatch(masked, _stacked(chosen, 0), _stacked(targets, UNSCORED))


def _first_fit(sizes: Ints, length: int) -> Ints:
    """Return where each text starts, its row times ``length`` plus its column."""
    free: list[int] = []
    places = np.empty(len(sizes), np.int64)
    for text in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[text])
        row = next((row for row, room in enumerate(free) if room >= size), len(free))
        if row == len(free):
            free.append(length)
        places[text] = row * length + length - free[row]
        free[row] -= size
    return places


def _stacked(parts: Sequence[Ints], fill: int) -> Tensor:
    stacked = np.full((len(parts), max([1, *(len(part) for part in parts)])), fill, np.int64)
    for row, part in zip(stacked, parts, strict=True):
        row[: len(part)] = part
    return torch.from_numpy(stacked)
