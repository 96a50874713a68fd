"""Convert the weights of a member to and from the names of ``transformers``' BERT.

A member's file in the store has these names. With ``Architecture.is_bert``, and if each layer has its own weights, the
file is a ``BertForMaskedLM`` or ``BertForSequenceClassification``. Weights that layers share are stored once, as layer
0. Weights of a convolution are named ``convolution.*``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from tlm_search.model.architecture import Architecture

_FIXED = {
    "embeddings.words": "bert.embeddings.word_embeddings.weight",
    "embeddings.positions": "bert.embeddings.position_embeddings.weight",
    "embeddings.types": "bert.embeddings.token_type_embeddings.weight",
    "mlm.bias": "cls.predictions.bias",
}
_MODULES = {
    "embeddings.norm": "bert.embeddings.LayerNorm",
    "norm": "bert.LayerNorm",  # after the last pre-norm layer; the name in RobertaPreLayerNorm
    "mlm.transform": "cls.predictions.transform.dense",
    "mlm.norm": "cls.predictions.transform.LayerNorm",
    "pooler": "bert.pooler.dense",
    "classifier": "classifier",
}
_LAYER = {
    "attention.out": "attention.output.dense",
    "attention.norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "out": "output.dense",
    "norm": "output.LayerNorm",
}
_PROJECTIONS = ("query", "key", "value")
_SHARED = "bert.encoder.layer.0."

Value = TypeVar("Value")


def to_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a member's weights (without member dimension) under ``transformers``' names, tied weights once."""
    renamed: dict[str, Tensor] = {}
    for ours, theirs in _names(weights):
        if isinstance(theirs, str):
            renamed[theirs] = weights[ours].contiguous()
        else:
            renamed.update(zip(theirs, (part.contiguous() for part in weights[ours].chunk(3)), strict=True))
    return renamed


def from_transformers(state: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Return a member's weights from a state of ``transformers``. A head that the state lacks is left out.

    Raises:
        ValueError: the state has another architecture.
    """
    modules = [name for name in _MODULES if name != "norm" or architecture.normalisation == "pre"]
    wanted = [*_FIXED, *(f"{name}.{kind}" for name in modules for kind in ("weight", "bias"))]
    for layer in range(architecture.weighted_layers):
        parts = ("attention.qkv", *_LAYER)
        wanted += [f"layers.{layer}.{part}.{kind}" for part in parts for kind in ("weight", "bias")]
    wanted += [name for name in state if name.startswith("convolution.")]
    weights: dict[str, Tensor] = {}
    for ours, theirs in _names(wanted):
        names = (theirs,) if isinstance(theirs, str) else theirs
        if all(name in state for name in names):
            weights[ours] = torch.cat([state[name] for name in names]) if len(names) > 1 else state[names[0]]
        elif not ours.startswith(("mlm", "pooler", "classifier")):
            raise ValueError(f"the state has no {names[0]}: it is not a BERT of {architecture.depth} layers")
    found = tuple(weights["embeddings.words"].shape)
    if found != (architecture.vocabulary, architecture.width):
        raise ValueError(f"word embeddings of {found}, not {(architecture.vocabulary, architecture.width)}")
    return weights


def with_every_layer(state: Mapping[str, Value], architecture: Architecture) -> dict[str, Value]:
    """Return a member's state under ``transformers``' names, with shared weights repeated for every layer."""
    repeated = {
        name.replace(_SHARED, f"bert.encoder.layer.{layer}.", 1): value
        for layer in range(1, architecture.depth if architecture.shared_layers else 1)
        for name, value in state.items()
        if name.startswith(_SHARED)
    }
    return {**state, **repeated}


def bert_config(architecture: Architecture, *, labels: tuple[str, ...] = (), pad: int = 0) -> dict[str, object]:
    """Return the keywords of ``transformers.BertConfig`` for this architecture."""
    return {
        "vocab_size": architecture.vocabulary,
        "hidden_size": architecture.width,
        "num_hidden_layers": architecture.depth,
        "num_attention_heads": architecture.heads,
        "intermediate_size": architecture.feed_forward,
        "max_position_embeddings": architecture.positions,
        "pad_token_id": pad,
        "id2label": dict(enumerate(labels)) or {0: "LABEL_0", 1: "LABEL_1"},
    }


def _names(ours: Mapping[str, Tensor] | list[str]) -> Iterator[tuple[str, str | tuple[str, str, str]]]:
    for name in ours:
        if name in _FIXED:
            yield name, _FIXED[name]
        elif name.startswith("convolution."):
            yield name, name
        else:
            module, kind = name.rsplit(".", 1)
            if not module.startswith("layers."):
                yield name, f"{_MODULES[module]}.{kind}"
                continue
            _, layer, part = module.split(".", 2)
            prefix = f"bert.encoder.layer.{layer}"
            if part == "attention.qkv":
                query, key, value = (f"{prefix}.attention.self.{projection}.{kind}" for projection in _PROJECTIONS)
                yield name, (query, key, value)
            else:
                yield name, f"{prefix}.{_LAYER[part]}.{kind}"
