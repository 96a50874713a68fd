"""Padded batches for inference: texts of similar length share a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlm_search.data.tokens import TokenArray

# Tokens of a forward pass. With fewer tokens, calls take most of the time. With more, the memory is returned to the
# system and allocated again for each layer, which at 4096 tokens took as long as the arithmetic.
BATCH_TOKENS = 2048


def batches(lengths: NDArray[np.int64], *, tokens: int = BATCH_TOKENS) -> Iterator[NDArray[np.int64]]:
    """Yield the texts of each forward pass: similar lengths together, at most ``tokens`` tokens with padding."""
    order = np.argsort(lengths, kind="stable")
    first = 0
    while first < len(order):
        # The texts are sorted, so the last text of a batch is the longest.
        sizes = np.maximum(1, lengths[order[first : first + tokens]])
        count = max(1, int(np.searchsorted(sizes * np.arange(1, len(sizes) + 1), tokens, side="right")))
        yield order[first : first + count]
        first += count


class Rows(NamedTuple):
    """Padded texts ``(texts, length)``: int64 ``ids``, a bool ``mask`` of the tokens, and int64 ``segments``.

    ``segments`` are 1 for the second text of a pair, else 0. They are None if the texts are not pairs.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    segments: NDArray[np.int64] | None

    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the rows as tensors."""
        segments = None if self.segments is None else torch.from_numpy(self.segments)
        return torch.from_numpy(self.ids), torch.from_numpy(self.mask), segments


def rows(texts: TokenArray, chosen: NDArray[np.int64], *, pad: int) -> Rows:
    """Return the ``chosen`` texts as rows, padded to the longest text."""
    starts, lengths = texts.offsets[chosen], texts.lengths()[chosen]
    columns = np.arange(max(1, int(lengths.max(initial=0))))
    mask = columns < lengths[:, None]
    ids = np.full(mask.shape, pad, np.int64)
    ids[mask] = texts.ids[(starts[:, None] + columns)[mask]]
    if texts.firsts is None:
        return Rows(ids, mask, None)
    return Rows(ids, mask, ((columns >= texts.firsts[chosen][:, None]) & mask).astype(np.int64))
