"""The settings of pre-training and fine-tuning. This module does not import torch, so that specs can use it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


def scaled_weights(given: str, counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Scale class weights, a JSON list, so that texts have a mean weight of 1; ``counts`` are the texts by class."""
    weights = np.array(json.loads(given), np.float64)
    return np.asarray(weights * counts.sum() / (weights @ counts))


Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Pretraining:
    """Masked-language-model pre-training; ``tlm_search.space.settings`` explains each setting.

    With 0 epochs the result is the initial weights.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: float
    dropout: float
    masking_probability: float
    schedule: str = "linear"
    optimiser: str = "adamw"
    softmax: str = "full"
    initial_embeddings: str = "random"


@dataclass(frozen=True)
class Finetuning:
    """Fine-tuning of the whole member; ``pooling`` is ``cls``, ``mean`` or ``spans``.

    ``class_weights`` is ``none``, ``balanced``, or a JSON list with a number for each class. Soft labels ignore it.
    """

    pooling: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: float
    dropout: float
    class_weights: str = "none"


@dataclass(frozen=True)
class Execution:
    """Where and how a training is computed. These settings should not make a member better or worse.

    ``precision`` is the precision of activations; weights stay in fp32. If memory is short, a batch is split into
    ``micro_batches``. Then dropout is drawn in another order, and the batch norm of a convolution uses the statistics
    of a micro-batch.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    micro_batches: int = 1
