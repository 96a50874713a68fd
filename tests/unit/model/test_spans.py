"""The spans of marked texts, against a slow and obvious implementation."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tlm_search.data.markers import MARKERS, Markers
from tlm_search.model.architecture import SPANS
from tlm_search.model.spans import AROUND, find_spans, span_shares

IDS = Markers(head=5, head_end=6, tail=7, tail_end=8)
LENGTH = 16


def slowly(text: list[int]) -> list[set[int]]:
    """Return the places of each span of one text."""

    def inside(begin: int, end: int) -> tuple[int, int] | None:
        if begin not in text or end not in text[text.index(begin) + 1 :]:
            return None
        start = text.index(begin)
        return start, text.index(end, start + 1)

    head, tail = inside(IDS.head, IDS.head_end), inside(IDS.tail, IDS.tail_end)
    spans: list[set[int]] = [set(range(*(pair[0] + 1, pair[1]))) if pair else set() for pair in (head, tail)]
    begins = sorted(text.index(begin) for begin in (IDS.head, IDS.tail) if begin in text)
    between, left, right = set[int](), set[int](), set[int]()
    if begins:
        left = set(range(max(0, begins[0] - AROUND), begins[0]))
        first = head if text[begins[0]] == IDS.head else tail
        if first and len(begins) == 2:
            between = set(range(first[1] + 1, begins[1]))
    if head and tail:
        last = max(head[1], tail[1])
        right = set(range(last + 1, min(last + 1 + AROUND, len(text))))
    words = {place for place, token in enumerate(text) if token not in IDS}
    return [set(range(len(text))), *(span & words for span in (*spans, between, left, right))]


def as_places(spans: torch.Tensor) -> list[set[int]]:
    return [set(row.nonzero().flatten().tolist()) for row in spans]


tokens = st.one_of(st.sampled_from(IDS), st.integers(1, 20))


@given(st.lists(st.lists(tokens, min_size=1, max_size=LENGTH), min_size=1, max_size=6))
@settings(max_examples=300)
def test_they_are_those_of_the_obvious_way(texts: list[list[int]]) -> None:
    ids = torch.full((len(texts), LENGTH), IDS.head)  # any token may follow the end of a text
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = torch.tensor(text), True
    found = find_spans(ids, mask, IDS)
    assert found.shape == (len(texts), SPANS, LENGTH)
    assert [as_places(spans) for spans in found] == [slowly(text) for text in texts]
    for text in texts:
        assert as_places(find_spans(torch.tensor(text), None, IDS)) == slowly(text)


@given(st.lists(st.lists(tokens, min_size=1, max_size=5), min_size=1, max_size=4))
@settings(max_examples=100)
def test_several_texts_of_a_row_have_their_own(texts: list[list[int]]) -> None:
    row = torch.tensor([token for text in texts for token in text])
    borders = np.cumsum([0, *map(len, texts)])
    mask = torch.zeros(len(texts), len(row), dtype=torch.bool)
    for number, (begin, end) in enumerate(pairwise(borders.tolist())):
        mask[number, begin:end] = True
    found = find_spans(row[None], mask, IDS)
    for spans, begin, text in zip(found, borders[:-1].tolist(), texts, strict=True):
        assert as_places(spans) == [{begin + place for place in span} for span in slowly(text)]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ([2, 11, 5, 12, 13, 6, 14, 7, 15, 8, 16, 3], [{3, 4}, {8}, {6}, {0, 1}, {10, 11}]),
        ([2, 7, 15, 8, 14, 5, 12, 6, 3], [{6}, {2}, {4}, {0}, {8}]),  # the tail is before the head
        ([2, 5, 12, 7, 13, 8, 6, 14, 3], [{2, 4}, {4}, set(), {0}, {7, 8}]),  # one entity inside the other
        ([2, 11, 5, 12, 6, 14, 7, 15, 3], [{3}, set(), {5}, {0, 1}, set()]),  # the text is cut inside the tail
        ([2, 11, 5, 12, 6, 14, 15, 3], [{3}, set(), set(), {0, 1}, set()]),  # the text is cut before the tail
        ([2, 11, 12, 3], [set()] * 5),
        ([2, 6, 5, 12, 3], [set(), set(), set(), {0}, set()]),  # an end before its beginning does not count
    ],
)
def test_what_belongs_to_head_tail_between_left_and_right(text: list[int], spans: list[set[int]]) -> None:
    assert as_places(find_spans(torch.tensor(text), None, IDS))[1:] == spans


def test_the_mean_of_an_empty_span_is_zero() -> None:
    spans = torch.tensor([[True, True, False, True], [False, False, False, False]])
    values = torch.tensor([[1.0], [2.0], [40.0], [6.0]])
    np.testing.assert_allclose(span_shares(spans, torch.float32) @ values, [[3.0], [0.0]])


def test_the_ids_come_with_the_special_tokens() -> None:
    special = {"pad": 0, **dict(zip(MARKERS, IDS, strict=True))}
    assert Markers.of(special) == IDS
    assert Markers.of({"pad": 0}) is None
