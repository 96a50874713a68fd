"""The settings of both trainings. This module does not import torch, so that specs can hold them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


def scaled_weights(given: str, counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the class weights of a list, as JSON, scaled so that texts weigh 1 on average; classes have ``counts``."""
    weights = np.array(json.loads(given), np.float64)
    return np.asarray(weights * counts.sum() / (weights @ counts))


Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Pretraining:
    """Masked-language-model pre-training; ``tlm_search.space.settings`` says what each setting means.

    With 0 epochs the initial weights are its result.
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

    ``class_weights`` is ``none``, ``balanced``, or a list of a number for each class, as JSON; soft labels have none.
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
    """Where and how a training is computed. None of it should make a member better or worse.

    ``precision`` is that of activations; weights stay in fp32. ``micro_batches`` is the number into which a batch is
    split, more than one if memory is short. Dropout is then drawn in another order, and the batch norm of a convolution
    takes the statistics of a micro-batch.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    micro_batches: int = 1
