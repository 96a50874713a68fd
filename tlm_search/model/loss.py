"""Losses of stacked members; the masked-language-model head is multiplied, scored and differentiated in one go.

Its logits are the largest thing in the training of a tiny BERT. Their gradient is known as soon as they are, so both
live only for as long as one block of rows takes, and no block has more than ``LOGITS_BYTES`` of them (as Wijmans et
al. 2024, arXiv 2411.09009, do for large models on GPUs).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tlm_search.model.bert import Weights, mlm_transform
from tlm_search.model.footprint import LOGITS_BYTES

UNSCORED = -100  # a target that fills up
_SMALLEST = torch.finfo(torch.float32).tiny


def mlm_losses(weights: Weights, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return each member's sum of cross-entropies ``(K,)`` for its ``hidden`` states ``(K, n, width)``.

    ``targets`` ``(K, n)`` are UNSCORED where there is nothing to predict.
    """
    parts = (mlm_transform(weights, hidden), weights["embeddings.words"], weights["mlm.bias"])
    # squeeze, not an index, whose gradient would be a zeroed copy of the vocabulary.
    members = zip(*(part.unbind() if len(targets) > 1 else (part.squeeze(0),) for part in parts), strict=True)
    apply: Callable[..., Tensor] = _LinearCrossEntropy.apply
    return torch.stack([apply(*member, row) for member, row in zip(members, targets, strict=True)])


def class_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return each member's sum of cross-entropies ``(K,)`` of ``logits`` ``(K, n, classes)``."""
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=UNSCORED, reduction="none")
    return losses.view_as(targets).sum(dim=1)


def soft_losses(logits: Tensor, targets: Tensor, probabilities: Tensor) -> Tensor:
    """Return each member's sum of cross-entropies ``(K,)`` of ``logits`` ``(K, n, classes)`` with soft labels.

    ``targets`` ``(K, n)`` are rows of ``probabilities`` ``(texts, classes)``, or UNSCORED.
    """
    wanted = probabilities[targets.clamp(min=0)]
    losses = -(wanted * logits.log_softmax(-1)).sum(-1)
    return losses.masked_fill(targets == UNSCORED, 0).sum(dim=1)


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropies of ``hidden @ weight.T + bias``, multiplied in the precision of ``hidden``."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        table, offset = weight.to(hidden.dtype), bias.to(hidden.dtype)
        # Unscored rows are struck out of the small factors of each product, never of the logits.
        scored = (targets != UNSCORED).to(hidden.dtype)
        places, factors = targets[:, None].clamp(min=0), hidden * scored[:, None]
        of_hidden, of_weight, of_bias = torch.empty_like(hidden), None, torch.zeros_like(bias)
        total = torch.zeros((), device=hidden.device)
        step = max(1, LOGITS_BYTES // (4 * len(weight)))
        for first in range(0, len(hidden), step):
            rows = slice(first, first + step)
            # Not logsumexp, which takes ten times as long on a CPU; a loss above 87 is given as 87.
            gradient = F.linear(hidden[rows], table, offset).softmax(-1)
            chances = gradient.gather(1, places[rows]).squeeze(1).float()
            total -= chances.clamp(min=_SMALLEST).log() @ scored[rows].float()
            gradient.scatter_(1, places[rows], (chances - 1).to(gradient.dtype)[:, None])
            of_hidden[rows] = gradient @ table
            of_bias += scored[rows] @ gradient
            product = (gradient.T @ factors[rows]).to(weight.dtype)
            of_weight = product if of_weight is None else of_weight.add_(product)
        ctx.gradients = (of_hidden.mul_(scored[:, None]), of_weight, of_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        of_hidden, of_weight, of_bias = (gradient.mul_(outer[0]) for gradient in ctx.gradients)
        return of_hidden, of_weight, of_bias, None
