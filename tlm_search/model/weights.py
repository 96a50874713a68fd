"""Initial weights of members, one seed each, drawn as in BERT.

They are normal, with BERT's standard deviation of 0.02 at BERT's width, scaled as 1 / sqrt(width) at other widths. With
0.02 at widths from 16 to 64 the signal through the layers is so small that a [CLS] classifier cannot fit its training
split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlm_search.model import convolution
from tlm_search.model.architecture import Architecture

Weights = dict[str, Tensor]  # by name, each with a leading member dimension

# Added to a member's seed, so that the streams of random numbers differ from that of its encoder.
_ROTATION_STREAM, _CLASSIFIER_STREAM = 0x707, 0x5EED
INITIAL_STD, INITIAL_WIDTH = 0.02, 768  # BERT's standard deviation, at BERT's width


def initial_weights(
    architecture: Architecture, seeds: Sequence[int], *, word_vectors: NDArray[np.float32] | None = None
) -> Weights:
    """Draw encoders with masked-language-model heads, one per seed.

    ``word_vectors`` ``(vocabulary, width)`` replace rows of the embedding tables, rotated differently for each member.
    A row of zeros leaves the random row unchanged.
    """

    def draw(seed: int) -> Weights:
        return _initial_member(architecture, torch.Generator().manual_seed(seed))

    # Draw members in parallel, because a generator uses a single thread.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        members = list(pool.map(draw, seeds))
    weights = {name: torch.stack([member[name] for member in members]) for name in members[0]}
    if word_vectors is not None:
        known, vectors = torch.from_numpy(word_vectors.any(axis=1)), torch.from_numpy(word_vectors)
        for table, seed in zip(weights["embeddings.words"], seeds, strict=True):
            table[known] = vectors[known] @ rotation(architecture.width, seed)
    return weights


def position_table(weights: Weights) -> Tensor:
    """Return the vector to add to a word at each position, ``(K, 2 x positions, width)``.

    The positions of the first segment come before the positions of the second.
    """
    positions, types = weights["embeddings.positions"], weights["embeddings.types"]
    return torch.cat([positions + types[:, :1], positions + types[:, 1:]], dim=1)


def rotation(width: int, seed: int) -> Tensor:
    """Draw a uniform random orthogonal matrix ``(width, width)`` (Mezzadri 2007, arXiv math-ph/0609050)."""
    generator = torch.Generator().manual_seed(seed + _ROTATION_STREAM)
    drawn = torch.empty(width, width, dtype=torch.float64).normal_(generator=generator)
    basis, triangle = torch.linalg.qr(drawn)
    turned: Tensor = (basis * triangle.diagonal().sign()).float()
    return turned


def classifier_weights(
    architecture: Architecture, labels: int, seeds: Sequence[int], *, pooling: str = "cls"
) -> Weights:
    """Draw poolers and output layers for ``labels`` classes, one per seed."""
    width, pooled = architecture.width, architecture.pooled_width(pooling)
    members = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed + _CLASSIFIER_STREAM)
        members.append(
            {
                **_linear("pooler", pooled, width, generator, std=initial_std(pooled)),
                **_linear("classifier", width, labels, generator, std=initial_std(width)),
            }
        )
    return {name: torch.stack([member[name] for member in members]) for name in members[0]}


@cache
def answering_shapes(architecture: Architecture, labels: int, *, pooling: str) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of each tensor of a classifier, without the member dimension. Nothing is drawn."""
    with torch.device("meta"):
        encoder = _initial_member(architecture, torch.Generator(device="cpu"))
        classifier = classifier_weights(architecture, labels, [0], pooling=pooling)
    shapes = {name: tuple(value.shape) for name, value in encoder.items() if not name.startswith("mlm.")}
    return shapes | {name: tuple(value.shape[1:]) for name, value in classifier.items()}


def _initial_member(architecture: Architecture, generator: torch.Generator) -> Weights:
    width, inner = architecture.width, architecture.feed_forward

    def table(rows: int) -> Tensor:
        return torch.empty(rows, width).normal_(0, initial_std(width), generator=generator)

    weights: Weights = {
        "embeddings.words": table(architecture.vocabulary),
        "embeddings.positions": table(architecture.positions),
        "embeddings.types": table(2),
        **_norm("embeddings.norm", width),
    }
    if architecture.convolution_layers:
        weights.update(convolution.initial_weights(architecture, generator))
    std = initial_std(width)
    for layer in range(architecture.weighted_layers):
        name = f"layers.{layer}"
        weights.update(_linear(f"{name}.attention.qkv", width, 3 * width, generator, std=std))
        weights.update(_linear(f"{name}.attention.out", width, width, generator, std=std))
        weights.update(_norm(f"{name}.attention.norm", width))
        weights.update(_linear(f"{name}.inner", width, inner, generator, std=std))
        weights.update(_linear(f"{name}.out", inner, width, generator, std=std))
        weights.update(_norm(f"{name}.norm", width))
    if architecture.normalisation == "pre":
        weights.update(_norm("norm", width))
    weights.update(_linear("mlm.transform", width, width, generator, std=std))
    weights.update(_norm("mlm.norm", width))
    weights["mlm.bias"] = torch.zeros(architecture.vocabulary)
    return weights


def initial_std(width: int) -> float:
    """Return the standard deviation of initial weights."""
    return INITIAL_STD * math.sqrt(INITIAL_WIDTH / width)


def _linear(name: str, inputs: int, outputs: int, generator: torch.Generator, *, std: float) -> Weights:
    weight = torch.empty(outputs, inputs).normal_(0, std, generator=generator)
    return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(outputs)}


def _norm(name: str, width: int) -> Weights:
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
