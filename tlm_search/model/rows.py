"""Rows of tokens with one or several texts, and the tokens whose last hidden states are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tokens:
    """Rows of token ids, each row holding one or several texts.

    ``ids``, ``positions`` and ``segments`` are int64 of shape ``(K, rows, length)``. A token sees the tokens of its row
    with the same segment number; segment 0 is padding. ``full`` is True if each row is a single text without padding.
    ``sizes`` are the numbers of tokens in each member's own rows; further rows are empty, because another member has
    more. If texts are ``paired``, the positions of a second text are shifted by ``length``.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor
    full: bool
    sizes: tuple[int, ...]
    paired: bool = False

    def each(self, change: Change) -> Tokens:
        """Return the rows with ``change`` applied to each tensor."""
        ids, positions, segments = change(self.ids), change(self.positions), change(self.segments)
        return replace(self, ids=ids, positions=positions, segments=segments)

    def sees(self) -> Tensor | None:
        """Return which token sees which, bool ``(K x rows, 1, length, length)``, or None if each sees all."""
        return None if self.full else _same(self.segments, self.segments)


@dataclass(frozen=True)
class Read:
    """The tokens whose last hidden states are read. Only these states are computed.

    ``indices`` int64 ``(K, n)`` point into a member's ``rows x length`` tokens. The first ``sizes[k]`` belong to member
    k, the others are padding. Attention works on rows: ``grid`` ``(K, rows, q)`` has the indices of each row, padded
    with other indices of the row. ``slots`` ``(K, n)`` is the place of each index in the ``rows x q`` grid of its
    member.
    """

    indices: Tensor
    sizes: tuple[int, ...]
    grid: Tensor
    slots: Tensor

    @classmethod
    def of(cls, indices: Sequence[np.ndarray], *, rows: int, length: int, count: int | None = None) -> Read:
        """Lay out the ``indices`` of each member, padded to ``count``, by default the largest number of a member."""
        sizes = np.array([len(own) for own in indices])
        everywhere = np.concatenate([own + member * rows * length for member, own in enumerate(indices)])
        return cls.among(everywhere, sizes, rows=rows, length=length, count=count or max(1, int(sizes.max())))

    @classmethod
    def among(cls, indices: np.ndarray, sizes: np.ndarray, *, rows: int, length: int, count: int) -> Read:
        """Lay out ``indices`` into the tokens of all members, padded to ``count``; ``sizes`` are their numbers."""
        members = len(sizes)
        row, at = indices // length, read_at(sizes, count)
        in_row = np.bincount(row, minlength=members * rows)
        most = even(int(in_row.max()), steps=4)
        if (indices[1:] < indices[:-1]).any():
            order = np.argsort(indices, kind="stable")
            indices, row, at = indices[order], row[order], at[order]
        column = np.arange(len(row)) - (np.cumsum(in_row) - in_row)[row]
        owner = at // count
        stacked, slots = np.zeros((2, members, count), np.int64)
        grid = np.tile(np.arange(rows)[:, None] * length, (members, 1, most))
        asked = row * most + column
        own = indices - owner * (rows * length)
        slots.reshape(-1)[at] = asked - owner * (rows * most)
        grid.reshape(-1)[asked] = own
        stacked.reshape(-1)[at] = own
        return cls(torch.from_numpy(stacked), tuple(sizes.tolist()), torch.from_numpy(grid), torch.from_numpy(slots))

    def each(self, change: Change) -> Read:
        """Return the indices with ``change`` applied to each tensor."""
        return Read(change(self.indices), self.sizes, change(self.grid), change(self.slots))

    def sees(self, tokens: Tokens) -> Tensor | None:
        """Return which grid entry sees which token, bool ``(K x rows, 1, q, length)``, or None if each sees all."""
        if tokens.full:
            return None
        return _same(
            gather(tokens.segments.flatten(1)[..., None], self.grid.flatten(1)).view_as(self.grid), tokens.segments
        )


def read_at(sizes: np.ndarray, count: int) -> np.ndarray:
    """Return the flat indices of the first ``sizes[k]`` entries of each row in a ``(K, count)`` array."""
    firsts = np.arange(len(sizes)) * count - (np.cumsum(sizes) - sizes)
    at: np.ndarray = np.arange(sizes.sum()) + np.repeat(firsts, sizes)
    return at


def gather(values: Tensor, indices: Tensor) -> Tensor:
    """Return ``values[k, indices[k]]`` of ``(K, positions, width)`` for each member: ``(K, n, width)``."""
    if values.shape[0] == 1:
        return values.squeeze(0).index_select(0, indices.squeeze(0)).unsqueeze(0)
    offsets = torch.arange(values.shape[0], device=values.device)[:, None] * values.shape[1]
    flat = values.flatten(0, 1).index_select(0, (indices + offsets).flatten())
    return flat.view(*indices.shape, values.shape[-1])


def _same(asking: Tensor, asked: Tensor) -> Tensor:
    return (asking.flatten(0, 1)[:, None, :, None] == asked.flatten(0, 1)[:, None, None, :]).contiguous()


def even(number: int, *, steps: int) -> int:
    """Return ``number``, at least 1, rounded up to a multiple of a power of two.

    It is the largest power of two that fits into ``number`` at least ``steps`` times. Kernels in bf16 are compiled for
    each shape; rounding leaves few shapes if the numbers differ a little from update to update.
    """
    step = 1 << max(0, (number // steps).bit_length() - 1)
    return max(1, -(-number // step) * step)
