"""Inference of stacked members, one text per row, without work whose result is not read.

This is ``tlm_search.model.bert`` without dropout, in a form that ONNX can trace. With [CLS] pooling the last layer is
computed only for the first token. Its single query needs neither keys nor values, so the layer costs 2 x heads x width
multiply-adds per token instead of 12 x width^2.

With other pooling, the queries, keys and values of the first layer can be looked up. The input of the layer is the
layer norm of a word plus a position. Except for the norm's scale (a number per token), a linear layer of it is a term
of the word plus a term of the position, and both terms come from tables. This saves a quarter of the products of a
layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tlm_search.data.markers import Markers
from tlm_search.model import convolution
from tlm_search.model.architecture import Architecture
from tlm_search.model.attention import attend_without_keys
from tlm_search.model.layers import EPSILON, before, behind, linear, normalise
from tlm_search.model.spans import find_spans, span_shares
from tlm_search.model.weights import Weights, position_table

LOOKUP_BYTES = 2**29  # of the tables of all members
_WORDS, _POSITIONS, _CONSTANT = "first.words", "first.positions", "first.constant"


def member_logits(
    weights: Weights,
    architecture: Architecture,
    ids: Tensor,
    mask: Tensor | None,
    *,
    pooling: str,
    pad: int,
    markers: Markers | None = None,
    types: Tensor | None = None,
) -> Tensor:
    """Return the class logits ``(K, texts, labels)`` of K members for the same texts.

    ``ids`` int64 ``(texts, length)`` are padded on the right. ``mask``, bool of the same shape, marks the tokens; None
    means all. Padding never changes an answer. ``markers`` are for the pooling ``spans``. ``types``, int64 of the same
    shape, are 1 for the tokens of the second text of a pair, else 0; None means all 0.
    """
    if architecture.convolution_layers:
        if types is not None:
            types = F.pad(types, (0, architecture.positions - ids.shape[1]))
        ids, mask = _full_length(ids, mask, length=architecture.positions, pad=pad)
    hidden, looked_up = _embed(weights, ids, mask, types, hide_padding=architecture.convolution_layers > 0)
    if architecture.convolution_layers:
        hidden = convolution.forward(hidden, weights, architecture, training=False)
    names = [f"layers.{layer % architecture.weighted_layers}" for layer in range(architecture.depth)]
    for name in names[:-1] if pooling == "cls" else names:
        hidden, looked_up = _layer(weights, name, architecture, hidden, mask, looked_up), None
    if pooling == "cls":
        pooled = before(_first(weights, names[-1], architecture, hidden, mask), weights, architecture, "norm")
    elif pooling == "spans":
        assert markers is not None, "spans are found by the ids of the markers"
        shares = span_shares(find_spans(ids, mask, markers), hidden.dtype)
        pooled = (shares @ _before(hidden, weights, architecture, "norm")).flatten(2)
    else:
        pooled = _mean(_before(hidden, weights, architecture, "norm"), mask)
    return linear(torch.tanh(linear(pooled, weights, "pooler")), weights, "classifier")


def vote(logits: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Return the logarithm of the mean of the members' softmax outputs, ``(texts, labels)``.

    ``weights`` are the relative weights of the members; None means equal weights.
    """
    votes = logits.log_softmax(-1)
    if weights is None:
        return votes.logsumexp(0) - math.log(logits.shape[0])
    return (votes + votes.new_tensor(weights).log()[:, None, None]).logsumexp(0) - math.log(sum(weights))


def calibrated(logits: Tensor, temperature: float, bias: Sequence[float]) -> Tensor:
    """Return the logarithms of the calibrated probabilities of ``logits``, ``(texts, labels)``.

    This is ``tlm_search.committee.calibration`` on tensors. A temperature of 1 without a bias changes nothing.
    """
    if bias:
        logits = logits + logits.new_tensor(bias)
    return (logits / temperature).log_softmax(-1) if bias or temperature != 1 else logits


def split(weights: Mapping[str, Tensor], architecture: Architecture) -> list[Weights]:
    """Return the separate weights of each member, with a member dimension of 1, prepared for many texts."""
    members = next(iter(weights.values())).shape[0]
    alone = [{name: value[k : k + 1] for name, value in weights.items()} for k in range(members)]
    return [convolution.folded(one, architecture) for one in alone] if architecture.convolution_layers else alone


def lookup_bytes(architecture: Architecture, *, pooling: str) -> int:
    """Return the bytes that ``with_lookup`` adds to a member; 0 if it adds no tables."""
    whole_layers = architecture.depth - 1 if pooling == "cls" else architecture.depth
    if not whole_layers or not architecture.is_bert:
        return 0
    return (architecture.vocabulary + 2 * architecture.positions + 1) * 3 * architecture.width * 4


def is_lookup_worth(architecture: Architecture, *, members: int, tokens: int, pooling: str) -> bool:
    """Return whether the tables of the first layer save time: for more tokens than rows of the tables."""
    size = members * lookup_bytes(architecture, pooling=pooling)
    return tokens > architecture.vocabulary and 0 < size <= LOOKUP_BYTES


def with_lookup(weights: Weights) -> Weights:
    """Return a member's weights with tables of the first layer's projections of each word and each position.

    This costs as much as projecting a token for each word of the vocabulary.
    """
    scale, shift = weights["embeddings.norm.weight"], weights["embeddings.norm.bias"]
    projection = weights["layers.0.attention.qkv.weight"].transpose(1, 2)

    def project(table: Tensor) -> Tensor:
        # The mean of a sum is the sum of the means: subtract the mean of words and of positions, as the norm does.
        return torch.bmm((table - table.mean(-1, keepdim=True)) * scale[:, None], projection)

    constant = torch.baddbmm(weights["layers.0.attention.qkv.bias"][:, None], shift[:, None], projection)
    return {
        **weights,
        _WORDS: project(weights["embeddings.words"]),
        _POSITIONS: project(position_table(weights)),
        _CONSTANT: constant,
    }


def _full_length(ids: Tensor, mask: Tensor | None, *, length: int, pad: int) -> tuple[Tensor, Tensor]:
    # The convolution sees padding, so pad each text to the same length and with the same token as in training.
    mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    missing = (0, length - ids.shape[1])
    return F.pad(ids.where(mask, pad), missing, value=pad), F.pad(mask, missing, value=False)


def _embed(
    weights: Weights, ids: Tensor, mask: Tensor | None, types: Tensor | None, *, hide_padding: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the embeddings ``(K, texts, length, width)`` and, with ``with_lookup``, the first layer's projections."""
    members, width = weights["embeddings.words"].shape[0], weights["embeddings.words"].shape[-1]
    length, at = ids.shape[1], None
    if types is None:
        positions = (weights["embeddings.positions"][:, :length] + weights["embeddings.types"][:, :1])[:, None]
    else:
        # Indices into `position_table`: the positions of first segments, then those of second segments.
        at = (types * weights["embeddings.positions"].shape[1] + torch.arange(length, device=ids.device)).flatten()
        positions = position_table(weights).index_select(1, at).view(members, *ids.shape, width)
    if hide_padding and mask is not None:
        # In training padding has position 0, like the first token.
        positions = positions.where(mask[..., None], positions[:, :, :1])
    words = weights["embeddings.words"].index_select(1, ids.flatten()).view(members, *ids.shape, width)
    if _WORDS not in weights:
        hidden = normalise((words + positions).flatten(1, 2), weights, "embeddings.norm")
        return hidden.view(members, *ids.shape, width), None
    weight, bias = (weights[f"embeddings.norm.{part}"].squeeze(0) for part in ("weight", "bias"))
    hidden, _, scale = torch.native_layer_norm(words.add_(positions), [width], weight, bias, EPSILON)
    projected = weights[_WORDS].index_select(1, ids.flatten()).view(members, *ids.shape, 3 * width)
    of_positions = weights[_POSITIONS][:, None, :length]
    if at is not None:
        of_positions = weights[_POSITIONS].index_select(1, at).view_as(projected)
    projected.add_(of_positions).mul_(scale).add_(weights[_CONSTANT][:, None])
    return hidden, projected


def _layer(
    weights: Weights,
    name: str,
    architecture: Architecture,
    hidden: Tensor,
    mask: Tensor | None,
    projected: Tensor | None,
) -> Tensor:
    members, texts, length, width = hidden.shape
    flat = hidden.flatten(1, 2)
    if projected is None:
        read = before(flat, weights, architecture, f"{name}.attention.norm")
        projected = linear(read, weights, f"{name}.attention.qkv")
    shape = (members * texts, length, 3, architecture.heads, architecture.head_size)
    query, key, value = projected.view(shape).permute(2, 0, 3, 1, 4)
    seen = None if mask is None else mask.repeat(members, 1)[:, None, None]
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2).reshape(flat.shape)
    return _rest(weights, name, architecture, flat, mixed).view(members, texts, length, width)


def _first(weights: Weights, name: str, architecture: Architecture, hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Apply the layer ``name`` to the first token of each text: ``(K, texts, width)``."""
    members, first = len(hidden), hidden[:, :, 0]
    hidden = _before(hidden, weights, architecture, f"{name}.attention.norm")
    seen = None if mask is None else mask.repeat(members, 1)[:, None, None]
    mixed = attend_without_keys(weights, name, architecture, hidden[:, :, :1], hidden, seen)
    return _rest(weights, name, architecture, first, mixed.squeeze(2))


def _rest(weights: Weights, name: str, architecture: Architecture, hidden: Tensor, mixed: Tensor) -> Tensor:
    """Return the output of a layer for ``hidden`` ``(K, n, width)`` and the output ``mixed`` of its attention."""
    seen = linear(mixed, weights, f"{name}.attention.out")
    hidden = behind(hidden + seen, weights, architecture, f"{name}.attention.norm")
    read = before(hidden, weights, architecture, f"{name}.norm")
    inner = linear(F.gelu(linear(read, weights, f"{name}.inner")), weights, f"{name}.out")
    return behind(hidden + inner, weights, architecture, f"{name}.norm")


def _before(hidden: Tensor, weights: Weights, architecture: Architecture, name: str) -> Tensor:
    return before(hidden.flatten(1, 2), weights, architecture, name).view_as(hidden)


def _mean(hidden: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return hidden.mean(2)
    share = mask.to(hidden.dtype) / mask.sum(1, keepdim=True)
    return (share[:, None] @ hidden).squeeze(2)
