"""K tiny BERTs of one architecture as one stacked model, written as functions of their weights.

Every weight has a leading member dimension: a linear layer is ``(K, out, in)``, an embedding ``(K, rows, width)``. The
members never mix: member k of a stack computes what it would compute alone. K = 1 takes the plain kernels, which are
faster than batched ones of batch 1. Weights stay in fp32; activations have the ``precision`` that ``encode`` is given,
and each layer rounds its weights to that of its input.

The mathematics is that of BERT (Devlin et al. 2019) as ``transformers`` has it: post-norm layers, learned positions,
exact GELU, output embeddings tied to the input's. Where it is asked for, layers are pre-norm with a last norm behind
them (Xiong et al. 2020, arXiv 2002.04745), or share one set of weights (Lan et al. 2020, arXiv 1909.11942). Dropout
acts on the embeddings and on the outputs of attention, feed-forward and pooler, not on attention probabilities, where
it would forbid the fused kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tlm_search.model import convolution
from tlm_search.model.architecture import Architecture

Weights = dict[str, Tensor]
# Of values (K, n, width), of which member k uses the first sizes[k] of n.
Dropout = Callable[[Tensor, Sequence[int]], Tensor]

EPSILON = 1e-12  # of the layer norms, as in BERT
INITIAL_STD, INITIAL_WIDTH = 0.02, 768  # BERT's standard deviation, at the width that it was chosen for


@dataclass(frozen=True)
class Tokens:
    """Rows of token ids, each row holding one or several texts.

    ``ids``, ``positions`` and ``segments`` are int64 of shape ``(K, rows, length)``. A token sees the tokens of its row
    that have its segment number; segment 0 is padding. ``full`` says that each row is one text without padding.
    ``sizes`` are the tokens of each member's own rows; the rest are empty rows, there for the companions.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor
    full: bool
    sizes: tuple[int, ...]

    def to(self, device: str) -> Tokens:
        """Return the rows on ``device``."""
        ids, positions, segments = (part.to(device) for part in (self.ids, self.positions, self.segments))
        return Tokens(ids, positions, segments, self.full, self.sizes)

    def attention_mask(self) -> Tensor | None:
        """Return which token sees which, bool ``(K x rows, 1, length, length)``; None where all see all."""
        if self.full:
            return None
        segments = self.segments.flatten(0, 1)
        return (segments[:, None, :, None] == segments[:, None, None, :]).contiguous()


def initial_weights(architecture: Architecture, seeds: Sequence[int]) -> Weights:
    """Draw fresh encoders with masked-language-model heads, one per seed.

    Normal with BERT's standard deviation at BERT's width, growing as 1 / sqrt(width) below it: at width 16 to 64 and
    0.02 the layers pass so little on that a [CLS] classifier cannot even fit its training split.
    """
    members = [_initial_member(architecture, torch.Generator().manual_seed(seed)) for seed in seeds]
    return {name: torch.stack([member[name] for member in members]) for name in members[0]}


def classifier_weights(architecture: Architecture, labels: int, seeds: Sequence[int]) -> Weights:
    """Draw fresh poolers and output layers for ``labels`` classes, one per seed."""
    width = architecture.width
    members = []
    for seed in seeds:
        # Another stream than the encoder's, so that the two do not share their first numbers.
        generator = torch.Generator().manual_seed(seed + 0x5EED)
        members.append(
            {
                **_linear("pooler", width, width, generator, std=_initial_std(width)),
                **_linear("classifier", width, labels, generator, std=_initial_std(width)),
            }
        )
    return {name: torch.stack([member[name] for member in members]) for name in members[0]}


def encode(
    weights: Weights,
    architecture: Architecture,
    tokens: Tokens,
    *,
    dropout: Dropout | None = None,
    training: bool = False,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Return the hidden states ``(K, rows x length, width)`` of the last layer, in ``precision``.

    In ``training`` the convolutions' batch norm takes the batch's statistics, otherwise the running ones.
    """
    drop = dropout or _keep
    mask = tokens.attention_mask()
    hidden = drop(_embed(weights, tokens).to(precision), tokens.sizes)
    if architecture.convolution_layers:
        image = hidden.view(*tokens.ids.shape, architecture.width)
        hidden = convolution.forward(image, weights, architecture, training=training).flatten(1, 2)
    for layer in range(architecture.depth):
        name = f"layers.{layer % architecture.weighted_layers}"
        read = before(hidden, weights, architecture, f"{name}.attention.norm")
        seen = drop(_attend(weights, f"{name}.attention", architecture, read, tokens, mask), tokens.sizes)
        hidden = behind(hidden + seen, weights, architecture, f"{name}.attention.norm")
        inner = F.gelu(linear(before(hidden, weights, architecture, f"{name}.norm"), weights, f"{name}.inner"))
        inner = drop(linear(inner, weights, f"{name}.out"), tokens.sizes)
        hidden = behind(hidden + inner, weights, architecture, f"{name}.norm")
    return before(hidden, weights, architecture, "norm")


def mlm_logits(weights: Weights, hidden: Tensor) -> Tensor:
    """Return vocabulary logits ``(K, n, vocabulary)`` for the ``hidden`` states ``(K, n, width)`` that are scored."""
    return _affine(mlm_transform(weights, hidden), weights["embeddings.words"], weights["mlm.bias"])


def mlm_transform(weights: Weights, hidden: Tensor) -> Tensor:
    """Return what the head's output layer reads, ``(K, n, width)``."""
    return normalise(F.gelu(linear(hidden, weights, "mlm.transform")), weights, "mlm.norm")


def classify(
    weights: Weights, hidden: Tensor, tokens: Tokens, *, starts: Tensor, pooling: str, dropout: Dropout | None = None
) -> Tensor:
    """Return class logits ``(K, texts, labels)``.

    ``starts`` ``(K, texts)`` is where each text begins among the ``rows x length`` positions. ``pooling`` is ``cls``
    (the first token) or ``mean`` (of the text's tokens); both pass through BERT's pooler, a linear layer and tanh.
    """
    pooled = gather(hidden, starts).float() if pooling == "cls" else _text_means(hidden.float(), tokens, starts)
    pooled = torch.tanh(linear(pooled, weights, "pooler"))
    pooled = (dropout or _keep)(pooled, [starts.shape[1]] * len(starts))
    return linear(pooled, weights, "classifier")


def gather(hidden: Tensor, positions: Tensor) -> Tensor:
    """Return ``hidden[k, positions[k]]`` for each member: ``(K, n, width)``."""
    if hidden.shape[0] == 1:
        return hidden.squeeze(0).index_select(0, positions.squeeze(0)).unsqueeze(0)
    offsets = torch.arange(hidden.shape[0], device=hidden.device)[:, None] * hidden.shape[1]
    flat = hidden.flatten(0, 1).index_select(0, (positions + offsets).flatten())
    return flat.view(*positions.shape, hidden.shape[-1])


def linear(value: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Apply the layer ``name`` of each member to ``value`` ``(K, n, in)``."""
    return _affine(value, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _keep(value: Tensor, sizes: Sequence[int]) -> Tensor:
    return value


def _embed(weights: Weights, tokens: Tokens) -> Tensor:
    words = _lookup(weights["embeddings.words"], tokens.ids)
    positions = _lookup(weights["embeddings.positions"], tokens.positions)
    return normalise(words + positions + weights["embeddings.types"][:, None, 0], weights, "embeddings.norm")


def _attend(
    weights: Weights, name: str, architecture: Architecture, hidden: Tensor, tokens: Tokens, mask: Tensor | None
) -> Tensor:
    members, rows, length = tokens.ids.shape
    shape = (members * rows, length, 3, architecture.heads, architecture.head_size)
    query, key, value = linear(hidden, weights, f"{name}.qkv").view(shape).permute(2, 0, 3, 1, 4)
    seen = _attention(query, key, value, mask)
    return linear(seen.transpose(1, 2).reshape(hidden.shape), weights, f"{name}.out")


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad:
        # On CPUs the backward pass of the fused kernel in bf16 takes several times as long as these products.
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _affine(value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    weight, bias = weight.to(value.dtype), bias.to(value.dtype)
    if weight.shape[0] == 1:
        # squeeze, not [0]: the gradient of an index is a zeroed copy.
        return F.linear(value.squeeze(0), weight.squeeze(0), bias.squeeze(0)).unsqueeze(0)
    return torch.baddbmm(bias.unsqueeze(1), value, weight.transpose(1, 2))


def normalise(value: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Apply the layer norm ``name`` of each member to ``value`` ``(K, n, width)``."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if weight.shape[0] == 1:
        return F.layer_norm(value, weight.shape[1:], weight.squeeze(0), bias.squeeze(0), EPSILON)
    weight, bias = weight.to(value.dtype), bias.to(value.dtype)
    return torch.addcmul(bias.unsqueeze(1), F.layer_norm(value, weight.shape[1:], eps=EPSILON), weight.unsqueeze(1))


def before(value: Tensor, weights: Mapping[str, Tensor], architecture: Architecture, name: str) -> Tensor:
    """Return what attention, a feed-forward or a head reads of ``value``: normalised where layers are pre-norm."""
    return normalise(value, weights, name) if architecture.normalisation == "pre" else value


def behind(value: Tensor, weights: Mapping[str, Tensor], architecture: Architecture, name: str) -> Tensor:
    """Return what attention or a feed-forward leaves of ``value``: normalised where layers are post-norm."""
    return normalise(value, weights, name) if architecture.normalisation == "post" else value


def _lookup(table: Tensor, ids: Tensor) -> Tensor:
    members, rows, width = table.shape
    if members > 1:
        ids = ids + torch.arange(members, device=ids.device)[:, None, None] * rows
    return F.embedding(ids.flatten(1), table.view(members * rows, width))


def _text_means(hidden: Tensor, tokens: Tokens, starts: Tensor) -> Tensor:
    members, count, width = hidden.shape
    # A text is its row and segment; number the texts by where they start, then sum each one's tokens.
    owner = torch.full((members, count), starts.shape[1], device=hidden.device)
    texts = torch.arange(starts.shape[1], device=hidden.device).expand_as(starts)
    owner.scatter_reduce_(1, starts, texts, "amin")  # what fills up repeats the start of a text before it
    begins = torch.arange(count, device=hidden.device) - tokens.positions.flatten(1)
    real = tokens.segments.flatten(1) > 0
    owner = torch.where(real, owner.gather(1, begins.clamp(min=0)), starts.shape[1])
    sums = hidden.new_zeros(members, starts.shape[1] + 1, width)
    sums = sums.scatter_add(1, owner[..., None].expand(-1, -1, width), hidden)[:, :-1]
    sizes = hidden.new_zeros(members, starts.shape[1] + 1).scatter_add(
        1, owner, torch.ones_like(owner, dtype=hidden.dtype)
    )
    return sums / sizes[:, :-1, None].clamp(min=1)


def _initial_member(architecture: Architecture, generator: torch.Generator) -> Weights:
    width, inner = architecture.width, architecture.feed_forward

    def table(rows: int) -> Tensor:
        return torch.empty(rows, width).normal_(0, _initial_std(width), generator=generator)

    weights: Weights = {
        "embeddings.words": table(architecture.vocabulary),
        "embeddings.positions": table(architecture.positions),
        "embeddings.types": table(2),
        **_norm("embeddings.norm", width),
    }
    if architecture.convolution_layers:
        weights.update(convolution.initial_weights(architecture, generator))
    std = _initial_std(width)
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


def _initial_std(width: int) -> float:
    return INITIAL_STD * math.sqrt(INITIAL_WIDTH / width)


def _linear(name: str, inputs: int, outputs: int, generator: torch.Generator, *, std: float) -> Weights:
    weight = torch.empty(outputs, inputs).normal_(0, std, generator=generator)
    return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(outputs)}


def _norm(name: str, width: int) -> Weights:
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
