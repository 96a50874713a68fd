"""Overlap on toy sets that are worked out by hand."""

import numpy as np
import pytest

from tlm_search.data import overlap
from tlm_search.data.overlap import count_tokens, jensen_shannon, overlap_curve, token_share, type_share
from tlm_search.data.tokens import TokenArray

# The task is "1 1 1 2 3 3", the corpus "1 2 2 4"; both lack 0.
TASK = np.array([0, 3, 1, 2, 0])
CORPUS = np.array([0, 1, 2, 0, 1])


def array(*texts):
    return TokenArray(np.concatenate(texts).astype(np.uint16), np.cumsum([0, *map(len, texts)]))


@pytest.mark.parametrize("block", [1, 3, 100])
def test_counts_in_blocks_and_without_special_tokens(monkeypatch, block):
    monkeypatch.setattr(overlap, "_BLOCK", block)
    ids = np.array([7, 1, 1, 2, 7, 0, 1], dtype=np.uint16)
    assert count_tokens(ids, vocabulary=9, special=[0, 7]).tolist() == [0, 3, 1, 0, 0, 0, 0, 0, 0]
    assert count_tokens(ids[:0], vocabulary=3, special=[]).tolist() == [0, 0, 0]


def test_type_share():
    assert type_share(TASK, CORPUS) == pytest.approx(2 / 3)  # the corpus contains 1 and 2 of 1, 2 and 3
    assert type_share(TASK, CORPUS, least=2) == pytest.approx(1 / 3)  # only 2 occurs twice
    assert type_share(np.zeros(5, dtype=np.int64), CORPUS) == 0


def test_token_share():
    assert token_share(TASK, CORPUS) == pytest.approx(4 / 6)  # 1 three times, 2 once
    assert token_share(TASK, CORPUS, least=2) == pytest.approx(1 / 6)
    assert token_share(np.zeros(5, dtype=np.int64), CORPUS) == 0


def test_jensen_shannon():
    assert jensen_shannon(TASK, TASK * 7) == pytest.approx(0)
    assert jensen_shannon(np.array([4, 0]), np.array([0, 9])) == 1
    assert jensen_shannon(np.array([4, 0]), np.array([0, 0])) == 1
    # p = (1, 0), q = (1/2, 1/2), mean (3/4, 1/4): half of log2(4/3), and half of (log2(2/3) + log2(2)) / 2
    expected = (np.log2(4 / 3) + (np.log2(2 / 3) + 1) / 2) / 2
    assert jensen_shannon(np.array([2, 0]), np.array([5, 5])) == pytest.approx(expected)
    assert jensen_shannon(TASK, CORPUS) == pytest.approx(jensen_shannon(CORPUS, TASK))


def test_the_curve_grows_with_the_corpus():
    task = [array([8, 1, 9], [8, 2, 9]), array([8, 1, 3, 9])]  # 1 in two texts, 2 and 3 in one each
    corpus = array([8, 1, 9], *[[8, 4, 9]] * 8, [8, 2, 2, 9])
    curve = overlap_curve(task, corpus, vocabulary=10, special={"cls": 8, "sep": 9})
    assert [point.documents for point in curve] == [1, 3, 10]
    assert [point.tokens for point in curve] == [1, 3, 11]
    assert [point.types[1] for point in curve] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert [point.weighted[1] for point in curve] == pytest.approx([2 / 4, 2 / 4, 3 / 4])
    assert curve[-1].types[10] == 0
    assert curve[0].divergence == pytest.approx(jensen_shannon(np.array([2, 1, 1]), np.array([1, 0, 0])))


def test_what_the_vocabulary_lacks_is_held_by_no_corpus():
    task = [array([8, 1, 7, 7, 9])]
    curve = overlap_curve(task, array([8, 1, 7, 9]), vocabulary=10, special={"unk": 7, "cls": 8, "sep": 9})
    assert (curve[-1].types[1], curve[-1].weighted[1]) == pytest.approx((1 / 2, 1 / 3))
