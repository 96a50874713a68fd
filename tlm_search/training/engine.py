"""The training loop of both objectives: forward, backward, clip, optimiser, for K independent members at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tlm_search.model.convolution import STATISTICS
from tlm_search.model.weights import Weights
from tlm_search.training.batches import ScoredBatch
from tlm_search.training.checkpoint import Checkpointer, Snapshot
from tlm_search.training.graphs import Graphs
from tlm_search.training.optimiser import optimiser_of, set_rate

Loss = Callable[[Weights, ScoredBatch], Tensor]
Watch = Callable[[int, int], None]  # called after each update with the numbers of finished updates and of all updates

GRADIENT_NORM = 1.0  # each member's gradient is clipped to this norm
RECORDED_LOSSES = 100  # points of a stored loss curve


@dataclass(frozen=True)
class Optimisation:
    """The optimisation of a stack: peak learning rate, weight decay, share of warm-up, number of updates.

    ``schedule`` is the name of the schedule after the warm-up in ``transformers``.
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
        """Return the share of a weight without gradients that remains after all updates."""
        return math.prod(1 - self.rate(update) * self.weight_decay for update in range(self.updates))


@dataclass(frozen=True)
class TrainingLog:
    """The log of a training: each member's loss curve, (update, mean loss since the last point), and the seconds."""

    losses: tuple[tuple[tuple[int, float], ...], ...]
    seconds: float

    def broken(self, member: int) -> int | None:
        """Return the first update at which a member's loss is NaN or infinite, or None."""
        return next((update for update, loss in self.losses[member] if not math.isfinite(loss)), None)


def train(
    weights: Weights,
    batches: Iterable[Sequence[ScoredBatch]],
    loss: Loss,
    *,
    optimisation: Optimisation,
    dropouts: Sequence[torch.Generator] = (),
    most_rows: int | None = None,
    checkpointer: Checkpointer | None = None,
    watch: Watch = lambda update, updates: None,
) -> TrainingLog:
    """Train the stacked ``weights`` in place.

    ``batches`` yields the batch of each update in one or several micro-batches. ``loss`` returns each member's share of
    its loss in a micro-batch, shape ``(K,)``; the losses of the micro-batches add up. Members share no weights, so the
    gradient of their summed loss is each member's own gradient. A member with a NaN loss does not affect the others,
    and its curve shows the NaN. ``loss`` draws from the generators ``dropouts``. Batches may be padded with empty rows
    up to ``most_rows``; None forbids it. With a ``checkpointer`` the training continues from its last checkpoint.
    ``watch`` is called after each update.
    """
    trained = {name: value for name, value in weights.items() if not name.endswith(STATISTICS)}
    device = next(iter(trained.values())).device
    optimiser = optimiser_of(
        trained,
        name=optimisation.optimiser,
        learning_rate=optimisation.learning_rate,
        weight_decay=optimisation.weight_decay,
    )
    group = optimiser.param_groups[0]
    snapshot = Snapshot(weights, dict(zip(trained, group["params"], strict=True)), optimiser)
    if checkpointer is not None:
        checkpointer.restore(snapshot)

    def step(micro_batches: Sequence[ScoredBatch]) -> Tensor:
        losses, gradients = _differentiate(weights, trained, micro_batches, loss)
        _clip(gradients)
        for parameter, gradient in zip(group["params"], gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        optimiser.zero_grad()
        return losses

    run = step if device.type == "cpu" else Graphs(step, dropouts, device, most_rows=most_rows)
    begin, earlier = time.perf_counter(), snapshot.seconds
    for update, micro_batches in enumerate(batches, start=len(snapshot.losses)):
        set_rate(optimiser, optimisation.rate(update))
        losses = run(micro_batches)
        snapshot.losses.append(losses)
        snapshot.seconds = earlier + time.perf_counter() - begin
        watch(update + 1, optimisation.updates)
        if update % 100 == 0 and not losses.isfinite().any():
            break
        if checkpointer is not None and checkpointer.is_due():
            checkpointer.save(snapshot)
    curves = _curves(snapshot.losses)  # waits until the GPU has finished all updates
    return TrainingLog(curves, earlier + time.perf_counter() - begin)


def _differentiate(
    weights: Weights, trained: Weights, micro_batches: Sequence[ScoredBatch], loss: Loss
) -> tuple[Tensor, list[Tensor]]:
    """Return each member's loss ``(K,)`` and the gradients of the ``trained`` weights."""
    leaves = {name: value.detach().requires_grad_() for name, value in trained.items()}
    total: Tensor | None = None
    sums: list[Tensor] = []
    for micro_batch in micro_batches:
        losses = loss({**weights, **leaves}, micro_batch)
        parts = torch.autograd.grad(losses.sum(), list(leaves.values()))
        if not sums:
            # The fused optimiser reads gradients in memory order, but gradients of batched products can be transposed.
            # Copy them if the gradients of the next micro-batch may reuse their memory.
            sums = [_in_order(part, copy=len(micro_batches) > 1) for part in parts]
        else:
            sums = [s.add_(part) for s, part in zip(sums, parts, strict=True)]
        total = losses.detach() if total is None else total + losses.detach()
    assert total is not None, "a batch has at least one micro-batch"
    return total, sums


def _in_order(gradient: Tensor, *, copy: bool) -> Tensor:
    return gradient.clone(memory_format=torch.contiguous_format) if copy else gradient.contiguous()


def _clip(gradients: Sequence[Tensor]) -> None:
    members = list(zip(*(gradient.unbind() for gradient in gradients), strict=True))
    norms = torch._foreach_norm([part for own in members for part in own])
    lengths = torch.stack(norms).view(len(members), -1).norm(dim=1)
    for own, share in zip(members, (GRADIENT_NORM / (lengths + 1e-6)).clamp(max=1.0).unbind(), strict=True):
        # The formula of torch.nn.utils.clip_grad_norm_; a GPU scales all gradients of a member in one kernel.
        torch._foreach_mul_(own, share)


def _curves(history: Sequence[Tensor]) -> tuple[tuple[tuple[int, float], ...], ...]:
    losses = torch.stack(list(history)).T.double()
    step = max(1, math.ceil(len(history) / RECORDED_LOSSES))
    means = [chunk.mean(dim=1).tolist() for chunk in torch.split(losses, step, dim=1)]
    ends = [min(len(history), (point + 1) * step) for point in range(len(means))]
    return tuple(
        tuple((end, mean[member]) for end, mean in zip(ends, means, strict=True)) for member in range(losses.shape[0])
    )
