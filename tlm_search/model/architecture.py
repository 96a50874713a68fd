"""The shape of a member, its parameters and floating-point operations. This module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tlm_search.digest import without_defaults
from tlm_search.space.settings import Value

SPANS = 6  # spans of a text with marked entities, see tlm_search.model.spans
_LATER = {"normalisation": "post", "shared_layers": False}


@dataclass(frozen=True)
class Architecture:
    """The shape of a member.

    ``width`` is ``heads x head_size``. ``feed_forward`` is the size of the inner layer in units. ``kernel`` is
    (tokens, width). ``positions`` is the longest text in tokens. ``normalisation`` is ``post`` or ``pre``.
    """

    depth: int
    heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    positions: int
    convolution_layers: int = 0
    kernel: tuple[int, int] = (3, 3)
    channels: int = 0
    normalisation: str = "post"
    shared_layers: bool = False

    @property
    def width(self) -> int:
        """Hidden size."""
        return self.heads * self.head_size

    @property
    def weighted_layers(self) -> int:
        """The number of layers with their own weights. Layer i uses the weights of layer i modulo this number."""
        return 1 if self.shared_layers else self.depth

    @property
    def is_bert(self) -> bool:
        """Whether BERT in ``transformers`` can compute this shape."""
        return not self.convolution_layers and self.normalisation == "post"

    @classmethod
    def of(cls, settings: Mapping[str, Value], *, vocabulary: int, positions: int) -> Architecture:
        """Build the shape from complete ``settings`` (``tlm_search.space.settings.complete``)."""
        layers = int(settings["convolution_layers"])
        tokens, across = str(settings["convolution_kernel"]).split("x")
        return cls(
            depth=int(settings["depth"]),
            heads=int(settings["heads"]),
            head_size=int(settings["head_size"]),
            feed_forward=max(1, round(float(settings["feed_forward"]) * int(settings["width"]))),
            vocabulary=vocabulary,
            positions=positions,
            convolution_layers=layers,
            # Without a convolution, kernel and channels have no meaning: fix them, so that equal shapes have equal
            # digests.
            kernel=(int(tokens), int(across)) if layers else (3, 3),
            channels=int(settings["convolution_channels"]) if layers else 0,
            normalisation=str(settings["normalisation"]),
            shared_layers=settings["layer_weights"] == "shared" and int(settings["depth"]) > 1,
        )

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Architecture:
        """Rebuild from ``to_document``."""
        tokens, across = document["kernel"]
        return cls(**{**document, "kernel": (tokens, across)})

    def to_document(self) -> dict[str, object]:
        """Return the shape as JSON."""
        return without_defaults({**asdict(self), "kernel": list(self.kernel)}, _LATER)

    def encoder_parameters(self) -> int:
        """Count the parameters of embeddings, convolutions and layers."""
        h, f = self.width, self.feed_forward
        embeddings = (self.vocabulary + self.positions + 2) * h + 2 * h
        layer = 4 * (h * h + h) + (h * f + f) + (f * h + h) + 4 * h
        last = 2 * h if self.normalisation == "pre" else 0
        return embeddings + self.weighted_layers * layer + last + self._convolution_parameters()

    def pooled_width(self, pooling: str) -> int:
        """Return the size of the pooler's input. For ``spans`` it is the concatenated means of all spans."""
        return self.width * (SPANS if pooling == "spans" else 1)

    def classifier_parameters(self, labels: int, *, pooling: str = "cls") -> int:
        """Count the parameters of the whole classifier: encoder, pooler and output layer."""
        h = self.width
        return self.encoder_parameters() + h * self.pooled_width(pooling) + h + h * labels + labels

    def forward_flops(self, tokens: float, *, scored: float = 0.0, words: float | None = None) -> float:
        """Return the floating-point operations of a forward pass over a text of ``tokens`` tokens.

        A multiply-add counts as 2. ``scored`` positions pass through the masked-language-model head, which scores
        ``words``, by default the whole vocabulary (Kaplan et al. 2020, appendix B, with the attention products and the
        head counted in full). Every layer counts for every token, although the engine computes the last layer only at
        positions whose output is read.
        """
        h, f = self.width, self.feed_forward
        layer = 2 * (4 * h * h + 2 * h * f) + 4 * tokens * h
        head = 2 * (h * h + h * (self.vocabulary if words is None else min(words, self.vocabulary)))
        return tokens * self.depth * layer + scored * head + self._convolution_flops(self.positions)

    def serving_flops(self, tokens: float, *, pooling: str) -> float:
        """Return the floating-point operations of the encoder for an answer of ``tlm_search.model.inference``.

        With ``cls`` pooling the last layer is computed only for the first token, without keys and values.
        """
        if pooling != "cls":
            return self.forward_flops(tokens)
        h, f = self.width, self.feed_forward
        last = 2 * (4 * h * h + 2 * h * f) + 4 * tokens * self.heads * h
        return replace(self, depth=self.depth - 1).forward_flops(tokens) + last

    def _convolution_parameters(self) -> int:
        if not self.convolution_layers:
            return 0
        c, k = self.channels, self.kernel[0] * self.kernel[1]
        first = k * c + 2 * c
        later = (self.convolution_layers - 1) * (k * c * c + 2 * c)
        return first + later + c + 2

    def _convolution_flops(self, tokens: int) -> float:
        if not self.convolution_layers:
            return 0.0
        c, k = self.channels, self.kernel[0] * self.kernel[1]
        return 2.0 * tokens * self.width * (k * c + (self.convolution_layers - 1) * k * c * c + c)
