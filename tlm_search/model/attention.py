"""Attention of stacked members: for all tokens, or in the last layer only for tokens whose output is read."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tlm_search.model.architecture import Architecture
from tlm_search.model.layers import affine, linear
from tlm_search.model.rows import Read, Tokens, gather
from tlm_search.model.weights import Weights

# If a head has at least this many units per query in a row, attention is faster without keys and values. The numbers of
# multiply-adds are equal at 1, but without keys and values they are products of many small matrices.
UNITS_PER_QUERY = 4


def attend(
    weights: Weights, name: str, architecture: Architecture, hidden: Tensor, tokens: Tokens, mask: Tensor | None
) -> Tensor:
    """Return the attention output of all ``hidden`` states, ``(K, rows x length, width)``.

    ``mask`` bool ``(K x rows, 1, length, length)`` says which tokens each token sees; None means all.
    """
    members, rows, length = tokens.ids.shape
    shape = (members * rows, length, 3, architecture.heads, architecture.head_size)
    query, key, value = linear(hidden, weights, f"{name}.attention.qkv").view(shape).permute(2, 0, 3, 1, 4)
    return _attention(query, key, value, mask).transpose(1, 2).reshape(hidden.shape)


def attend_from(
    weights: Weights, name: str, architecture: Architecture, hidden: Tensor, tokens: Tokens, read: Read
) -> Tensor:
    """Return the attention output at the positions to ``read``, ``(K, n, width)``, over all ``hidden`` states."""
    members, rows, length = tokens.ids.shape
    asking = gather(hidden, read.grid.flatten(1)).view(*read.grid.shape, architecture.width)
    few = read.grid.shape[-1] * UNITS_PER_QUERY <= architecture.head_size
    mix = attend_without_keys if few else _attend_with_keys
    hidden = hidden.view(members, rows, length, architecture.width)
    mixed = mix(weights, name, architecture, asking, hidden, read.sees(tokens))
    return gather(mixed.flatten(1, 2), read.slots)


def _attend_with_keys(
    weights: Weights, name: str, architecture: Architecture, asking: Tensor, hidden: Tensor, mask: Tensor | None
) -> Tensor:
    width, heads = architecture.width, (architecture.heads, architecture.head_size)
    # split, not slices, because the gradient of each slice would be a full copy padded with zeros.
    of_query, of_both = torch.split(weights[f"{name}.attention.qkv.weight"], [width, 2 * width], dim=1)
    query_bias, both_bias = torch.split(weights[f"{name}.attention.qkv.bias"], [width, 2 * width], dim=1)
    query = affine(asking.flatten(1, 2), of_query, query_bias).view(-1, asking.shape[2], *heads).transpose(1, 2)
    both = affine(hidden.flatten(1, 2), of_both, both_bias)
    key, value = both.view(-1, hidden.shape[2], 2, *heads).permute(2, 0, 3, 1, 4)
    return _attention(query, key, value, mask).transpose(1, 2).reshape(asking.shape)


def attend_without_keys(
    weights: Weights, name: str, architecture: Architecture, asking: Tensor, hidden: Tensor, mask: Tensor | None
) -> Tensor:
    """Return the attention output of ``asking`` ``(K, rows, q, width)`` over ``hidden`` ``(K, rows, length, width)``.

    ``mask`` bool ``(K x rows, 1, q, length)`` says which tokens each query sees; None means all. A few queries q per
    row need neither keys nor values: the scores q (W x + b) equal (q W) x plus a constant over the tokens, and the mean
    of the values is the value of the mean. This takes 2 x heads x q multiply-adds per token and unit of width, instead
    of 2 x width.
    """
    members, rows, count, width = asking.shape
    heads, size = architecture.heads, architecture.head_size
    weight, bias = (weights[f"{name}.attention.qkv.{part}"].to(asking.dtype) for part in ("weight", "bias"))
    of_query, of_key, of_value = weight.view(members, 3, width, width).unbind(1)
    query_bias, _, value_bias = bias.view(members, 3, width).unbind(1)
    query = affine(asking.flatten(1, 2), of_query, query_bias)
    # (K x heads, rows x q, size) x (K x heads, size, width)
    query = query.view(members, -1, heads, size).transpose(1, 2).reshape(members * heads, -1, size)
    asked = torch.bmm(query, of_key.reshape(members * heads, size, width)).view(members, heads, rows, count, width)
    asked = asked.transpose(1, 2).reshape(members * rows, heads * count, width) / math.sqrt(size)
    hidden = hidden.flatten(0, 1)
    scores = torch.bmm(asked, hidden.transpose(1, 2)).view(members * rows, heads, count, -1)
    shares = (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1)
    mean = torch.bmm(shares.flatten(1, 2), hidden).view(members, rows, heads, count, width)
    mean = mean.transpose(1, 2).reshape(members * heads, -1, width)
    mixed = torch.bmm(mean, of_value.reshape(members * heads, size, width).transpose(1, 2))
    mixed = mixed.view(members, heads, rows * count, size).transpose(1, 2).reshape(members, -1, width)
    return (mixed + value_bias[:, None]).view(asking.shape)


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad:
        # On a CPU the backward pass of the fused kernel in bf16 takes several times as long as these products.
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
