"""Linear layers and layer norms of stacked members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tlm_search.model.architecture import Architecture

EPSILON = 1e-12  # of the layer norms, as in BERT


def linear(value: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Apply the layer ``name`` of each member to ``value`` ``(K, n, in)``."""
    return affine(value, weights[f"{name}.weight"], weights[f"{name}.bias"])


def affine(value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``value @ weight.T + bias`` for each member, in the precision of ``value`` ``(K, n, in)``."""
    weight, bias = _rounded(weight, value.dtype), bias.to(value.dtype)
    if weight.shape[0] == 1:
        # squeeze, not [0], because the gradient of an index is a copy filled with zeros.
        return F.linear(value.squeeze(0), weight.squeeze(0), bias.squeeze(0)).unsqueeze(0)
    if not torch.is_grad_enabled():  # for a single text, the call of _Stacked would add a quarter to the time
        return _product(value, weight, bias)
    stacked: Callable[..., Tensor] = _Stacked.apply
    return stacked(value, weight, bias)


def _product(value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), value, weight.mT)


class _Stacked(torch.autograd.Function):
    """A linear layer of several members. Its gradients are contiguous, as the fused optimiser needs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(value, weight)
        return _product(value, weight, bias)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        value, weight = ctx.saved_tensors
        of_value = outer[0] @ weight if ctx.needs_input_grad[0] else None
        return of_value, outer[0].mT @ value, outer[0].sum(1)


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, precision: torch.dtype) -> Tensor:
        ctx.precision = weight.dtype
        return weight.to(precision)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        return outer[0].to(ctx.precision), None


def _rounded(weight: Tensor, precision: torch.dtype) -> Tensor:
    apply: Callable[..., Tensor] = _Rounded.apply
    return weight if weight.dtype == precision else apply(weight, precision)


def normalise(value: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Apply the layer norm ``name`` of each member to ``value`` ``(K, n, width)``."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if value.is_cuda or weight.shape[0] > 1:
        weight, bias = weight.to(value.dtype), bias.to(value.dtype)
    if weight.shape[0] == 1:
        return F.layer_norm(value, weight.shape[1:], weight.squeeze(0), bias.squeeze(0), EPSILON)
    return torch.addcmul(bias.unsqueeze(1), F.layer_norm(value, weight.shape[1:], eps=EPSILON), weight.unsqueeze(1))


def before(value: Tensor, weights: Mapping[str, Tensor], architecture: Architecture, name: str) -> Tensor:
    """Return the input of attention, feed-forward or a head: ``value``, normalised if layers are pre-norm."""
    return normalise(value, weights, name) if architecture.normalisation == "pre" else value


def behind(value: Tensor, weights: Mapping[str, Tensor], architecture: Architecture, name: str) -> Tensor:
    """Return the output of attention or feed-forward: ``value``, normalised if layers are post-norm."""
    return normalise(value, weights, name) if architecture.normalisation == "post" else value
