"""Check that the parts of an export match, because its author chose every number in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from tlm_search.model.architecture import Architecture
from tlm_search.model.linear import require_shapes
from tlm_search.model.weights import answering_shapes
from tlm_search.space.settings import SETTINGS

LINEAR = "linear."  # prefix of the names of the linear model's tensors
_BOUNDED = {"channels": "convolution_channels"} | {
    name: name for name in ("depth", "heads", "head_size", "convolution_layers")
}

Shapes = Mapping[str, tuple[int, ...]]


def architecture_of(document: Mapping[str, Any]) -> Architecture:
    """Rebuild an architecture from its document.

    Raises:
        KeyError, TypeError, ValueError: it is not an architecture, or one that no space allows.
    """
    tokens, across = document["kernel"]
    sizes = {
        name: value for name, value in document.items() if name not in ("kernel", "normalisation", "shared_layers")
    }
    for name, value in {**sizes, "kernel": tokens, "kernel's width": across}.items():
        least = 0 if name in ("convolution_layers", "channels") else 1
        high = SETTINGS[_BOUNDED[name]].high if name in _BOUNDED else None
        whole_number(name, value, low=least, high=None if high is None else int(high))
    shape = Architecture(**{**document, "kernel": (tokens, across)})
    if shape.normalisation not in SETTINGS["normalisation"].choices or not isinstance(shape.shared_layers, bool):
        raise ValueError(f"normalisation {shape.normalisation!r}, shared_layers {shape.shared_layers!r}")
    return shape


def whole_number(name: str, value: object, *, low: int, high: int | None) -> int:
    """Return ``value`` if it is a whole number from ``low`` to ``high``; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        raise ValueError(
            f"{name} is {str(value)[:40]}, not a whole number from {low}{'' if high is None else f' to {high}'}"
        )
    return value


def require_fit(config: Mapping[str, Any], shapes: Shapes, *, labels: int) -> None:
    """Refuse a configuration that does not match tensors of these ``shapes``.

    Nothing of their size is allocated.

    Raises:
        KeyError, TypeError, ValueError: they differ; the message says in what.
    """
    shape, members = architecture_of(config["architecture"]), len(config["members"])
    if config["pooling"] not in SETTINGS["pooling"].choices:
        raise ValueError(f"pooling {str(config['pooling'])[:40]!r}")
    whole_number("length", config["length"], low=1, high=shape.positions)
    whole_number("pad_token_id", config["pad_token_id"], low=0, high=shape.vocabulary - 1)
    if members < 1 or labels < 1:
        raise ValueError(f"{members} members and {labels} labels")
    linear = {name: tuple(one) for name, one in (config.get("linear") or {}).items()}
    expected = {
        name: (members, *one) for name, one in answering_shapes(shape, labels, pooling=config["pooling"]).items()
    }
    expected |= {f"{LINEAR}{name}": one for name, one in linear.items()}
    for name in sorted(shapes.keys() | expected.keys()):
        if shapes.get(name) != expected.get(name):
            raise ValueError(f"{name[:80]} is {_words(shapes.get(name))}, and should be {_words(expected.get(name))}")
    if linear:
        require_shapes(linear, vocabulary=shape.vocabulary, labels=labels)


def shapes_in(file: Path) -> Shapes:
    """Return the shapes of the tensors in a file without reading them."""
    with safe_open(file, "pt") as opened:
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118


def _words(shape: Sequence[int] | None) -> str:
    return "not there" if shape is None else f"a tensor of {tuple(shape)}"
