"""Fine-tuning of stacked members for sequence classification, and their logits on validation and test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlm_search.data.markers import Markers
from tlm_search.data.tokens import TokenArray
from tlm_search.model.architecture import Architecture
from tlm_search.model.batching import BATCH_TOKENS, batches, rows
from tlm_search.model.bert import class_logits
from tlm_search.model.inference import is_lookup_worth, member_logits, split, with_lookup
from tlm_search.model.loss import class_losses, soft_losses
from tlm_search.model.weights import Weights, classifier_weights, initial_weights
from tlm_search.training.batches import BatchSampler, Ints, ScoredBatch, assemble, label
from tlm_search.training.checkpoint import MakeCheckpointer
from tlm_search.training.dropout import dropout
from tlm_search.training.engine import Optimisation, TrainingLog, Watch, train
from tlm_search.training.settings import Execution, Finetuning, scaled_weights

GPU_TOKENS = 32_768  # of a forward pass without gradients on a GPU
_WORDS = "embeddings.words"
# Added to a member's seed, so that the streams of random numbers differ from those of pre-training.
_ORDER_STREAM, _DROPOUT_STREAM = 2, 0xF1E


def finetune(
    architecture: Architecture,
    settings: Finetuning,
    texts: TokenArray,
    labels: Ints | NDArray[np.float32],
    *,
    classes: int,
    pad: int,
    markers: Markers | None = None,
    seeds: Sequence[int],
    pretrained: Weights | None,
    execution: Execution | None = None,
    make_checkpointer: MakeCheckpointer | None = None,
    watch: Watch = lambda update, updates: None,
) -> tuple[Weights, TrainingLog]:
    """Train a classifier per seed, starting from ``pretrained`` encoders or from random weights.

    ``labels`` are an index below ``classes`` for each text, or probabilities ``(texts, classes)`` as soft labels of the
    cross-entropy. ``markers`` are for the pooling ``spans``. ``pretrained`` is not changed. ``make_checkpointer``
    creates the checkpointer of the training. ``watch`` is called after each update.
    """
    execution = execution or Execution()
    device, precision = execution.device, getattr(torch, execution.precision)
    generators = [np.random.default_rng((seed, _ORDER_STREAM)) for seed in seeds]
    dropouts = [torch.Generator(device).manual_seed(seed + _DROPOUT_STREAM) for seed in seeds]
    drop = dropout(settings.dropout, dropouts, most=settings.batch_size * architecture.positions)
    encoder = initial_weights(architecture, seeds) if pretrained is None else pretrained
    weights = {name: value.clone() for name, value in encoder.items() if not name.startswith("mlm.")}
    weights.update(classifier_weights(architecture, classes, seeds, pooling=settings.pooling))
    # Words that no text contains get no gradient, so their weight decay is applied at the end, in one step.
    markers = markers if settings.pooling == "spans" else None
    vocabulary, words = weights[_WORDS], np.union1d(texts.ids, [pad, *(markers or ())])
    texts = replace(texts, ids=np.searchsorted(words, texts.ids).astype(np.int32))
    pad = int(words.searchsorted(pad))
    markers = markers and Markers(*words.searchsorted(markers).tolist())
    weights[_WORDS] = vocabulary[:, words]
    weights = {name: value.to(device) for name, value in weights.items()}
    probabilities = torch.from_numpy(labels).to(device) if labels.ndim == 2 else None
    balance: Tensor | None = None
    if settings.class_weights != "none" and probabilities is None:
        balance = torch.from_numpy(class_weights(settings.class_weights, labels, classes)).to(device)
    targets = np.arange(len(texts)) if labels.ndim == 2 else np.asarray(labels, np.int64)
    sampler = BatchSampler(len(texts), batch_size=settings.batch_size, epochs=settings.epochs, generators=generators)

    packed = not architecture.convolution_layers  # their batch norm takes statistics of all rows

    def labelled() -> Iterator[Sequence[ScoredBatch]]:
        for chosen in sampler:
            batch = assemble(texts, chosen, length=architecture.positions, packed=packed, pad=pad)
            yield label(batch, targets[chosen]).split(execution.micro_batches)

    def loss(weights: Weights, batch: ScoredBatch) -> Tensor:
        options: dict[str, Any] = {"dropout": drop, "training": True, "precision": precision, "markers": markers}
        logits = class_logits(weights, architecture, batch.tokens, batch.read, pooling=settings.pooling, **options)
        if probabilities is not None:
            return soft_losses(logits, batch.targets, probabilities) / batch.scored
        return class_losses(logits, batch.targets, balance) / batch.scored

    optimisation = Optimisation(settings.learning_rate, settings.weight_decay, settings.warmup, sampler.updates)
    checkpointer = None if make_checkpointer is None else make_checkpointer(sampler, dropouts)
    most_rows = settings.batch_size if packed else None
    log = train(
        weights,
        labelled(),
        loss,
        optimisation=optimisation,
        dropouts=dropouts,
        most_rows=most_rows,
        checkpointer=checkpointer,
        watch=watch,
    )
    vocabulary = vocabulary.to(device).mul_(optimisation.decay())
    vocabulary[:, words] = weights[_WORDS]
    return {**weights, _WORDS: vocabulary}, log


def class_weights(given: str, labels: Ints | NDArray[np.float32], classes: int) -> NDArray[np.float32]:
    """Return a weight for each class: ``balanced``, or in proportion to a list. Texts have a mean weight of 1.

    A balanced weight is the mean number of texts of a class divided by the number of this class (scikit-learn's
    formula). Classes without a text do not count; their balanced weight is 0.
    """
    counts = np.bincount(labels, minlength=classes)
    if given != "balanced":
        return scaled_weights(given, counts).astype(np.float32)
    there = counts > 0
    return np.where(there, len(labels) / (there.sum() * np.maximum(counts, 1)), 0).astype(np.float32)


@torch.inference_mode()
def predict(
    architecture: Architecture,
    weights: Weights,
    texts: TokenArray,
    *,
    pooling: str,
    pad: int,
    markers: Markers | None = None,
) -> NDArray[np.float32]:
    """Return each member's logits for all ``texts``: ``(K, texts, classes)``."""
    members, device, lengths = len(weights["classifier.bias"]), weights["classifier.bias"].device, texts.lengths()
    stacks, most = [weights], GPU_TOKENS
    if device.type == "cpu":
        # One member after another, because a single member uses the plain kernels, which are faster for large batches.
        stacks, most = split(weights, architecture), BATCH_TOKENS
        if pooling == "cls" and architecture.depth == 1:
            most *= 4  # little more than the embeddings is computed
        if is_lookup_worth(architecture, members=members, tokens=len(texts.ids), pooling=pooling):
            stacks = [with_lookup(member) for member in stacks]
    if architecture.convolution_layers:
        lengths = np.full_like(lengths, architecture.positions)  # each text is padded to the full length
    logits = np.empty((members, len(texts), weights["classifier.bias"].shape[-1]), np.float32)
    for chosen in batches(lengths, tokens=most):
        asked, seen, types = rows(texts, chosen, pad=pad).tensors()
        options: dict[str, Any] = {
            "pooling": pooling,
            "pad": pad,
            "markers": markers,
            "types": None if types is None else types.to(device),
        }
        asked, mask = asked.to(device), None if seen.all() else seen.to(device)
        answers = [member_logits(stack, architecture, asked, mask, **options) for stack in stacks]
        logits[:, chosen] = torch.cat(answers).cpu().numpy()
    return logits
