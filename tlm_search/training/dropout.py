"""Dropout of stacked members; each member draws from its own generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tlm_search.model.bert import Dropout


def dropout(probability: float, generators: Sequence[torch.Generator], *, most: int) -> Dropout | None:
    """Return dropout that draws each member's mask from its own generator; None for a rate of 0.

    ``most`` is the largest number of positions of a value that a member uses.
    """
    if not probability:
        return None
    scale = 1 / (1 - probability)
    # 16 random bits a value, four values a draw: ten times as fast as bernoulli_, which has a single thread.
    dropped = round(probability * 2**16) - 2**15

    def kept(value: Tensor, sizes: Sequence[int]) -> Tensor:
        keep = torch.zeros_like(value)
        for row, size, generator in zip(keep, sizes, generators, strict=True):
            part = row[:size]
            draws = torch.empty(-(-part.numel() // 4), dtype=torch.int64, device=value.device)
            bits = draws.random_(-(2**63), None, generator=generator).view(torch.int16)
            torch.mul((bits[: part.numel()] >= dropped).view(part.shape), scale, out=part)
        return keep

    def kept_on_gpu(value: Tensor) -> Tensor:
        # Always make the same number of draws: a CUDA graph needs it, and sizes of other members must not matter.
        width, positions = value.shape[-1], max(most, value.shape[1])
        draws = torch.empty(len(generators), -(-positions * width // 4), dtype=torch.int64, device=value.device)
        for row, generator in zip(draws, generators, strict=True):
            row.random_(-(2**63), None, generator=generator)
        bits = draws.view(torch.int16)[:, : value.shape[1] * width].view(value.shape)
        return (bits >= dropped).to(value.dtype).mul_(scale)

    def drop(value: Tensor, sizes: Sequence[int]) -> Tensor:
        return value * (kept_on_gpu(value) if value.is_cuda else kept(value, sizes))

    return drop
