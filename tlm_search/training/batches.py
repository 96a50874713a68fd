"""Texts to rows of tokens: packing, masking and orders, drawn by each member's own generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tlm_search.data.tokens import TokenArray
from tlm_search.model.rows import Change, Read, Tokens, even
from tlm_search.model.tied import UNSCORED

Ints = NDArray[np.int64]

_MORE_QUERIES, _MORE_PLACES = 1.6, 1.15  # that a batch may be filled up to; queries are cheap


@dataclass(frozen=True)
class TextBatch:
    """B texts for each of K members: their ``tokens`` and the ``places`` where each text starts."""

    tokens: Tokens
    places: Sequence[Ints]

    def starts(self) -> Read:
        """Return the first token of each text as what is read."""
        rows, length = self.tokens.ids.shape[1:]
        return Read.of(self.places, rows=rows, length=length)


@dataclass(frozen=True)
class Shape:
    """The sizes of a batch: rows, queries of a row and places that are read; ``full`` as in ``Tokens``."""

    full: bool
    rows: int
    queries: int
    places: int

    def holds(self, other: Shape) -> bool:
        """Say whether ``other`` can be filled up to this, with little more to compute."""
        # Not with empty rows: convolutions take their statistics of all.
        return (
            self.rows == other.rows
            and self.full <= other.full
            and other.queries <= self.queries <= _MORE_QUERIES * other.queries
            and other.places <= self.places <= _MORE_PLACES * other.places
        )


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

    @property
    def shape(self) -> Shape:
        """What batches must have in common for the same kernels to compute them."""
        return Shape(self.tokens.full, self.tokens.ids.shape[1], self.read.grid.shape[2], self.targets.shape[1])

    def filled(self, shape: Shape) -> ScoredBatch:
        """Return the batch in a ``shape`` that holds it: with queries that nobody reads, and UNSCORED targets."""
        own, read = self.shape, self.read
        if shape == own:
            return self
        more = (0, shape.places - own.places)
        grid = torch.cat([read.grid, read.grid[..., :1].expand(-1, -1, shape.queries - own.queries)], dim=2)
        slots = read.slots // own.queries * shape.queries + read.slots % own.queries
        read = Read(F.pad(read.places, more), read.sizes, grid, F.pad(slots, more))
        tokens = replace(self.tokens, full=shape.full)
        return ScoredBatch(tokens, read, F.pad(self.targets, more, value=UNSCORED), self.scored)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all that differs between two batches of one shape, those of 8 bytes a number first."""
        parts: list[Tensor] = []

        def collect(part: Tensor) -> Tensor:
            parts.append(part)
            return part

        self.each(collect)
        return tuple(parts)

    def each(self, change: Change) -> ScoredBatch:
        """Return the batch with ``change`` made to each tensor."""
        tokens, read = self.tokens.each(change), self.read.each(change)
        return ScoredBatch(tokens, read, change(self.targets), change(self.scored))

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
    laid = np.zeros((3, len(chosen), rows * length), np.int64)
    laid[0] = pad
    source, steps = np.asarray(texts.ids), np.arange(length)
    for row, place, begin, size in zip(laid.swapaxes(0, 1), places, starts_of, sizes_of, strict=True):
        ids, positions, segments = row
        full = size == length
        if full.any():
            at, texts_here = place[full] // length, np.flatnonzero(full) + 1
            ids.reshape(rows, length)[at] = source[begin[full, None] + steps]
            positions.reshape(rows, length)[at] = steps
            segments.reshape(rows, length)[at] = texts_here[:, None]
        for text in np.flatnonzero(~full).tolist():
            # Slices, where indices would be one for each token.
            first, begins, ends = begin[text], place[text], place[text] + size[text]
            ids[begins:ends] = source[first : first + size[text]]
            positions[begins:ends] = steps[: size[text]]
            segments[begins:ends] = text + 1
    whole = rows == chosen.shape[1] and bool((sizes_of == length).all())
    parts = torch.from_numpy(laid).view(3, len(chosen), rows, length)
    tokens = Tokens(parts[0], parts[1], parts[2], full=whole, sizes=tuple(length * own for own in used))
    return TextBatch(tokens, places)


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
    ordinary = np.ones(max(vocabulary, *special, mask_id) + 1, bool)
    ordinary[list(special)] = False
    eligible = (tokens.segments.flatten(1).numpy() > 0) & ordinary[ids]
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
    return ScoredBatch(batch.tokens, batch.starts(), torch.from_numpy(labels), _scored(labels))


def _first_fit(sizes: Ints, length: int) -> Ints:
    """Return where each text starts, its row times ``length`` plus its column."""
    order = np.argsort(-sizes, kind="stable")
    full = int((sizes == length).sum())  # they come first, and nothing fits behind them
    places = np.empty(len(sizes), np.int64)
    places[order[:full]] = np.arange(full) * length
    free: list[int] = []
    for text in order[full:].tolist():
        size = int(sizes[text])
        row = next((row for row, room in enumerate(free) if room >= size), len(free))
        if row == len(free):
            free.append(length)
        places[text] = (full + row) * length + length - free[row]
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
