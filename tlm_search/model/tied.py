"""The table of words, which a member looks its tokens up in and multiplies with to predict the masked ones.

The logits are the largest thing in the training of a tiny BERT. Their gradient is known as soon as they are, so both
live only for as long as one block of rows takes, and no block has more than ``LOGITS_BYTES`` of them (as Wijmans et
al. 2024, arXiv 2411.09009, do for large models on GPUs). The gradient of the table is next: it comes from both ends,
and is summed where the head has left it instead of as two tables of which one is nearly empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tlm_search.model.footprint import LOGITS_BYTES
from tlm_search.model.rows import gather

UNSCORED = -100  # a target that fills up
_SMALLEST = torch.finfo(torch.float32).tiny
_EVEN = 8  # numbers of bf16 in 16 bytes


class TiedWords:
    """What one training keeps of its words: memory that each update uses again, where the allocator would not.

    The gradient of the table lies there, too, until the next loss is computed. A GPU's allocator needs no help; and
    what a graph writes to must be its own.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._keeps, self._held = device == "cpu", dict[str, Tensor]()

    def lookup(self, table: Tensor, ids: Tensor) -> Tensor:
        """Return the rows ``ids`` ``(K, n)`` of ``table`` ``(K, words, width)``: ``(K, n, width)``.

        The gradient of the table waits for it: what they lead to has to be judged by ``linear_cross_entropy`` with the
        same words.
        """
        apply: Callable[..., Tensor] = _Lookup.apply
        return apply(table, ids, self)

    def empty(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return a tensor of ``shape`` with whatever is in it; the last one of this ``name`` is overwritten."""
        if not self._keeps:
            return torch.empty(*shape, dtype=like.dtype, device=like.device)
        size, held = math.prod(shape), self._held.get(name)
        if held is None or held.numel() < size:
            held = self._held[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return held[:size].view(*shape)

    def new_gradient(self, table: Tensor) -> Tensor:
        """Return the memory of the next gradient of ``table``."""
        self.gradient = self.empty("gradient", table.shape, table)
        return self.gradient


def linear_cross_entropy(
    hidden: Tensor, table: Tensor, bias: Tensor, targets: Tensor, words: TiedWords | None = None
) -> Tensor:
    """Return each member's sum of the cross-entropies ``(K,)`` of ``hidden @ table.T + bias``.

    ``hidden`` is ``(K, n, width)`` and decides the precision; ``targets`` ``(K, n)`` may be UNSCORED. The gradient of
    the table waits for that of what ``words`` looked up, where they are given.
    """
    apply: Callable[..., Tensor] = _LinearCrossEntropy.apply
    return apply(hidden, table, bias, targets, words)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, words: TiedWords) -> Tensor:
        ctx.ids, ctx.words = ids, words
        return gather(table, ids)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        # Autograd comes here from the head, which everything that was looked up has led to.
        gradient = ctx.words.gradient
        for rows, own, parts in zip(gradient, ctx.ids, outer[0], strict=True):
            rows.index_add_(0, own, parts)
        return gradient, None, None


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, bias: Tensor, targets: Tensor, words: TiedWords | None
    ) -> Tensor:
        ctx.deferred, words = words is not None, words or TiedWords(hidden.device.type)
        of_hidden, of_table, of_bias = torch.empty_like(hidden), words.new_gradient(table), torch.zeros_like(bias)
        totals = torch.zeros(len(hidden), device=hidden.device)
        members = zip(hidden, table, bias, targets, totals, of_hidden, of_table, of_bias, strict=True)
        products = [_score(_Member(*parts), words, f"product {number}") for number, parts in enumerate(members)]
        ctx.gradients = of_hidden, of_table, of_bias, products
        return totals

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_table, of_bias, products = ctx.gradients
        share = outer[0][:, None, None]
        for rows, product, own in zip(of_table, products, share, strict=True):
            if product is None:
                rows.mul_(own)
            elif rows.is_cuda:
                torch.mul(product, own, out=rows)
            else:  # where one pass over two precisions takes three times as long as two passes
                rows.copy_(product).mul_(own)
        return of_hidden.mul_(share), None if ctx.deferred else of_table, of_bias.mul_(share[..., 0]), None, None


@dataclass(frozen=True)
class _Member:
    """One member's part of what is given, and of what is wanted: the loss and its gradients."""

    hidden: Tensor
    table: Tensor
    bias: Tensor
    targets: Tensor
    total: Tensor
    of_hidden: Tensor
    of_table: Tensor
    of_bias: Tensor


def _score(own: _Member, words: TiedWords, name: str) -> Tensor | None:
    """Add the loss of a member to its total, which is zero before like the gradient of its bias, and set the gradients.

    That of the table is returned where it has another precision than the table, and lies in memory of ``name``.
    """
    hidden, (count, width) = own.hidden, own.table.shape
    exact, step = own.table.dtype == hidden.dtype, max(1, LOGITS_BYTES // (4 * count))
    # The fast kernels of a GPU take rows of whole 16 bytes only: words that nobody can say fill the table up.
    unused, columns = (-count % _EVEN, _EVEN) if hidden.is_cuda and not exact else (0, 0)
    table = own.table if exact else _copied(own.table, words.empty("table", (count + unused, width), hidden))
    offset = F.pad(own.bias.to(hidden.dtype), (0, unused), value=-math.inf)
    # Unscored rows are struck out of the small factors of each product, never of the logits.
    scored = (own.targets != UNSCORED).to(hidden.dtype)
    places, factors = own.targets.clamp(min=0), F.pad(hidden * scored[:, None], (0, columns))
    factors[:, width:] = scored[:, None]  # whose product is the gradient of the bias
    product = own.of_table if exact else words.empty(name, (count + unused, width + columns), hidden)
    for first in range(0, len(hidden), step):
        rows = slice(first, first + step)
        wanted, used = places[rows], scored[rows]
        logits = words.empty("logits", (len(wanted), len(table)), hidden)
        torch.addmm(offset, hidden[rows], table.T, out=logits)
        # Not logsumexp, which takes ten times as long on a CPU; a loss above 87 is given as 87.
        gradient = torch.softmax(logits, -1, out=logits)
        chances = gradient.gather(1, wanted[:, None]).squeeze(1).float()
        own.total.sub_(chances.clamp(min=_SMALLEST).log() @ used.float())
        # Not scatter_, which in bf16 copies all of them.
        gradient[torch.arange(len(wanted), device=wanted.device), wanted] = (chances - 1).to(gradient.dtype)
        torch.mm(gradient, table, out=own.of_hidden[rows])
        torch.addmm(product, gradient.T, factors[rows], beta=int(exact and first > 0), out=product)
        own.of_bias.add_(product[:count, width] if columns else used @ gradient)
        if not exact and len(hidden) > step:
            part = product[:count, :width]
            own.of_table.add_(part) if first else own.of_table.copy_(part)
    own.of_hidden.mul_(scored[:, None])
    return None if exact or len(hidden) > step else product[:count, :width]


def _copied(table: Tensor, memory: Tensor) -> Tensor:
    memory[: len(table)].copy_(table)
    memory[len(table) :].zero_()
    return memory
