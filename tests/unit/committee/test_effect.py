from dataclasses import replace

import numpy as np
import pytest

from tlm_search.committee import effect as room
from tlm_search.committee.effect import committee, effect, gain_of_doubling, singles, slope, steepest
from tlm_search.committee.interval import paired_interval


def right(*rows):
    return np.array([[mark == "x" for mark in row] for row in rows], dtype=float)


def test_one_seed_each_is_the_paired_bootstrap_of_the_rows():
    a, b = right("xxxx..xx" * 20), right("xx.x.x.." * 20)
    found = effect(singles(a), singles(b))
    assert (found.mean, found.low, found.high) == pytest.approx(paired_interval(a[0], b[0]))
    assert found.seeds == 1


def test_seeds_that_differ_widen_the_interval():
    alike, apart = right(*["xx.." * 50] * 4), right("x..." * 50, "xxx." * 50, "x..." * 50, "xxx." * 50)
    narrow, wide = effect(singles(alike)), effect(singles(apart))
    assert narrow.mean == wide.mean == 0.5
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_pairing_by_seed_takes_out_what_the_seeds_share():
    luck = np.array([[0.2], [0.4], [0.6], [0.8]])
    easy = np.random.default_rng(0).random((1, 500))
    b = (easy < luck).astype(float)
    a = (easy < luck + 0.1).astype(float)
    paired, unpaired = effect(singles(a - b)), effect(singles(a), singles(b))
    assert paired.mean == pytest.approx(unpaired.mean)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 3


def test_a_committee_votes_and_is_jackknifed():
    random = np.random.default_rng(1)
    labels = np.arange(200) % 3
    logits = random.normal(size=(5, 200, 3)) + 1.5 * np.eye(3)[labels]
    side = committee(logits, labels)
    assert side.seeds == 5
    votes = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert side.rows.mean() == (votes.mean(axis=0).argmax(axis=-1) == labels).mean()
    assert side.spread.freedom == 4
    assert committee(logits[:1], labels).spread is None


def test_members_are_left_out_in_groups_where_they_are_many(monkeypatch):
    monkeypatch.setattr(room, "MOST_GROUPS", 3)
    left_in = []

    def statistic(members):
        left_in.append(members.tolist())
        return np.zeros(4)

    room.jackknifed(statistic, 6)
    assert left_in == [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 3]]


def test_the_gain_of_doubling_is_that_over_its_halves():
    labels = np.array([0, 0])
    # Members 0 and 1 are right on row 0, members 2 and 3 on row 1; together they are right on both.
    logits = np.array([[[9, 0], [2, 3]], [[9, 0], [2, 3]], [[2, 3], [9, 0]], [[2, 3], [9, 0]]], dtype=float)
    side = gain_of_doubling(logits, labels)
    # of the halves (0 1), (1 2), (2 3), (3 0), the first and the third are wrong on one row each
    assert side.rows.tolist() == [0.25, 0.25]


@pytest.mark.parametrize(("members", "estimated"), [(4, False), (8, True), (9, True)])
def test_the_variance_of_a_gain_is_taken_as_estimated_where_members_are_many(members, estimated):
    labels = np.arange(300) % 3
    random = np.random.default_rng(members)
    logits = random.normal(size=(300, 3)) + 1.2 * random.normal(size=(members, 300, 3)) + 1.5 * np.eye(3)[labels]
    side = gain_of_doubling(logits, labels)
    assert side.estimated is estimated
    found, drawn = effect(side), effect(replace(side, estimated=False))
    rows_alone = effect(replace(side, spread=None))
    assert found.mean == drawn.mean
    if estimated:
        assert rows_alone.high - rows_alone.low <= found.high - found.low < 0.95 * (drawn.high - drawn.low)


def test_identical_members_gain_nothing():
    logits = np.repeat(np.random.default_rng(2).normal(size=(1, 50, 4)), 6, axis=0)
    assert not gain_of_doubling(logits, np.arange(50) % 4).rows.any()


def test_slope():
    levels = [right("x...", "...."), right("xx..", "xx.."), right("xxx.", "xxx.")]
    contrast = slope(levels, [0, 1, 2])
    assert contrast.mean(axis=1) == pytest.approx([0.25, 0.375])  # (last - first) / 2 for places 0, 1, 2
    assert steepest([0, 1, 2]) == pytest.approx(contrast.max())
    assert slope([np.ones((3, 5)), np.ones((2, 5))], [1, 4]).shape == (2, 5)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """With made-up seeds and rows, 88 or more of 100 intervals of 95% hold the truth (measured: 93 to 99)."""
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(100):
        skill = 0.6 + 0.05 * random.normal(size=(4, 1))
        # In half of the cases a row is easy or hard for all seeds.
        easy, own = random.random((1, 800)), random.random((4, 800))
        marks = (np.where(np.arange(800) % 2, easy, own) < skill).astype(float)
        found = effect(singles(marks))
        hits += found.low <= 0.6 <= found.high
    assert hits >= 88
