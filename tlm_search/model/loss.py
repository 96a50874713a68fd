"""Losses of stacked members."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from tlm_search.model.bert import mlm_transform
from tlm_search.model.rows import gather
from tlm_search.model.tied_embeddings import UNSCORED, TiedWords, linear_cross_entropy
from tlm_search.model.weights import Weights


def mlm_losses(
    weights: Weights, hidden: Tensor, targets: Tensor, shares: Tensor, words: TiedWords | None = None
) -> Tensor:
    """Return each member's sum of cross-entropies ``(K,)`` for its ``hidden`` states ``(K, n, width)``.

    Each sum is multiplied by the member's entry of ``shares`` ``(K,)``, such as 1 / number of targets. Gradients exist
    only for the plain sum of the returned losses. ``targets`` ``(K, n)`` are UNSCORED at positions without a
    prediction. ``words`` is the ``TiedWords`` that looked up the tokens of ``hidden``, or None.
    """
    head = (mlm_transform(weights, hidden), weights["embeddings.words"], weights["mlm.bias"])
    return linear_cross_entropy(*head, targets, shares, words)


def sampled_mlm_losses(
    weights: Weights, hidden: Tensor, targets: Tensor, shares: Tensor, candidates: tuple[Tensor, Tensor]
) -> Tensor:
    """Return each member's sum of cross-entropies like ``mlm_losses``, but over candidates instead of all words.

    ``candidates`` are ids ``(K, c)`` of words, and offsets ``(K, c)`` to subtract from their logits.
    ``targets`` ``(K, n)`` are indices of candidates, or UNSCORED.
    """
    ids, offsets = candidates
    bias = weights["mlm.bias"].gather(1, ids) - offsets
    table = gather(weights["embeddings.words"], ids)
    return linear_cross_entropy(mlm_transform(weights, hidden), table, bias, targets, shares)


def class_losses(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return each member's sum of cross-entropies ``(K,)`` of ``logits`` ``(K, n, classes)``.

    With ``weights`` ``(classes,)`` each cross-entropy is multiplied by the weight of its target.
    """
    options: dict[str, Any] = {"ignore_index": UNSCORED, "reduction": "none"}
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), weight=weights, **options)
    return losses.view_as(targets).sum(dim=1)


def soft_losses(logits: Tensor, targets: Tensor, probabilities: Tensor) -> Tensor:
    """Return each member's sum of cross-entropies ``(K,)`` of ``logits`` ``(K, n, classes)`` with soft labels.

    ``targets`` ``(K, n)`` are indices of rows of ``probabilities`` ``(texts, classes)``, or UNSCORED.
    """
    wanted = probabilities[targets.clamp(min=0)]
    losses = -(wanted * logits.log_softmax(-1)).sum(-1)
    return losses.masked_fill(targets == UNSCORED, 0).sum(dim=1)
