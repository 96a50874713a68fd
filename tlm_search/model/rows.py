"""Rows of tokens with one or several texts each, and the tokens whose last hidden states are read."""

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
    that have its segment number; segment 0 is padding. ``full`` says that each row is one text without padding.
    ``sizes`` are the tokens of each member's own rows; the other rows are empty, since other members have more. If
    texts are ``paired``, the positions of a second text are shifted by ``length``, the number of positions of a row.
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
        """Return which token sees which, bool ``(K x rows, 1, length, length)``; None if all see all."""
        return None if self.full else _same(self.segments, self.segments)


@dataclass(frozen=True)
class Read:
    """The tokens whose last hidden states are read; only these states are computed.

    ``indices`` int64 ``(K, n)`` are among a member's ``rows x length`` tokens; of member k the first ``sizes[k]`` are
    its own, the rest fill up. Attention goes by rows: ``grid`` ``(K, rows, q)`` holds the indices of each row, filled
    up with others of the row, and ``slots`` ``(K, n)`` says where among the ``rows x q`` of its member each of them
    stands.
    """

    indices: Tensor
    sizes: tuple[int, ...]
    grid: Tensor
    slots: Tensor

    @classmethod
    def of(cls, indices: Sequence[np.ndarray], *, rows: int, length: int, count: int | None = None) -> Read:
        """Lay out each member's ``indices``, padded to ``count``, or to the largest number of a member."""
        sizes = np.array([len(own) for own in indices])
        everywhere = np.concatenate([own + member * rows * length for member, own in enumerate(indices)])
        return cls.among(everywhere, sizes, rows=rows, length=length, count=count or max(1, int(sizes.max())))

    @classmethod
    def among(cls, indices: np.ndarray, sizes: np.ndarray, *, rows: int, length: int, count: int) -> Read:
        """Lay out ``indices`` among the tokens of all members, padded to ``count``; ``sizes`` is the number of each."""
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
        """Return which entry of the grid sees which token, bool ``(K x rows, 1, q, length)``; None if each sees all."""
        if tokens.full:
            return None
        return _same(
            gather(tokens.segments.flatten(1)[..., None], self.grid.flatten(1)).view_as(self.grid), tokens.segments
        )


def read_at(sizes: np.ndarray, count: int) -> np.ndarray:
    """Return where among ``(K, count)`` the first ``sizes[k]`` of each row stand, one after another."""
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

    That is the largest power of two that fits into it ``steps`` times.

    Kernels in bf16 are compiled anew for each shape; numbers that differ a little from update to update become few.
    """
    step = 1 << max(0, (number // steps).bit_length() - 1)
    return max(1, -(-number // step) * step)
