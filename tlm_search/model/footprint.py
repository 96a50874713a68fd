"""Estimate the memory of a training from its shapes alone. This module does not import torch.

The estimate should be a little too high rather than too low. ``benchmarks/growth.py`` compares it with measurements.
``tlm_search.cost.shares`` corrects it by the memory that trials take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tlm_search.model.architecture import SPANS, Architecture
from tlm_search.space.settings import Value

LOGITS_BYTES = 128 * 2**20  # of a member's fp32 logits in memory at once
FLOAT_BYTES = 4
# Weights, gradients twice (as computed, and in memory order), and two moments of AdamW.
STATE_FLOATS = 5
# Values per token that a layer stores for its backward pass: multiples of the hidden size, and of the inner size.
WIDTHS, INNER_WIDTHS = 18, 4
ATTENTIONS = 4  # attention scores, probabilities, dropout and their gradient
LOGITS = 3  # logits, softmax, gradient
# Largest numbers of contexts and cells in the count matrix of word vectors.
COUNTED_CONTEXTS, COUNTED_CELLS = 8_192, 2**28
COUNTING_VECTORS = 6  # tables of vectors in memory during the decomposition
COUNTING_BYTES = 100e6  # for blocks of the corpus and of the matrix

PROCESS_BYTES = 400e6  # an interpreter with torch, and the first call of its kernels


class Phase(NamedTuple):
    """A phase of training: ``texts`` per batch, and the ``scored`` share of their tokens.

    With a ``sampled`` softmax the head scores only the words of the batch. ``pooled`` is the number of states that the
    pooler reads.
    """

    texts: int
    scored: float = 0.0
    sampled: bool = False
    pooled: int = 1

    @classmethod
    def finetuning(cls, texts: int, pooling: str) -> Phase:
        """Return the fine-tuning of members with this ``pooling``."""
        return cls(texts, pooled=SPANS if pooling == "spans" else 1)

    def forward_flops(self, shape: Architecture) -> float:
        """Return the floating-point operations of the forward pass of a member's batch."""
        scored = self.scored * shape.positions
        return self.texts * shape.forward_flops(shape.positions, scored=scored, words=self.words(shape))

    def words(self, shape: Architecture) -> float:
        """Return the largest number of words that the head scores for a token."""
        scored = self.scored * self.texts * shape.positions
        return min(scored, shape.vocabulary) if self.sampled else shape.vocabulary


def stack_bytes(
    settings: Mapping[str, Value], *, vocabulary: int, positions: int, members: int = 1, micro_batches: int = 1
) -> float:
    """Return the bytes that training ``members`` stacked members takes, of a process or of a GPU.

    ``settings`` are complete. ``micro_batches`` is the number of micro-batches of a batch.
    """
    shape = Architecture.of(settings, vocabulary=vocabulary, positions=positions)
    return max(
        _phase_bytes(shape, phase._replace(texts=max(1, phase.texts // micro_batches)), members=members)
        for phase in phases_of_settings(settings)
    )


def phases_of_settings(settings: Mapping[str, Value]) -> list[Phase]:
    """Return the training phases of complete ``settings``, including students; pre-training is last."""
    phases = [Phase.finetuning(int(settings["finetune_batch_size"]), str(settings["pooling"]))]
    if settings["self_training"] and settings["student_epochs"]:
        phases.append(Phase.finetuning(int(settings["student_batch_size"]), str(settings["pooling"])))
    if settings["pretrain_size"] and settings["pretrain_epochs"]:
        batch, scored = int(settings["pretrain_batch_size"]), float(settings["masking_probability"])
        phases.append(Phase(batch, scored, sampled=settings.get("pretrain_softmax") == "sampled"))
    return phases


def counting_bytes(settings: Mapping[str, Value], *, vocabulary: int) -> float:
    """Return the bytes of main memory for computing word vectors of a member with complete ``settings``."""
    if settings["initial_embeddings"] == "random" or not settings["pretrain_size"]:
        return 0.0
    cells = min(vocabulary * min(vocabulary, COUNTED_CONTEXTS), COUNTED_CELLS)
    return FLOAT_BYTES * (cells + COUNTING_VECTORS * vocabulary * int(settings["width"])) + COUNTING_BYTES


def members_that_fit(shape: Architecture, phases: Sequence[Phase], *, memory: float, most: int) -> int:
    """Return how many members, from 1 to ``most``, can be stacked in ``memory`` bytes."""

    def fits(members: int) -> bool:
        sizes = (_phase_bytes(shape, phase, members=members) for phase in phases)
        return PROCESS_BYTES + max(sizes) <= memory

    return next((members for members in range(most, 1, -1) if fits(members)), 1)


def training_bytes(shape: Architecture, *, texts: int, scored: float, pooled: int = 1, members: int = 1) -> float:
    """Return the bytes that a phase of training takes, in batches of ``texts`` for each of the stacked ``members``.

    ``scored`` is the share of tokens that the masked-language-model head predicts; 0 in fine-tuning. ``pooled`` is the
    number of states that the pooler reads.
    """
    width, tokens = shape.width, texts * shape.positions
    head = width * width * pooled + (4 * width + shape.vocabulary if scored else 0)
    layer = tokens * (WIDTHS * width + INNER_WIDTHS * shape.feed_forward)
    layer += ATTENTIONS * shape.heads * texts * shape.positions**2
    convolution = 4 * tokens * width * shape.channels * shape.convolution_layers
    floats = STATE_FLOATS * (shape.encoder_parameters() + head) + shape.depth * layer + convolution
    logits = min(scored * tokens * shape.vocabulary * FLOAT_BYTES, LOGITS_BYTES)
    return members * FLOAT_BYTES * floats + LOGITS * logits  # the head processes one member after another


def _phase_bytes(shape: Architecture, phase: Phase, *, members: int) -> float:
    return training_bytes(shape, texts=phase.texts, scored=phase.scored, pooled=phase.pooled, members=members)
