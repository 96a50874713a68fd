"""Masked-language-model pre-training of stacked members (Devlin et al. 2019), scored only at masked positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlm_search.data.tokens import TokenArray
from tlm_search.model.architecture import Architecture
from tlm_search.model.bert import encode
from tlm_search.model.loss import mlm_losses, sampled_mlm_losses
from tlm_search.model.tied_embeddings import TiedWords
from tlm_search.model.weights import Weights, initial_weights
from tlm_search.training import batches
from tlm_search.training.batches import BatchSampler, ScoredBatch
from tlm_search.training.checkpoint import MakeCheckpointer
from tlm_search.training.dropout import dropout
from tlm_search.training.engine import Optimisation, TrainingLog, Watch, train
from tlm_search.training.settings import Execution, Pretraining

# Added to a member's seed, so that the streams of random numbers differ from those of fine-tuning.
_ORDER_STREAM, _DROPOUT_STREAM = 1, 0xD09


def pretrain(
    architecture: Architecture,
    settings: Pretraining,
    corpus: TokenArray,
    *,
    special: Mapping[str, int],
    seeds: Sequence[int],
    word_vectors: NDArray[np.float32] | None = None,
    execution: Execution | None = None,
    make_checkpointer: MakeCheckpointer | None = None,
    watch: Watch = lambda update, updates: None,
) -> tuple[Weights, TrainingLog]:
    """Pre-train an encoder with its head per seed on all texts of ``corpus``.

    ``special`` has the ids of pad, cls, sep and mask. The embedding tables start from ``word_vectors`` (see
    ``initial_weights``). With 0 epochs the initial weights are returned. The returned weights have a leading member
    dimension. ``make_checkpointer`` creates the checkpointer of the training. ``watch`` is called after each update.
    """
    execution = execution or Execution()
    device, precision = execution.device, getattr(torch, execution.precision)
    weights = initial_weights(architecture, seeds, word_vectors=word_vectors)
    weights = {name: value.to(device) for name, value in weights.items()}
    if not settings.epochs:
        return weights, TrainingLog(((),) * len(seeds), 0.0)
    generators = [np.random.default_rng((seed, _ORDER_STREAM)) for seed in seeds]
    dropouts = [torch.Generator(device).manual_seed(seed + _DROPOUT_STREAM) for seed in seeds]
    drop = dropout(settings.dropout, dropouts, most=settings.batch_size * architecture.positions)
    sampler = BatchSampler(len(corpus), batch_size=settings.batch_size, epochs=settings.epochs, generators=generators)

    sampled = settings.softmax == "sampled"
    chances = _chances(corpus, architecture.vocabulary) if sampled else None
    words, packed = TiedWords(device), not architecture.convolution_layers  # statistics of all rows

    def masked() -> Iterator[Sequence[ScoredBatch]]:
        for chosen in sampler:
            rows = batches.assemble(corpus, chosen, length=architecture.positions, packed=packed, pad=special["pad"])
            batch = batches.mask(
                rows,
                probability=settings.masking_probability,
                vocabulary=architecture.vocabulary,
                special=[special[name] for name in ("pad", "cls", "sep")],
                mask_id=special["mask"],
                generators=generators,
            )
            yield (batch if chances is None else batches.with_candidates(batch, chances)).split(execution.micro_batches)

    def loss(weights: Weights, batch: ScoredBatch) -> Tensor:
        hidden = encode(
            weights,
            architecture,
            batch.tokens,
            read=batch.read,
            lookup=None if sampled else words.lookup,
            dropout=drop,
            training=True,
            precision=precision,
        )
        if batch.candidates is not None:
            candidates = (batch.candidates.ids, batch.candidates.offsets)
            return sampled_mlm_losses(weights, hidden, batch.targets, 1 / batch.scored, candidates)
        return mlm_losses(weights, hidden, batch.targets, 1 / batch.scored, words)

    optimisation = Optimisation(
        settings.learning_rate,
        settings.weight_decay,
        settings.warmup,
        sampler.updates,
        schedule=settings.schedule,
        optimiser=settings.optimiser,
    )
    checkpointer = None if make_checkpointer is None else make_checkpointer(sampler, dropouts)
    most_rows = settings.batch_size if packed else None
    log = train(
        weights,
        masked(),
        loss,
        optimisation=optimisation,
        dropouts=dropouts,
        most_rows=most_rows,
        checkpointer=checkpointer,
        watch=watch,
    )
    return weights, log


def _chances(corpus: TokenArray, vocabulary: int) -> NDArray[np.float64]:
    """Return the share of each word in the tokens of the corpus, never 0 or 1."""
    counts = np.bincount(np.asarray(corpus.ids), minlength=vocabulary) + 1.0
    return np.asarray(counts / (counts.sum() + 1))
