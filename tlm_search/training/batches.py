"""Lay texts out in rows of tokens: batch order, packing and masking. Each member draws from its own generator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tlm_search.data.tokens import TokenArray
from tlm_search.model.rows import Change, Read, Tokens, even, read_at
from tlm_search.model.tied_embeddings import UNSCORED
from tlm_search.training.shapes import Shape

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TextBatch:
    """B texts for each of K members: their ``tokens``, and the index where each text ``starts``."""

    tokens: Tokens
    starts: Sequence[Ints]

    def first_tokens(self) -> Read:
        """Return a ``Read`` of the first token of each text."""
        rows, length = self.tokens.ids.shape[1:]
        return Read.of(self.starts, rows=rows, length=length)


@dataclass(frozen=True)
class Candidates:
    """The words that compete in a sampled softmax.

    ``ids`` int64 ``(K, c)`` are words. ``offsets`` float32 ``(K, c)`` are subtracted from their logits: the logarithm
    of the probability that the word is a candidate. Padding entries have infinite offsets.
    """

    ids: Tensor
    offsets: Tensor

    def each(self, change: Change) -> Candidates:
        """Return the candidates with ``change`` applied to each tensor."""
        return Candidates(change(self.ids), change(self.offsets))


@dataclass(frozen=True)
class ScoredBatch:
    """Rows of tokens, the hidden states that are ``read``, and ``targets`` ``(K, n)``, padded with UNSCORED.

    The targets are masked tokens, or the labels of the texts that start at these tokens. ``scored`` ``(K,)`` is the
    number of targets in the whole batch, even for a micro-batch: each member's loss is the mean over them. With
    ``candidates`` a target is the index of a candidate.
    """

    tokens: Tokens
    read: Read
    targets: Tensor
    scored: Tensor
    candidates: Candidates | None = None

    @property
    def shape(self) -> Shape:
        """The shape. The same kernels compute all batches of the same shape."""
        candidates = 0 if self.candidates is None else self.candidates.ids.shape[1]
        return Shape(
            self.tokens.full, self.tokens.ids.shape[1], self.read.grid.shape[2], self.targets.shape[1], candidates
        )

    def filled(self, shape: Shape) -> ScoredBatch:
        """Return the batch padded to a larger ``shape``: with empty rows, unread queries and UNSCORED targets."""
        own, tokens, read = self.shape, self.tokens, self.read
        if shape == own:
            return self
        rows, queries, more = shape.rows - own.rows, shape.queries - own.queries, (0, shape.reads - own.reads)
        if rows:
            tokens = tokens.each(lambda part: F.pad(part, (0, 0, 0, rows)))
        firsts = torch.arange(own.rows, shape.rows)[:, None] * tokens.ids.shape[2]
        grid = torch.cat([read.grid, firsts.expand(len(read.grid), -1, own.queries)], dim=1)
        grid = torch.cat([grid, grid[..., :1].expand(-1, -1, queries)], dim=2)
        slots = read.slots // own.queries * shape.queries + read.slots % own.queries
        read = Read(F.pad(read.indices, more), read.sizes, grid, F.pad(slots, more))
        candidates = self.candidates
        if candidates is not None:
            room = (0, shape.candidates - own.candidates)
            candidates = Candidates(F.pad(candidates.ids, room), F.pad(candidates.offsets, room, value=math.inf))
        return ScoredBatch(
            replace(tokens, full=shape.full), read, F.pad(self.targets, more, value=UNSCORED), self.scored, candidates
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all tensors that differ between batches of the same shape, 8-byte types first."""
        parts: list[Tensor] = []

        def collect(part: Tensor) -> Tensor:
            parts.append(part)
            return part

        self.each(collect)
        return tuple(parts)

    def each(self, change: Change) -> ScoredBatch:
        """Return the batch with ``change`` applied to each tensor."""
        tokens, read, targets = self.tokens.each(change), self.read.each(change), change(self.targets)
        candidates = None if self.candidates is None else self.candidates.each(change)
        return ScoredBatch(tokens, read, targets, change(self.scored), candidates)

    def split(self, micro_batches: int) -> list[ScoredBatch]:
        """Cut the rows into at most ``micro_batches`` batches. Their losses add up to the loss of the whole batch."""
        if micro_batches == 1:
            return [self]
        rows, length = self.tokens.ids.shape[1:]
        step = -(-rows // micro_batches)
        return [self._micro_batch(first, min(first + step, rows), length) for first in range(0, rows, step)]

    def _micro_batch(self, first: int, last: int, length: int) -> ScoredBatch:
        tokens, begin, end = self.tokens, first * length, last * length
        ids, positions, segments = (part[:, first:last] for part in (tokens.ids, tokens.positions, tokens.segments))
        sizes = tuple(min(max(size - begin, 0), end - begin) for size in tokens.sizes)
        read, targets = [], []
        for indices, target, size in zip(self.read.indices.numpy(), self.targets.numpy(), self.read.sizes, strict=True):
            inside = (indices[:size] >= begin) & (indices[:size] < end)
            read.append(indices[:size][inside] - begin)
            targets.append(target[:size][inside])
        count = _count(targets)
        return ScoredBatch(
            replace(
                tokens,
                ids=ids.contiguous(),
                positions=positions.contiguous(),
                segments=segments.contiguous(),
                sizes=sizes,
            ),
            Read.of(read, rows=last - first, length=length, count=count),
            _filled(targets, count),
            self.scored,
            self.candidates,
        )


class BatchSampler:
    """Yields the texts of each update, ``(K, <= batch_size)``. Each member shuffles all texts in every epoch.

    ``epoch`` and ``next`` are the position in the current ``order`` ``(K, texts)``. With the state of the
    ``generators`` they decide all following batches.
    """

    def __init__(self, texts: int, *, batch_size: int, epochs: int, generators: Sequence[np.random.Generator]) -> None:
        self.texts, self.batch_size, self.epochs, self.generators = texts, batch_size, epochs, generators
        self.epoch, self.next = 0, texts
        self.order: Ints = np.zeros((len(generators), 0), np.int64)

    @property
    def updates(self) -> int:
        """The number of batches of all epochs."""
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

    If ``packed``, several texts share a row (first fit by decreasing length), so that little is padding. A text still
    attends only to itself and counts its positions from 0. Otherwise each text has its own row. Positions of second
    segments are ``length`` higher, as in ``Tokens``.
    """
    begins, sizes = texts.offsets[chosen], texts.offsets[chosen + 1] - texts.offsets[chosen]
    if packed:
        starts = np.stack([_first_fit(own, length) for own in sizes])
    else:
        starts = np.broadcast_to(np.arange(sizes.shape[1]) * length, sizes.shape)
    used = starts.max(axis=1) // length + 1
    members, rows = len(chosen), int(used.max())
    laid = np.zeros((3, members * rows, length), np.int64)
    laid[0] = pad
    source, steps = np.asarray(texts.ids), np.arange(length)
    starts_of_all = starts + np.arange(members)[:, None] * (rows * length)
    whole = sizes == length
    if whole.any():
        at = starts_of_all[whole] // length
        laid[0, at] = source[begins[whole][:, None] + steps]
        laid[1, at] = steps
        laid[2, at] = np.nonzero(whole)[1][:, None] + 1
    ids, positions, segments = laid.reshape(3, -1)
    rest = ~whole
    for start, begin, size, text in zip(
        starts_of_all[rest].tolist(),
        begins[rest].tolist(),
        sizes[rest].tolist(),
        np.nonzero(rest)[1].tolist(),
        strict=True,
    ):
        # Slices, because index arrays would need a number for each token.
        ids[start : start + size] = source[begin : begin + size]
        positions[start : start + size] = steps[:size]
        segments[start : start + size] = text + 1
    if texts.firsts is not None:
        first = texts.firsts[chosen]
        for start, end in zip((starts_of_all + first).flat, (starts_of_all + sizes).flat, strict=True):
            positions[start:end] += length
    parts = torch.from_numpy(laid.reshape(3, members, rows, length))
    full = rows == chosen.shape[1] and bool(whole.all())
    sizes_of_all = tuple((length * used).tolist())
    tokens = Tokens(parts[0], parts[1], parts[2], full, sizes_of_all, paired=texts.firsts is not None)
    return TextBatch(tokens, list(starts))


def mask(
    batch: TextBatch,
    *,
    probability: float,
    vocabulary: int,
    special: Sequence[int],
    mask_id: int,
    generators: Sequence[np.random.Generator],
) -> ScoredBatch:
    """Choose tokens to predict, as BERT does: 80% become the mask, 10% a random token, 10% stay.

    ``special`` tokens and padding are never chosen. Each member draws from its own generator.
    """
    tokens = batch.tokens
    members, rows, length = tokens.ids.shape
    ids = tokens.ids.numpy().flatten()
    ordinary = np.ones(max(vocabulary, *special, mask_id) + 1, bool)
    ordinary[list(special)] = False
    candidates = np.flatnonzero((tokens.segments.numpy().reshape(-1) > 0) & ordinary[ids])
    borders = np.arange(members + 1) * (rows * length)

    def each(indices: Ints) -> Iterator[tuple[np.random.Generator, int]]:
        return zip(generators, np.diff(np.searchsorted(indices, borders)).tolist(), strict=True)

    def drawn(indices: Ints) -> NDArray[np.float64]:
        return np.concatenate([generator.random(count) for generator, count in each(indices)])

    chosen = candidates[np.flatnonzero(drawn(candidates) < probability)]
    targets, fate = ids[chosen], drawn(chosen)
    ids[chosen[np.flatnonzero(fate < 0.8)]] = mask_id
    scrambled = chosen[np.flatnonzero(fate >= 0.9)]
    words = [generator.integers(0, vocabulary, count) for generator, count in each(scrambled)]
    ids[scrambled] = np.concatenate(words)
    sizes = np.array([count for _, count in each(chosen)])
    count = even(int(sizes.max()), steps=16)
    wanted = np.full((members, count), UNSCORED)
    wanted.reshape(-1)[read_at(sizes, count)] = targets
    return ScoredBatch(
        replace(tokens, ids=torch.from_numpy(ids).view_as(tokens.ids)),
        Read.among(chosen, sizes, rows=rows, length=length, count=count),
        torch.from_numpy(wanted),
        torch.from_numpy(np.maximum(sizes, 1).astype(np.float32)),
    )


def with_candidates(batch: ScoredBatch, chances: NDArray[np.float64]) -> ScoredBatch:
    """Return a masked ``batch`` in which the targets of a member are the candidates of its softmax.

    ``chances`` ``(vocabulary,)`` is the probability p that a target is a given word. A word is a candidate if any of
    the n targets of the batch is that word, which has the probability 1 - (1 - p)^n. The logarithm of this probability
    is subtracted from its logit (Jean et al. 2015, "On using very large target vocabulary for neural machine
    translation", arXiv 1412.2007).
    """
    found, wanted = [], batch.targets.numpy().copy()
    for own in wanted:
        scored = own != UNSCORED
        words, at = np.unique(own[scored], return_inverse=True)
        own[scored] = at
        found.append((words, np.log(-np.expm1(scored.sum() * np.log1p(-chances[words])))))
    count = even(max(len(words) for words, _ in found), steps=16)
    ids, offsets = np.zeros((len(found), count), np.int64), np.full((len(found), count), np.inf, np.float32)
    for member, (words, chance) in enumerate(found):
        ids[member, : len(words)], offsets[member, : len(words)] = words, chance
    candidates = Candidates(torch.from_numpy(ids), torch.from_numpy(offsets))
    return replace(batch, targets=torch.from_numpy(wanted), candidates=candidates)


def label(batch: TextBatch, labels: Ints) -> ScoredBatch:
    """Return the batch with the labels ``(K, B)`` of its texts as targets."""
    return ScoredBatch(batch.tokens, batch.first_tokens(), torch.from_numpy(labels), _scored(labels))


def _first_fit(sizes: Ints, length: int) -> Ints:
    """Return the start of each text: its row times ``length`` plus its column."""
    order = np.argsort(-sizes, kind="stable")
    full = int((sizes == length).sum())  # full rows come first
    found, free = list(range(0, full * length, length)), list[int]()  # free tokens of each other row
    for size in sizes[order[full:]].tolist():
        row = 0
        for room in free:
            if room >= size:
                break
            row += 1
        else:
            free.append(length)
        found.append((full + row + 1) * length - free[row])
        free[row] -= size
    starts = np.empty(len(sizes), np.int64)
    starts[order] = found
    return starts


def _scored(targets: Sequence[Ints] | Ints) -> Tensor:
    return torch.tensor([max(1, len(own)) for own in targets], dtype=torch.float32)


def _count(targets: Sequence[Ints]) -> int:
    return even(max(map(len, targets)), steps=16)


def _filled(targets: Sequence[Ints], count: int) -> Tensor:
    filled = np.full((len(targets), count), UNSCORED)
    for row, own in zip(filled, targets, strict=True):
        row[: len(own)] = own
    return torch.from_numpy(filled)
