import itertools
import time

import numpy as np
import pytest

from tlm_search.committee import vote
from tlm_search.committee.frontier import frontier
from tlm_search.committee.interval import Spread, accuracy_interval, member_spread, paired_interval

MEASURED = ("accuracy", "balanced_accuracy", "macro_f1", "cross_entropy", "calibration_error")
FIGURES = {
    *("subset_low", "subset_high"),
    *(f"{split}_{name}" for split in ("validation", "test") for name in (*MEASURED, "accuracy_low", "accuracy_high")),
}


def made_up(members, rows, classes, *, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    logits = random.normal(size=(members, rows, classes)) + random.normal(size=(rows, classes))
    logits[:, np.arange(rows), labels] += 1
    return logits.astype(np.float32), labels


def test_each_size_is_the_mean_over_all_subsets_where_there_are_few():
    logits, labels = made_up(4, 60, 3)
    rows = frontier(logits, logits[:, :50], labels, labels[:50])
    assert [set(row.figures) for row in rows] == [FIGURES] * 4
    for row in rows:
        subsets = [list(subset) for subset in itertools.combinations(range(4), row.size)]
        votes = [vote.soft_vote(logits[subset]) for subset in subsets]
        on_test = [said[:50] for said in votes]
        accuracies = [vote.accuracy(said, labels[:50]) for said in on_test]
        assert row.subsets == len(subsets)
        assert row.figures["test_accuracy"] == pytest.approx(np.mean(accuracies))
        assert row.figures["subset_low"] == pytest.approx(np.quantile(accuracies, 0.025))
        assert row.figures["subset_high"] == pytest.approx(np.quantile(accuracies, 0.975))
        expected = np.mean([vote.accuracy(said, labels) for said in votes])
        assert row.figures["validation_accuracy"] == pytest.approx(expected)
        for name in ("cross_entropy", "macro_f1", "calibration_error"):
            expected = np.mean([getattr(vote, name)(said, labels[:50]) for said in on_test])
            assert row.figures[f"test_{name}"] == pytest.approx(expected)
        assert row.figures["validation_cross_entropy"] == pytest.approx(
            np.mean([vote.cross_entropy(said, labels) for said in votes])
        )


def test_many_subsets_are_sampled_with_each_member_as_often(monkeypatch: pytest.MonkeyPatch):
    logits, labels = made_up(12, 80, 3)
    first, again = (frontier(logits, logits, labels, labels) for _ in range(2))
    assert first == again
    assert [row.subsets for row in first] == [12, *[36] * 9, 12, 1]
    monkeypatch.setattr("tlm_search.committee.frontier.MAX_SUBSETS", 1_000)
    every = frontier(logits, logits, labels, labels)
    assert every[5].subsets == 924
    # Sampling moves the mean by much less than the subsets differ.
    assert first[5].figures["test_accuracy"] == pytest.approx(every[5].figures["test_accuracy"], abs=0.01)


def test_one_member_has_an_interval_that_counts_the_texts():
    logits, labels = made_up(1, 100, 3)
    [row] = frontier(logits, logits, labels, labels)
    assert row.figures["test_accuracy_low"] < row.figures["test_accuracy"] < row.figures["test_accuracy_high"]
    assert row.figures["subset_low"] == row.figures["subset_high"] == row.figures["test_accuracy"]


def test_members_that_differ_more_widen_the_interval():
    logits, labels = made_up(4, 400, 3)
    unequal = logits.copy()
    unequal[0, np.arange(400), labels] += 3
    unequal[1, np.arange(400), labels] -= 1.5

    def width(row):
        return row.figures["test_accuracy_high"] - row.figures["test_accuracy_low"]

    equal_rows, unequal_rows = (frontier(given, given, labels, labels) for given in (logits, unequal))
    assert all(width(wide) > width(narrow) for wide, narrow in zip(unequal_rows, equal_rows, strict=True))


@pytest.mark.parametrize(
    ("validation", "test", "labels"), [((2, 5, 3), (3, 5, 3), 5), ((2, 5, 3), (2, 5, 3), 4), ((0, 5, 3), (0, 5, 3), 5)]
)
def test_shapes_that_do_not_fit_are_refused(validation, test, labels):
    with pytest.raises(ValueError, match="logits"):
        frontier(np.zeros(validation), np.zeros(test), np.zeros(5, int), np.zeros(labels, int))


def test_a_trial_of_the_usual_size_takes_milliseconds():
    logits, labels = made_up(4, 500, 10)
    started = time.process_time()
    for _ in range(5):
        frontier(logits, logits, labels, labels)
    assert (time.process_time() - started) / 5 < 0.1  # 3 ms on an idle core


def test_an_interval_without_members_is_wilsons():
    right = np.array([1.0] * 90 + [0.0] * 10)
    # the formula of Brown, Cai and DasGupta for 90 of 100, except for the n - 1 of the sample variance
    assert accuracy_interval(right) == pytest.approx((0.8256, 0.9448), abs=1e-3)


def test_an_interval_at_the_ends_is_neither_empty_nor_outside():
    low, high = accuracy_interval(np.ones(50))
    assert 0.9 < low < 1
    assert high == 1
    low, high = accuracy_interval(np.zeros(50), Spread(0.0, 0.0, 3))
    assert low == 0
    assert 0 < high < 0.1


def test_members_that_are_right_on_the_same_texts_add_no_variance():
    right = np.tile(np.array([1.0, 0.0, 1.0, 1.0]), (3, 1))
    assert member_spread(right, scale=1 / 6) == Spread(0.0, 0.0, 2)


def test_two_members_that_happen_to_agree_say_little_about_others():
    right = np.tile(np.array([1.0, 0.0, 1.0, 1.0]), 100)
    agree = Spread(raw=0.0, noise=1e-4, freedom=1)
    differ = Spread(raw=9e-4, noise=1e-4, freedom=1)
    alone, close, far = ((lambda ends: ends[1] - ends[0])(accuracy_interval(right, s)) for s in (None, agree, differ))
    assert 1.2 * alone < close < far
    assert far < 0.5


def test_a_paired_difference_of_shares_redraws_rows():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 5, 300) / 4, random.integers(0, 2, 300).astype(float)
    mean, low, high = paired_interval(a, b)
    assert mean == pytest.approx((a - b).mean())
    drawn = (a - b)[random.integers(0, 300, (4000, 300))].mean(axis=1)
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))), abs=0.01)


def test_a_paired_difference_counts_only_the_texts_on_which_two_differ():
    a, b = np.ones(100), np.ones(100)
    b[:10] = 0
    mean, low, high = paired_interval(a, b)
    assert mean == pytest.approx(0.1)
    assert 0.03 < low < 0.06
    assert 0.14 < high < 0.18
    assert paired_interval(b, a)[0] == pytest.approx(-0.1)


@pytest.mark.parametrize("rows", [40, 100, 1000])
def test_texts_on_which_none_differ_do_not_prove_that_two_are_equal(rows):
    # If none of n is wrong, the true share is below 3 / n with 95% (the rule of three).
    assert paired_interval(np.ones(rows), np.ones(rows)) == pytest.approx((0, -3 / (rows + 2), 3 / (rows + 2)))


def test_a_committee_that_is_worse_by_more_than_the_margin_seldom_matches_on_few_texts():
    random = np.random.default_rng(0)
    matched = 0
    for _ in range(400):
        worse = random.random(40) < 0.021  # the share of texts on which only the reference is right; the margin is 0.02
        matched += paired_interval(~worse, np.ones(40))[1] >= -0.02
    assert matched <= 20  # it was 39% before rows were added
