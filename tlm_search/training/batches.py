"""Texts to rows of tokens: packing, masking and orders, drawn by each member's own generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlm_search.data.tokens import TokenArray
from tlm_search.model.rows import Read, Tokens, even
from tlm_search.model.tied import UNSCORED

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TextBatch:
    """B texts for each of K members: their ``tokens`` and where each text ``starts``."""

    tokens: Tokens
    starts: Read

    def to(self, device: str) -> TextBatch:
        """Return the batch on ``device``."""
        return TextBatch(self.tokens.to(device), self.starts.to(device))


@dataclass(frozen=True)
class ScoredBatch:
    """Rows of tokens, the places that are ``read``, and ``targets``: ``(K, n)``, UNSCORED fills up.

    The targets are masked tokens, or the labels of the texts that start there. ``scored`` ``(K,)`` is how many each
    member's loss is the mean of, also where this is only a piece of the batch.
    """

    tokens: Tokens
    read: Read
    targets: Tensor
    scored: Tensor

    def to(self, device: str) -> ScoredBatch:
        """Return the batch on ``device``."""
        return ScoredBatch(
            self.tokens.to(device), self.read.to(device), self.targets.to(device), self.scored.to(device)
        )

    def split(self, pieces: int) -> list[ScoredBatch]:
        """Cut the rows into at most so many ``pieces``, whose losses add up to that of the batch."""
        if pieces == 1:
            return [self]
        rows, length = self.tokens.ids.shape[1:]
        step = -(-rows // pieces)
        return [self._piece(first, min(first + step, rows), length) for first in range(0, rows, step)]

    def _piece(self, first: int, last: int, length: int) -> ScoredBatch:
        tokens, begin, end = self.tokens, first * length, last * length
        ids, places, segments = (part[:, first:last] for part in (tokens.ids, tokens.positions, tokens.segments))
        sizes = tuple(min(max(size - begin, 0), end - begin) for size in tokens.sizes)
        read, targets = [], []
        for place, target, size in zip(self.read.places.numpy(), self.targets.numpy(), self.read.sizes, strict=True):
            inside = (place[:size] >= begin) & (place[:size] < end)
            read.append(place[:size][inside] - begin)
            targets.append(target[:size][inside])
        count = _count(targets)
        return ScoredBatch(
            Tokens(ids.contiguous(), places.contiguous(), segments.contiguous(), tokens.full, sizes),
            Read.of(read, rows=last - first, length=length, count=count),
            _filled(targets, count),
            self.scored,
        )


class Orders:
    """The texts of each update, ``(K, <= batch_size)``: each member's own shuffle of all texts in every epoch.

    ``epoch`` and ``next`` say which text comes next in the current ``order`` ``(K, texts)``; with the state of the
    ``generators`` they are all that decides what follows.
    """

    def __init__(self, texts: int, *, batch_size: int, epochs: int, generators: Sequence[np.random.Generator]) -> None:
        self.texts, self.batch_size, self.epochs, self.generators = texts, batch_size, epochs, generators
        self.epoch, self.next = 0, texts
        self.order: Ints = np.zeros((len(generators), 0), np.int64)

    @property
    def updates(self) -> int:
        """How many batches there are in all."""
        return self.epochs * -(-self.texts // self.batch_size)

    def __iter__(self) -> Iterator[Ints]:
        while True:
            if self.next >= self.texts:
                if self.epoch == self.epochs:
                    return
                self.order = np.stack([generator.permutation(self.texts) for generator in self.generators])
                self.epoch, self.next = self.epoch + 1, 0
            first, self.next = self.next, self.next + self.batch_size
            yield self.order[:, first : self.next]


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
    return TextBatch(tokens, Read.of(places, rows=rows, length=length))


def mask(
    batch: TextBatch,
    *,
    probability: float,
    vocabulary: int,
    special: Sequence[int],
    mask_id: int,
    generators: Sequence[np.random.Generator],
) -> ScoredBatch:
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
    rows, length = tokens.ids.shape[1:]
    count = _count(targets)
    read = Read.of(chosen, rows=rows, length=length, count=count)
    return ScoredBatch(masked, read, _filled(targets, count), _scored(targets))


def label(batch: TextBatch, labels: Ints) -> ScoredBatch:
    """Score each text by its label; ``labels`` are ``(K, B)``."""
    return ScoredBatch(batch.tokens, batch.starts, torch.from_numpy(labels), _scored(labels))


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


def _scored(targets: Sequence[Ints] | Ints) -> Tensor:
    return torch.tensor([max(1, len(own)) for own in targets], dtype=torch.float32)


def _count(targets: Sequence[Ints]) -> int:
    return even(max(map(len, targets)), parts=16)


def _filled(targets: Sequence[Ints], count: int) -> Tensor:
    filled = np.full((len(targets), count), UNSCORED)
    for row, own in zip(filled, targets, strict=True):
        row[: len(own)] = own
    return torch.from_numpy(filled)
