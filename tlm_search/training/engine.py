"""One loop for both objectives: forward, backward, clip, optimiser, for K members at once, each as if it were alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from tlm_search.model.bert import Dropout
from tlm_search.model.convolution import STATISTICS
from tlm_search.model.weights import Weights
from tlm_search.training.checkpoint import Keeper, Snapshot
from tlm_search.training.optimiser import optimiser_of

Batch = TypeVar("Batch")

GRADIENT_NORM = 1.0  # each member's gradient is cut to this length
RECORDED_LOSSES = 100  # points of a stored loss curve


@dataclass(frozen=True)
class Optimisation:
    """How a stack is trained: peak learning rate and weight decay, share of warm-up, number of updates.

    ``schedule`` says what follows the warm-up, by the names of ``transformers``.
    """

    learning_rate: float
    weight_decay: float
    warmup: float
    updates: int
    schedule: str = "linear"
    optimiser: str = "adamw"

    def rate(self, update: int) -> float:
        """Return the learning rate of ``update`` (from 0): a linear rise over the warm-up, then the schedule."""
        rise = max(1, round(self.warmup * self.updates))
        fall = max(1, self.updates - rise)
        left = min(1.0, max(0.0, (self.updates - update) / fall))
        if self.schedule == "cosine":
            left = (1 - math.cos(math.pi * left)) / 2
        elif self.schedule == "constant_with_warmup":
            left = 1.0
        return self.learning_rate * min((update + 1) / rise, left)

    def decay(self) -> float:
        """Return what all updates leave of a weight that gets no gradient, as a share of it."""
        return math.prod(1 - self.rate(update) * self.weight_decay for update in range(self.updates))


@dataclass(frozen=True)
class Course:
    """What a training leaves: each member's loss curve, (update, mean loss since the last point), and seconds."""

    losses: tuple[tuple[tuple[int, float], ...], ...]
    seconds: float


def train(
    weights: Weights,
    batches: Iterable[Sequence[Batch]],
    loss: Callable[[Weights, Batch], Tensor],
    *,
    optimisation: Optimisation,
    keeper: Keeper | None = None,
) -> Course:
    """Train the stacked ``weights`` in place.

    ``batches`` gives each update's batch in one or several pieces; ``loss`` returns each member's share of its loss in
    a piece, shape ``(K,)``, and the pieces' losses add up. The gradient of the members' sum is each member's own
    gradient, since members share nothing. A member whose loss is not a number spoils only itself; its curve says so.
    With a ``keeper`` the training goes on from where it was left.
    """
    trained = {name: value for name, value in weights.items() if not name.endswith(STATISTICS)}
    members = next(iter(trained.values())).shape[0]
    optimiser = optimiser_of(
        trained,
        name=optimisation.optimiser,
        learning_rate=optimisation.learning_rate,
        weight_decay=optimisation.weight_decay,
    )
    group = optimiser.param_groups[0]
    snapshot = Snapshot(weights, dict(zip(trained, group["params"], strict=True)), optimiser)
    if keeper is not None:
        keeper.restore(snapshot)
    begin, earlier = time.perf_counter(), snapshot.seconds
    for update, pieces in enumerate(batches, start=len(snapshot.losses)):
        losses, gradients = _differentiate(weights, trained, pieces, loss)
        _clip(gradients)
        for parameter, gradient in zip(group["params"], gradients, strict=True):
            parameter.grad = gradient
        group["lr"] = optimisation.rate(update)
        optimiser.step()
        optimiser.zero_grad()
        del gradients  # their memory is for the next ones
        snapshot.losses.append(losses)
        snapshot.seconds = earlier + time.perf_counter() - begin
        if members == 1 and update % 100 == 0 and not math.isfinite(losses.item()):
            break
        if keeper is not None and keeper.is_due():
            keeper.save(snapshot)
    return Course(_curves(snapshot.losses), snapshot.seconds)


def _differentiate(
    weights: Weights, trained: Weights, pieces: Sequence[Batch], loss: Callable[[Weights, Batch], Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return each member's loss ``(K,)`` and the gradients of the ``trained`` weights."""
    leaves = {name: value.detach().requires_grad_() for name, value in trained.items()}
    total: Tensor | None = None
    sums: list[Tensor] = []
    for piece in pieces:
        losses = loss({**weights, **leaves}, piece)
        parts = torch.autograd.grad(losses.sum(), list(leaves.values()))
        if not sums:
            # The fused optimiser reads gradients in memory order; those of batched products can come transposed. The
            # next piece's may take the memory of these.
            sums = [_in_order(part, copy=len(pieces) > 1) for part in parts]
        else:
            sums = [s.add_(part) for s, part in zip(sums, parts, strict=True)]
        total = losses.detach() if total is None else total + losses.detach()
    assert total is not None, "a batch has at least one piece"
    return total, sums


def _in_order(gradient: Tensor, *, copy: bool) -> Tensor:
    return gradient.clone(memory_format=torch.contiguous_format) if copy else gradient.contiguous()


def dropout(probability: float, generators: Sequence[torch.Generator]) -> Dropout | None:
    """Return dropout that draws each member's mask from its own generator; None where nothing is dropped."""
    if not probability:
        return None
    scale = 1 / (1 - probability)
    # 16 random bits a value, four values a draw: drawn ten times as fast as by bernoulli_, which has one thread.
    dropped = round(probability * 2**16) - 2**15

    def drop(value: Tensor, sizes: Sequence[int]) -> Tensor:
        keep = torch.zeros_like(value)
        for row, size, generator in zip(keep, sizes, generators, strict=True):
            part = row[:size]
            draws = torch.empty(-(-part.numel() // 4), dtype=torch.int64, device=value.device)
            bits = draws.random_(-(2**63), None, generator=generator).view(torch.int16)
            torch.mul((bits[: part.numel()] >= dropped).view(part.shape), scale, out=part)
        return value * keep

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
