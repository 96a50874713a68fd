"""How members are trained: the settings of the two objectives. No torch here, so that specs can carry them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Pretraining:
    """Masked-language-model pre-training; ``tlm_search.space.settings`` says what each setting means.

    With no epochs it is the initial weights.
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

    ``class_weights`` is ``none`` or ``balanced``; soft labels have none.
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
    """Where and how a training is computed; nothing of it is meant to make a better or worse member.

    ``precision`` is that of activations, weights stay in fp32. ``pieces`` is how many parts a batch is computed in,
    one after the other, where memory is short: dropout is then drawn in another order, and a convolution's batch norm
    takes the statistics of a part.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    pieces: int = 1
