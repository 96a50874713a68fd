"""Optimisers of stacked weights: AdamW, or Muon for the matrices of the layers.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) moves a matrix along its orthogonalised momentum. The step
is scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), so the same rates and weight decays suit both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
# The polynomial that moves all singular values near 1 (between 0.7 and 1.2) when it is applied repeatedly.
COEFFICIENTS, REPETITIONS = (3.4445, -4.7750, 2.0315), 5
ADAMW_SIZE = 0.2  # root mean square of AdamW's usual steps, in units of the learning rate
_LEAST_NORM = 1e-7


def optimiser_of(
    trained: Mapping[str, Tensor], *, name: str, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """Return the optimiser ``name`` (adamw or muon) of the ``trained`` weights, with a single group in their order."""
    kind, device = Muon if name == "muon" else torch.optim.AdamW, next(iter(trained.values())).device
    if device.type == "cpu":
        return kind(trained.items(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    # A step in a CUDA graph reads the learning rate from the device.
    rate = torch.tensor(learning_rate, device=device)
    return kind(trained.items(), lr=rate, weight_decay=weight_decay, fused=True, capturable=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    group = optimiser.param_groups[0]
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


class Muon(torch.optim.AdamW):
    """Muon for the layers' matrices ``(K, out, in)``, each orthogonalised separately; AdamW for all other weights.

    Queries, keys and values count as three matrices, though they are stored as one.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every weight that has a gradient."""
        group = self.param_groups[0]
        for name, weight in zip(group["param_names"], group["params"], strict=True):
            if weight.grad is None or weight.dim() != 3 or not name.startswith("layers."):
                continue
            state = self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            ahead = weight.grad.lerp(state["momentum_buffer"].lerp_(weight.grad, 1 - MOMENTUM), MOMENTUM)
            parts = 3 if name.endswith(".qkv.weight") else 1
            matrices = ahead.view(-1, weight.shape[1] // parts, weight.shape[2])
            size = group["lr"] * ADAMW_SIZE * math.sqrt(max(matrices.shape[1:]))
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.sub_(orthogonalised(matrices).view_as(weight) * size)
            weight.grad = None  # AdamW skips weights without a gradient
        return super().step(closure)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Move the singular values of ``matrices`` ``(n, rows, columns)`` near 1 by Newton-Schulz iteration."""
    tall = matrices.shape[1] > matrices.shape[2]
    value = matrices.mT if tall else matrices
    value = value / value.norm(dim=(1, 2), keepdim=True).clamp(min=_LEAST_NORM)
    first, third, fifth = COEFFICIENTS
    for _ in range(REPETITIONS):
        square = value @ value.mT
        value = torch.baddbmm(value, torch.baddbmm(square, square, square, beta=third, alpha=fifth), value, beta=first)
    return value.mT if tall else value
