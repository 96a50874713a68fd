"""One loop for both objectives: forward, backward, clip, AdamW, for K members at once, each as if it were alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from tlm_search.model.bert import Dropout, Weights
from tlm_search.model.convolution import STATISTICS

Batch = TypeVar("Batch")

GRADIENT_NORM = 1.0  # each member's gradient is cut to this length
RECORDED_LOSSES = 100  # points of a stored loss curve


@dataclass(frozen=True)
class Optimisation:
    """How a stack is trained: peak learning rate and weight decay, share of warm-up, number of updates."""

    learning_rate: float
    weight_decay: float
    warmup: float
    updates: int

    def rate(self, update: int) -> float:
        """Return the learning rate of ``update`` (from 0): a linear rise over the warm-up, then a linear fall to 0."""
        rise = max(1, round(self.warmup * self.updates))
        fall = max(1, self.updates - rise)
        return self.learning_rate * min((update + 1) / rise, max(0.0, (self.updates - update) / fall), 1.0)


@dataclass(frozen=True)
class Course:
    """What a training leaves: each member's loss curve, (update, mean loss since the last point), and seconds."""

    losses: tuple[tuple[tuple[int, float], ...], ...]
    seconds: float


def train(
    weights: Weights,
    batches: Iterable[Batch],
    loss: Callable[[Weights, Batch], Tensor],
    *,
    optimisation: Optimisation,
) -> Course:
    """Train the stacked ``weights`` in place.

    ``loss`` returns one mean loss a member, shape ``(K,)``. The gradient of their sum is each member's own gradient,
    since members share nothing. A member whose loss is not a number spoils only itself; its curve says so.
    """
    begin = time.perf_counter()
    trained = {name: value.requires_grad_() for name, value in weights.items() if not name.endswith(STATISTICS)}
    members = next(iter(trained.values())).shape[0]
    optimiser = torch.optim.AdamW(
        [value.detach() for value in trained.values()],
        lr=optimisation.learning_rate,
        weight_decay=optimisation.weight_decay,
        fused=True,
    )
    group = optimiser.param_groups[0]
    history: list[Tensor] = []
    for update, batch in enumerate(batches):
        losses = loss(weights, batch)
        # The fused optimiser reads gradients in memory order; those of batched products can come transposed.
        gradients = [part.contiguous() for part in torch.autograd.grad(losses.sum(), list(trained.values()))]
        _clip(gradients)
        for parameter, gradient in zip(group["params"], gradients, strict=True):
            parameter.grad = gradient
        group["lr"] = optimisation.rate(update)
        optimiser.step()
        history.append(losses.detach())
        if members == 1 and update % 100 == 0 and not math.isfinite(history[-1].item()):
            break
    for value in trained.values():
        value.requires_grad_(False)
    return Course(_curves(history), time.perf_counter() - begin)


def dropout(probability: float, generators: Sequence[torch.Generator]) -> Dropout | None:
    """Return dropout that draws each member's mask from its own generator; None where nothing is dropped."""
    if not probability:
        return None
    scale = 1 / (1 - probability)

    def drop(value: Tensor, sizes: Sequence[int]) -> Tensor:
        keep = torch.zeros_like(value)
        for row, size, generator in zip(keep, sizes, generators, strict=True):
            row[:size].bernoulli_(1 - probability, generator=generator)
        return value * keep.mul_(scale)

    return drop


def _clip(gradients: Sequence[Tensor]) -> None:
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factors = (GRADIENT_NORM / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))


def _curves(history: Sequence[Tensor]) -> tuple[tuple[tuple[int, float], ...], ...]:
    losses = torch.stack(list(history)).T.double()
    step = max(1, math.ceil(len(history) / RECORDED_LOSSES))
    means = [chunk.mean(dim=1).tolist() for chunk in torch.split(losses, step, dim=1)]
    ends = [min(len(history), (point + 1) * step) for point in range(len(means))]
    return tuple(
        tuple((end, mean[member]) for end, mean in zip(ends, means, strict=True)) for member in range(losses.shape[0])
    )
