"""Masked-language-model pre-training of stacked members (Devlin et al. 2019), scored on the masked positions only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tlm_search.data.tokens import TokenArray
from tlm_search.model.architecture import Architecture
from tlm_search.model.bert import Weights, encode, gather, initial_weights, mlm_logits
from tlm_search.training import batches
from tlm_search.training.batches import UNSCORED, MaskedBatch
from tlm_search.training.engine import Course, Optimisation, dropout, train
from tlm_search.training.settings import Pretraining


def pretrain(
    architecture: Architecture,
    settings: Pretraining,
    corpus: TokenArray,
    *,
    special: Mapping[str, int],
    seeds: Sequence[int],
    device: str = "cpu",
) -> tuple[Weights, Course]:
    """Pre-train one encoder with its head per seed on all texts of ``corpus``.

    ``special`` gives the ids of pad, cls, sep and mask. The weights have a leading member dimension.
    """
    data = [np.random.default_rng((seed, 1)) for seed in seeds]
    drop = dropout(settings.dropout, [torch.Generator(device).manual_seed(seed + 0xD09) for seed in seeds])
    packed = not architecture.convolution_layers
    updates = settings.epochs * math.ceil(len(corpus) / settings.batch_size)

    def masked() -> Iterator[MaskedBatch]:
        for chosen in batches.orders(
            len(corpus), batch_size=settings.batch_size, epochs=settings.epochs, generators=data
        ):
            rows = batches.assemble(corpus, chosen, length=architecture.positions, packed=packed, pad=special["pad"])
            yield batches.mask(
                rows,
                probability=settings.masking_probability,
                vocabulary=architecture.vocabulary,
                special=[special[name] for name in ("pad", "cls", "sep")],
                mask_id=special["mask"],
                generators=data,
            ).to(device)

    def loss(weights: Weights, batch: MaskedBatch) -> Tensor:
        hidden = encode(weights, architecture, batch.tokens, dropout=drop, training=True)
        return member_losses(mlm_logits(weights, gather(hidden, batch.positions)), batch.targets)

    weights = {name: value.to(device) for name, value in initial_weights(architecture, seeds).items()}
    optimisation = Optimisation(settings.learning_rate, settings.weight_decay, settings.warmup, updates)
    return weights, train(weights, masked(), loss, optimisation=optimisation)


def member_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return each member's mean cross-entropy, ``(K,)``, of ``logits`` ``(K, n, classes)`` where targets are scored."""
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=UNSCORED, reduction="none")
    scored = (targets != UNSCORED).sum(dim=1).clamp(min=1)
    return losses.view_as(targets).sum(dim=1) / scored
