"""The convolution front end of the BERT-1 variants (arXiv 2507.14871): an extra first layer before the transformer.

The embeddings of a text are an image with one channel, tokens x width. It passes n times through [convolution 'same',
batch norm, GELU], then through a 1x1 convolution back to one channel, batch norm and GELU, without a residual. Padding
is part of the image, so every text is padded to the full length, and its result does not depend on its neighbours. In
training, on a GPU, and for many texts, channels are last in memory, which suits vector units and tensor cores, and
members are computed one after another. Otherwise K members are K groups of a single convolution. The convolutions have
no bias, because the batch norm after them would remove it, and Adam would turn the rounding errors of its gradient into
a drift of the running mean.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tlm_search.model.architecture import Architecture

EPSILON = 1e-5  # of the batch norm, as in torch.nn.BatchNorm2d
MOMENTUM = 0.1  # of the running statistics, as in torch.nn.BatchNorm2d
FEW_CHANNELS = 8  # with fewer channels a CPU trains faster with channels first in memory
STATISTICS = ("running_mean", "running_var")  # not trained, but part of the weights
_BIAS = "convolution.{}.folded_bias"


def forward(image: Tensor, weights: dict[str, Tensor], architecture: Architecture, *, training: bool) -> Tensor:
    """Apply the front end to ``image`` ``(K, rows, length, width)``; ``training`` updates the running statistics."""
    if _BIAS.format(0) in weights:
        return _forward_folded(image, weights, architecture)
    members = image.shape[0]
    channels_last = image.is_cuda or (training and architecture.channels >= FEW_CHANNELS)
    if channels_last and members > 1:
        # One after another, because cuDNN takes up to 1.7 times as long for convolutions in groups.
        own = {name: value for name, value in weights.items() if name.startswith("convolution.")}
        alone = [{name: value[k : k + 1] for name, value in own.items()} for k in range(members)]
        parts = zip(torch.split(image, 1), alone, strict=True)
        return torch.cat([forward(part, mine, architecture, training=training) for part, mine in parts])
    value = _channels_last(image) if channels_last else image.transpose(0, 1)
    for layer in range(architecture.convolution_layers + 1):
        name = f"convolution.{layer}"
        value = _convolved(value, weights[f"{name}.weight"].flatten(0, 1).to(value.dtype), groups=members)
        value = F.batch_norm(
            value,
            weights[f"{name}.running_mean"].view(-1),
            weights[f"{name}.running_var"].view(-1),
            weights[f"{name}.norm.weight"].flatten(),
            weights[f"{name}.norm.bias"].flatten(),
            training=training,
            momentum=MOMENTUM,
            eps=EPSILON,
        )
        value = _gelu_of_channels_last(value) if channels_last else F.gelu(value)
    return value.transpose(0, 1)


def folded(weights: dict[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Return a member's weights for inference on many texts, with each batch norm folded into its convolution.

    With running statistics a batch norm is a scale and a shift of each channel. ``forward`` computes folded weights
    with channels last.
    """
    kernels, biases = {}, {}
    for layer in range(architecture.convolution_layers + 1):
        name = f"convolution.{layer}"
        scale = weights[f"{name}.norm.weight"] * (weights[f"{name}.running_var"] + EPSILON).rsqrt()
        kernels[f"{name}.weight"] = weights[f"{name}.weight"] * scale[..., None, None, None]
        biases[_BIAS.format(layer)] = weights[f"{name}.norm.bias"] - weights[f"{name}.running_mean"] * scale
    return {**weights, **kernels, **biases}


def _forward_folded(image: Tensor, weights: dict[str, Tensor], architecture: Architecture) -> Tensor:
    value = _channels_last(image)
    for layer in range(architecture.convolution_layers + 1):
        kernel, bias = weights[f"convolution.{layer}.weight"][0], weights[_BIAS.format(layer)][0]
        value = _gelu_of_channels_last(_convolved(value, kernel, groups=1, bias=bias))
    return value.transpose(0, 1)


def _channels_last(image: Tensor) -> Tensor:
    # Torch reads the memory format from the strides, even with a single channel. The view gives channels-last strides.
    return image.transpose(0, 1).flatten().view(*image.shape[1:], 1).movedim(-1, 1)


def _gelu_of_channels_last(value: Tensor) -> Tensor:
    # On a CPU GELU is faster on a contiguous tensor.
    return F.gelu(value.movedim(1, -1)).movedim(-1, 1)


def _convolved(image: Tensor, kernel: Tensor, *, groups: int, bias: Tensor | None = None) -> Tensor:
    """Convolve with 'same' padding. For even kernels torch's own 'same' padding warns and copies its input."""
    high, wide = kernel.shape[2] - 1, kernel.shape[3] - 1
    padding = (high // 2, wide // 2)
    if high % 2 or wide % 2:
        image, padding = F.pad(image, (wide // 2, wide - wide // 2, high // 2, high - high // 2)), (0, 0)
    return F.conv2d(image, kernel, bias, padding=padding, groups=groups)


def initial_weights(architecture: Architecture, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw a member's front end as ``torch.nn.Conv2d`` does (uniform, bound 1 / sqrt(fan in))."""
    weights: dict[str, Tensor] = {}
    inputs = 1
    for layer in range(architecture.convolution_layers + 1):
        last = layer == architecture.convolution_layers
        outputs, kernel = (1, (1, 1)) if last else (architecture.channels, architecture.kernel)
        bound = 1 / math.sqrt(inputs * kernel[0] * kernel[1])
        name = f"convolution.{layer}"
        weights[f"{name}.weight"] = torch.empty(outputs, inputs, *kernel).uniform_(-bound, bound, generator=generator)
        weights[f"{name}.norm.weight"] = torch.ones(outputs)
        weights[f"{name}.norm.bias"] = torch.zeros(outputs)
        weights[f"{name}.running_mean"] = torch.zeros(outputs)
        weights[f"{name}.running_var"] = torch.ones(outputs)
        inputs = outputs
    return weights
