"""The spans of a text with two marked entities. A classifier reads their concatenated means.

Sources: Baldini Soares et al. 2019 (arXiv 1906.03158), entity markers; Wu and He 2019 (arXiv 1905.08284), R-BERT, which
reads the means of the entities and the sentence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tlm_search.data.markers import Markers

AROUND = 4  # tokens to the left of the first entity, and to the right of the last


def find_spans(ids: Tensor, mask: Tensor | None, markers: Markers) -> Tensor:
    """Return which tokens belong to each of six spans, bool ``(..., 6, length)``.

    ``ids`` ``(..., length)`` are rows of tokens. ``mask``, bool ``(..., length)``, marks the tokens of a row that
    belong to the text; None means all. Leading dimensions broadcast, so a row can contain several texts.

    The spans are the whole text, the head entity, the tail entity, the tokens between them, four tokens to the left of
    the first entity, and four to the right of the last. Either entity may come first. Markers belong only to the whole
    text. If the text was cut and a marker of a span is missing, the span is empty. If a marker occurs twice, the first
    occurrence counts.
    """
    mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    length = ids.shape[-1]
    head, head_end, tail, tail_end = ((ids == number) & mask for number in markers)
    positions = torch.arange(length, device=ids.device)
    begins = [_first(head), _first(tail)]
    ends = [_first(end & (positions > begin)) for end, begin in zip((head_end, tail_end), begins, strict=True)]
    entities = [
        (positions > begin) & (positions < end) & (end < length) for begin, end in zip(begins, ends, strict=True)
    ]
    foremost, second = torch.minimum(*begins), torch.maximum(*begins)
    foremost_end = ends[0].where(begins[0] < begins[1], ends[1])
    between = (positions > foremost_end) & (positions < second) & (second < length)
    left = (positions < foremost) & (positions >= foremost - AROUND) & (foremost < length)
    last = torch.maximum(*ends)
    right = (positions > last) & (positions <= last + AROUND)
    words = mask & ~(head | head_end | tail | tail_end)
    parts = [mask.expand_as(words), *(words & part for part in (*entities, between, left, right))]
    return torch.stack(parts, -2)


def by_order(spans: Tensor) -> Tensor:
    """Split the spans around the entities by the order of the entities: bool ``(..., 8, length)``.

    ``spans`` ``(..., 5, length)`` come from ``find_spans``, without the whole text. The head and the tail stay. The
    three other spans follow twice: for texts in which the head comes first, and for texts in which the tail does.
    """
    entities, around = spans[..., :2, :], spans[..., 2:, :]
    begins = _first(entities)
    head_first = begins[..., :1, :] < begins[..., 1:, :]
    return torch.cat([entities, around & head_first, around & ~head_first], -2)


def span_shares(spans: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight of each token in the mean of its span. The mean of an empty span is 0."""
    shares = spans.to(dtype)
    return shares / shares.sum(-1, keepdim=True).clamp(min=1)


def _first(found: Tensor) -> Tensor:
    """Return the first position at which ``found`` is True, ``(..., 1)``, or the length without such a position."""
    length = found.shape[-1]
    # Not where() with a number: it would be copied to a GPU, which no CUDA graph can record.
    return torch.arange(length, device=found.device).masked_fill(~found, length).amin(-1, keepdim=True)
