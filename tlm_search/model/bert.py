"""K tiny BERTs of the same architecture as a single stacked model, written as functions of their weights.

Every weight has a leading member dimension: a linear layer is ``(K, out, in)``, an embedding ``(K, rows, width)``. The
members never mix: a member of a stack computes the same as alone. K = 1 uses the plain kernels, which are faster than
batched kernels with a batch of 1. Weights stay in fp32. ``encode`` gets the ``precision`` of the activations, and each
layer rounds its weights to the precision of its input.

The model is BERT (Devlin et al. 2019) as in ``transformers``: post-norm layers, learned positions, exact GELU, tied
input and output embeddings. Optionally, layers are pre-norm with a final norm (Xiong et al. 2020, arXiv 2002.04745), or
share one set of weights (Lan et al. 2020, arXiv 1909.11942). Dropout acts on the embeddings and on the outputs of
attention, feed-forward and pooler. It does not act on attention probabilities, because the fused kernels do not allow
it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tlm_search.data.markers import Markers
from tlm_search.model import convolution
from tlm_search.model.architecture import Architecture
from tlm_search.model.attention import attend, attend_from
from tlm_search.model.layers import affine, before, behind, linear, normalise
from tlm_search.model.rows import Read, Tokens, gather
from tlm_search.model.spans import find_spans, span_shares
from tlm_search.model.weights import Weights, position_table

# Maps values (K, n, width) and sizes to values of the same shape; member k uses the first sizes[k] of n.
Dropout = Callable[[Tensor, Sequence[int]], Tensor]
# Maps a table (K, words, width) and indices (K, n) to rows (K, n, width).
Lookup = Callable[[Tensor, Tensor], Tensor]


def encode(
    weights: Weights,
    architecture: Architecture,
    tokens: Tokens,
    *,
    read: Read | None = None,
    lookup: Lookup | None = None,
    dropout: Dropout | None = None,
    training: bool = False,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Return the hidden states of the last layer in ``precision``: the states to ``read``, ``(K, n, width)``, or all.

    Other states are not computed. ``lookup`` replaces the plain lookup of words. In ``training`` the batch norm of
    convolutions uses the statistics of the batch, otherwise the running statistics.
    """
    drop = dropout or _keep
    sizes, whole_layers = tokens.sizes, architecture.depth - (read is not None)
    mask = tokens.sees() if whole_layers else None
    hidden = drop(_embed(weights, tokens, lookup or gather).to(precision), sizes)
    if architecture.convolution_layers:
        image = hidden.view(*tokens.ids.shape, architecture.width)
        hidden = convolution.forward(image, weights, architecture, training=training).flatten(1, 2)
    for layer in range(architecture.depth):
        name = f"layers.{layer % architecture.weighted_layers}"
        seeing = before(hidden, weights, architecture, f"{name}.attention.norm")
        if layer < whole_layers or read is None:
            mixed = attend(weights, name, architecture, seeing, tokens, mask)
        else:
            mixed = attend_from(weights, name, architecture, seeing, tokens, read)
            hidden, sizes = gather(hidden, read.indices), read.sizes
        seen = drop(linear(mixed, weights, f"{name}.attention.out"), sizes)
        hidden = behind(hidden + seen, weights, architecture, f"{name}.attention.norm")
        inner = F.gelu(linear(before(hidden, weights, architecture, f"{name}.norm"), weights, f"{name}.inner"))
        inner = drop(linear(inner, weights, f"{name}.out"), sizes)
        hidden = behind(hidden + inner, weights, architecture, f"{name}.norm")
    return before(hidden, weights, architecture, "norm")


def mlm_logits(weights: Weights, hidden: Tensor) -> Tensor:
    """Return vocabulary logits ``(K, n, vocabulary)`` for the scored ``hidden`` states ``(K, n, width)``."""
    return affine(mlm_transform(weights, hidden), weights["embeddings.words"], weights["mlm.bias"])


def mlm_transform(weights: Weights, hidden: Tensor) -> Tensor:
    """Return the input of the head's output layer, ``(K, n, width)``."""
    return normalise(F.gelu(linear(hidden, weights, "mlm.transform")), weights, "mlm.norm")


def class_logits(
    weights: Weights,
    architecture: Architecture,
    tokens: Tokens,
    starts: Read,
    *,
    pooling: str,
    markers: Markers | None = None,
    dropout: Dropout | None = None,
    training: bool = False,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Return class logits ``(K, texts, labels)`` of the texts that begin at ``starts``.

    ``pooling`` is ``cls`` (the first token), ``mean`` (the mean of the text's tokens) or ``spans`` (the concatenated
    means of the spans that ``markers`` define). The result passes through BERT's pooler, a linear layer and tanh. See
    ``encode`` for the other arguments.
    """
    read = starts if pooling == "cls" else None
    hidden = encode(
        weights, architecture, tokens, read=read, dropout=dropout, training=training, precision=precision
    ).float()
    if pooling == "spans":
        assert markers is not None, "spans are found by the ids of the markers"
        hidden = _span_means(hidden, tokens, starts, markers)
    elif read is None:
        hidden = _text_means(hidden, tokens, starts)
    pooled = torch.tanh(linear(hidden, weights, "pooler"))
    return linear((dropout or _keep)(pooled, starts.sizes), weights, "classifier")


def _keep(value: Tensor, sizes: Sequence[int]) -> Tensor:
    return value


def _embed(weights: Weights, tokens: Tokens, lookup: Lookup) -> Tensor:
    words = lookup(weights["embeddings.words"], tokens.ids.flatten(1))
    table = (
        position_table(weights)
        if tokens.paired
        else weights["embeddings.positions"] + weights["embeddings.types"][:, :1]
    )
    return normalise(words + gather(table, tokens.positions.flatten(1)), weights, "embeddings.norm")


def _text_means(hidden: Tensor, tokens: Tokens, starts: Read) -> Tensor:
    """Return the mean over the tokens of each text (which its first token sees): ``(K, texts, width)``."""
    members, rows, length = tokens.ids.shape
    states, mask = hidden.view(members * rows, length, -1), starts.sees(tokens)
    if mask is None:
        means = states.mean(1, keepdim=True)
    else:
        share = mask.squeeze(1).to(hidden.dtype)
        means = torch.bmm(share / share.sum(-1, keepdim=True), states)
    return gather(means.view(members, -1, hidden.shape[-1]), starts.slots)


def _span_means(hidden: Tensor, tokens: Tokens, starts: Read, markers: Markers) -> Tensor:
    """Return the concatenated means over the spans of each text: ``(K, texts, 6 x width)``."""
    members, rows, length = tokens.ids.shape
    states, mask = hidden.view(members * rows, length, -1), starts.sees(tokens)
    # (K x rows, texts of a row, 6, length)
    spans = find_spans(tokens.ids.view(-1, 1, length), None if mask is None else mask.squeeze(1), markers)
    means = torch.bmm(span_shares(spans, hidden.dtype).flatten(1, 2), states)
    return gather(means.view(members, -1, spans.shape[-2] * hidden.shape[-1]), starts.slots)
