"""Fine-tuning of stacked members for sequence classification, and their logits on the splits that judge them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlm_search.data.tokens import TokenArray
from tlm_search.model.architecture import Architecture
from tlm_search.model.bert import Weights, classifier_weights, classify, encode, initial_weights
from tlm_search.training.batches import Ints, TextBatch, assemble, orders
from tlm_search.training.engine import Course, Optimisation, dropout, train
from tlm_search.training.pretrain import member_losses
from tlm_search.training.settings import Finetuning

EVALUATION_TEXTS = 256  # texts per forward pass without gradients


def finetune(
    architecture: Architecture,
    settings: Finetuning,
    texts: TokenArray,
    labels: Ints,
    *,
    classes: int,
    pad: int,
    seeds: Sequence[int],
    pretrained: Weights | None,
    device: str = "cpu",
) -> tuple[Weights, Course]:
    """Train one classifier per seed, starting from ``pretrained`` encoders or from fresh ones.

    ``labels`` are indices below ``classes``, one a text. ``pretrained`` is left as it was.
    """
    data = [np.random.default_rng((seed, 2)) for seed in seeds]
    drop = dropout(settings.dropout, [torch.Generator(device).manual_seed(seed + 0xF1E) for seed in seeds])
    encoder = initial_weights(architecture, seeds) if pretrained is None else pretrained
    weights = {name: value.clone() for name, value in encoder.items() if not name.startswith("mlm.")}
    weights.update(classifier_weights(architecture, classes, seeds))
    weights = {name: value.to(device) for name, value in weights.items()}
    updates = settings.epochs * math.ceil(len(texts) / settings.batch_size)

    def labelled() -> Iterator[tuple[TextBatch, Tensor]]:
        for chosen in orders(len(texts), batch_size=settings.batch_size, epochs=settings.epochs, generators=data):
            rows = _assemble(architecture, texts, chosen, pad=pad)
            yield rows.to(device), torch.from_numpy(labels[chosen]).to(device)

    def loss(weights: Weights, batch: tuple[TextBatch, Tensor]) -> Tensor:
        rows, targets = batch
        hidden = encode(weights, architecture, rows.tokens, dropout=drop, training=True)
        logits = classify(weights, hidden, rows.tokens, starts=rows.starts, pooling=settings.pooling, dropout=drop)
        return member_losses(logits, targets)

    optimisation = Optimisation(settings.learning_rate, settings.weight_decay, settings.warmup, updates)
    return weights, train(weights, labelled(), loss, optimisation=optimisation)


@torch.inference_mode()
def predict(
    architecture: Architecture, weights: Weights, texts: TokenArray, *, pooling: str, pad: int
) -> NDArray[np.float32]:
    """Return each member's logits for all ``texts``: ``(K, texts, classes)``."""
    members, device = weights["classifier.bias"].shape[0], str(weights["classifier.bias"].device)
    parts = []
    for first in range(0, len(texts), EVALUATION_TEXTS):
        chosen = np.arange(first, min(first + EVALUATION_TEXTS, len(texts)))
        rows = _assemble(architecture, texts, np.tile(chosen, (members, 1)), pad=pad).to(device)
        hidden = encode(weights, architecture, rows.tokens)
        parts.append(classify(weights, hidden, rows.tokens, starts=rows.starts, pooling=pooling).cpu().numpy())
    return np.concatenate(parts, axis=1)


def _assemble(architecture: Architecture, texts: TokenArray, chosen: Ints, *, pad: int) -> TextBatch:
    packed = not architecture.convolution_layers
    return assemble(texts, chosen, length=architecture.positions, packed=packed, pad=pad)
