"""The tied word table: it embeds tokens, and masked tokens are predicted by multiplying with it.

The logits are the largest tensor in the training of a tiny BERT. Their gradient can be computed together with them, so
both exist only for a block of rows with at most ``LOGITS_BYTES`` of logits (as Wijmans et al. 2024, arXiv 2411.09009,
do for large models on GPUs). The next largest is the gradient of the table. It comes from the embedding and from the
head, and is summed in place instead of in two tables, one of them almost empty.
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

UNSCORED = -100  # a target that pads
_SMALLEST = torch.finfo(torch.float32).tiny
_EVEN = 8  # numbers of bf16 in 16 bytes


class TiedWords:
    """The memory for the word table in a training, reused by each update.

    It also holds the gradient of the table until the next loss is computed. On a GPU nothing is reused, because its
    allocator is fast enough, and a CUDA graph must own the memory that it writes.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._keeps, self._held = device == "cpu", dict[str, Tensor]()

    def lookup(self, table: Tensor, ids: Tensor) -> Tensor:
        """Return the rows ``ids`` ``(K, n)`` of ``table`` ``(K, words, width)``: ``(K, n, width)``.

        The loss must be ``linear_cross_entropy`` with the same words, because it computes the gradient of the table.
        """
        apply: Callable[..., Tensor] = _Lookup.apply
        return apply(table, ids, self)

    def empty(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return an uninitialised tensor of ``shape``. It reuses the memory of the last tensor of this ``name``."""
        if not self._keeps:
            return torch.empty(*shape, dtype=like.dtype, device=like.device)
        size, held = math.prod(shape), self._held.get(name)
        if held is None or held.numel() < size:
            held = self._held[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return held[:size].view(*shape)

    def new_gradient(self, table: Tensor) -> Tensor:
        """Return memory for the next gradient of ``table``."""
        self.gradient = self.empty("gradient", table.shape, table)
        return self.gradient


def linear_cross_entropy(
    hidden: Tensor, table: Tensor, bias: Tensor, targets: Tensor, shares: Tensor, words: TiedWords | None = None
) -> Tensor:
    """Return each member's sum of the cross-entropies of ``hidden @ table.T + bias``, times its share: ``(K,)``.

    ``hidden`` is ``(K, n, width)`` and decides the precision. ``targets`` ``(K, n)`` may be UNSCORED. ``shares`` are
    ``(K,)``. Gradients exist only for the plain sum of the losses: the shares go into the small factors of the
    products, so that the largest gradient is written once. With ``words`` the gradient of the table includes the
    gradient of the lookup.
    """
    apply: Callable[..., Tensor] = _LinearCrossEntropy.apply
    return apply(hidden, table, bias, targets, shares, words)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, words: TiedWords) -> Tensor:
        ctx.ids, ctx.words = ids, words
        return gather(table, ids)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        # Autograd calls this after the head's backward pass, because the head depends on all embeddings.
        gradient = ctx.words.gradient
        members, count, width = gradient.shape
        rows = ctx.ids + torch.arange(members, device=gradient.device)[:, None] * count
        gradient.view(-1, width).index_add_(0, rows.flatten(), outer[0].flatten(0, 1))
        return gradient, None, None


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        bias: Tensor,
        targets: Tensor,
        shares: Tensor,
        words: TiedWords | None,
    ) -> Tensor:
        ctx.deferred, words = words is not None, words or TiedWords(hidden.device.type)
        scored = (targets != UNSCORED).to(hidden.dtype)
        weights = (scored * shares[:, None])[..., None]
        # Zero the unscored rows in the small factor of each product, not in the large logits.
        factors = torch.mul(hidden, weights, out=torch.empty_like(hidden))
        of_hidden, of_table, of_bias = torch.empty_like(hidden), words.new_gradient(table), torch.zeros_like(bias)
        chances = torch.empty(targets.shape, device=hidden.device)
        given = (hidden, table, bias, targets.clamp(min=0), scored, factors)
        for parts in zip(*given, chances, of_hidden, of_table, of_bias, strict=True):
            _score(_Member(*parts), words)
        ctx.gradients = of_hidden.mul_(weights), None if ctx.deferred else of_table, of_bias.mul_(shares[:, None])
        # Not logsumexp, which takes ten times as long on a CPU. Losses above 87 become 87.
        return -(chances.clamp_(min=_SMALLEST).log_() * weights[..., 0]).sum(1)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        assert outer[0].is_cuda or bool((outer[0] == 1).all()), "gradients exist only for the plain sum"
        return *ctx.gradients, None, None, None


@dataclass(frozen=True)
class _Member:
    """The inputs and outputs of a member: the probability of each target, and the gradients."""

    hidden: Tensor
    table: Tensor
    bias: Tensor
    targets: Tensor
    scored: Tensor
    factors: Tensor
    chances: Tensor
    of_hidden: Tensor
    of_table: Tensor
    of_bias: Tensor


def _score(own: _Member, words: TiedWords) -> None:
    """Compute the outputs of a member. The gradient of its bias must be zero before the call."""
    hidden, (count, width) = own.hidden, own.table.shape
    exact, step = own.table.dtype == hidden.dtype, max(1, LOGITS_BYTES // (4 * count))
    # The fast kernels of a GPU need rows of a multiple of 16 bytes: pad the table with words of probability 0.
    unused = -count % _EVEN if hidden.is_cuda and not exact else 0
    table = own.table if exact else _copied(own.table, words.empty("table", (count + unused, width), hidden))
    offset = F.pad(own.bias.to(hidden.dtype), (0, unused), value=-math.inf)
    lines = torch.arange(min(step, len(hidden)), device=hidden.device)
    for first in range(0, len(hidden), step):
        rows = slice(first, first + step)
        wanted = own.targets[rows]
        logits = words.empty("logits", (len(wanted), len(table)), hidden)
        torch.addmm(offset, hidden[rows], table.T, out=logits)
        gradient = torch.softmax(logits, -1, out=logits)
        chances = own.chances[rows].copy_(gradient.gather(1, wanted[:, None]).squeeze(1))
        # Not scatter_, which in bf16 copies the whole gradient.
        gradient[lines[: len(wanted)], wanted] = (chances - 1).to(gradient.dtype)
        torch.mm(gradient, table, out=own.of_hidden[rows])
        own.of_bias.add_((own.scored[rows] @ gradient)[:count])
        _add_product(own.of_table, gradient[:, :count].T, own.factors[rows], words, first=first == 0)


def _add_product(total: Tensor, left: Tensor, right: Tensor, words: TiedWords, *, first: bool) -> None:
    """Add ``left @ right`` to ``total``, or set ``total`` to it if it is the ``first`` product."""
    if left.dtype == total.dtype:
        torch.addmm(total, left, right, beta=int(not first), out=total)
    elif total.is_cuda:  # a GPU can return products of bf16 in fp32
        product = torch.mm(left, right, out_dtype=total.dtype, out=total if first else None)
        if not first:
            total.add_(product)
    else:
        product = torch.mm(left, right, out=words.empty("product", total.shape, left))
        (total.copy_ if first else total.add_)(product)


def _copied(table: Tensor, memory: Tensor) -> Tensor:
    memory[: len(table)].copy_(table)
    memory[len(table) :].zero_()
    return memory
