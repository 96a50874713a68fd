"""Check that the parts of an export match, because somebody else may have chosen the numbers in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from tlm_search.export.folder import LINEAR_MODELS, STACKS
from tlm_search.model.architecture import Architecture
from tlm_search.model.linear import require_shapes
from tlm_search.model.weights import answering_shapes
from tlm_search.space.settings import SETTINGS

if TYPE_CHECKING:
    from torch import Tensor

LINEAR = "linear."  # prefix of the names of the linear model's tensors
_BOUNDED = {"channels": "convolution_channels"} | {
    name: name for name in ("depth", "heads", "head_size", "convolution_layers")
}

Shapes = Mapping[str, tuple[int, ...]]


def architecture_of(document: Mapping[str, Any]) -> Architecture:
    """Rebuild an architecture from its document.

    Raises:
        KeyError, TypeError, ValueError: the document is not an architecture that a space allows.
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
        raise ValueError(f"unknown normalisation {shape.normalisation!r} or shared_layers {shape.shared_layers!r}")
    return shape


def whole_number(name: str, value: object, *, low: int, high: int | None) -> int:
    """Return ``value`` if it is a whole number from ``low`` to ``high``, otherwise raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        raise ValueError(
            f"{name} is {str(value)[:40]}, not a whole number from {low}{'' if high is None else f' to {high}'}"
        )
    return value


@dataclass(frozen=True)
class StackForm:
    """Members of one ``architecture`` and ``pooling``. The names of their tensors begin with ``prefix``."""

    prefix: str
    architecture: Architecture
    pooling: str
    size: int


@dataclass(frozen=True)
class Form:
    """The tensors that a configuration asks for: ``stacks``, and the shapes of ``linear`` models by their prefix.

    ``member_weights`` are relative weights of all members, stack by stack; None means that they are equal.
    """

    stacks: tuple[StackForm, ...]
    linear: Mapping[str, Shapes]
    member_weights: tuple[float, ...] | None = None

    def of_stacks(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the tensors of each stack, without the prefix."""
        return [_with_prefix(stack.prefix, tensors) for stack in self.stacks]

    def of_linear(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the tensors of each linear model, without the prefix."""
        return [_with_prefix(prefix, tensors) for prefix in self.linear]


def form_of(config: Mapping[str, Any]) -> Form:
    """Read the stacks and linear models of a configuration: at most one of each, or those of a mixed committee.

    Raises:
        KeyError, TypeError, ValueError: it is not the configuration of an export.
    """
    if config.get(STACKS) is None:
        linear = config.get("linear")
        return Form((_stack_form("", config),), {LINEAR: _shapes(linear)} if linear else {})
    stacks, linear = config[STACKS], config.get(LINEAR_MODELS) or []
    if not isinstance(stacks, list) or not isinstance(linear, list) or not stacks:
        raise TypeError(f"{STACKS} and {LINEAR_MODELS} must be lists, and {STACKS} must not be empty")
    weights = [weight for stack in stacks for weight in _member_weights(stack)]
    return Form(
        tuple(_stack_form(f"{STACKS}.{index}.", stack) for index, stack in enumerate(stacks)),
        {f"{LINEAR_MODELS}.{index}.": _shapes(shapes) for index, shapes in enumerate(linear)},
        tuple(weights),
    )


def _stack_form(prefix: str, stack: Mapping[str, Any]) -> StackForm:
    if stack["pooling"] not in SETTINGS["pooling"].choices:
        raise ValueError(f"unknown pooling: {str(stack['pooling'])[:40]!r}")
    return StackForm(prefix, architecture_of(stack["architecture"]), str(stack["pooling"]), len(stack["members"]))


def _member_weights(stack: Mapping[str, Any]) -> list[float]:
    weights = stack["member_weights"]
    if not isinstance(weights, list) or len(weights) != len(stack["members"]):
        raise ValueError("member_weights must have one number for each member")
    for weight in weights:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ValueError(f"a member's weight is {str(weight)[:40]}, not a number above 0")
    return [float(weight) for weight in weights]


def _shapes(linear: Mapping[str, Any]) -> Shapes:
    return {str(name): tuple(shape) for name, shape in linear.items()}


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # An empty prefix means all tensors but the linear model's.
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if (name.startswith(prefix) if prefix else not name.startswith(LINEAR))
    }


def require_fit(config: Mapping[str, Any], shapes: Shapes, *, labels: int) -> None:
    """Refuse a configuration that does not match tensors of these ``shapes``, without allocating any of them.

    Raises:
        KeyError, TypeError, ValueError: they do not match; the message says where.
    """
    form = form_of(config)
    vocabulary = form.stacks[0].architecture.vocabulary
    if any(stack.architecture.vocabulary != vocabulary for stack in form.stacks):
        raise ValueError("the stacks have different vocabularies, but an export has one tokenizer")
    positions = min(stack.architecture.positions for stack in form.stacks)
    whole_number("length", config["length"], low=1, high=positions)
    whole_number("pad_token_id", config["pad_token_id"], low=0, high=vocabulary - 1)
    expected: dict[str, tuple[int, ...]] = {}
    for stack in form.stacks:
        if stack.size < 1 or labels < 1:
            raise ValueError(f"{stack.size} members and {labels} labels; at least one of each is needed")
        own = answering_shapes(stack.architecture, labels, pooling=stack.pooling)
        expected |= {f"{stack.prefix}{name}": (stack.size, *shape) for name, shape in own.items()}
    for prefix, linear in form.linear.items():
        expected |= {f"{prefix}{name}": shape for name, shape in linear.items()}
    for name in sorted(shapes.keys() | expected.keys()):
        if shapes.get(name) != expected.get(name):
            raise ValueError(f"{name[:80]} is {_words(shapes.get(name))}, but should be {_words(expected.get(name))}")
    for linear in form.linear.values():
        require_shapes(linear, vocabulary=vocabulary, labels=labels)


def shapes_in(file: Path) -> Shapes:
    """Return the shapes of the tensors in a file without reading them."""
    with safe_open(file, "pt") as opened:
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118


def _words(shape: Sequence[int] | None) -> str:
    return "missing" if shape is None else f"a tensor of {tuple(shape)}"
