import numpy as np
import pytest

from tlm_search.committee.vote import (
    CALIBRATION_BINS,
    accuracy,
    calibration_error,
    cross_entropy,
    macro_f1,
    soft_vote,
    softmax,
)


def test_the_vote_is_the_mean_of_the_members_probabilities():
    logits = np.log([[[0.9, 0.1]], [[0.2, 0.8]], [[0.3, 0.7]]])
    assert soft_vote(logits) == pytest.approx(np.array([[1.4 / 3, 1.6 / 3]]))


def test_huge_logits_overflow_nowhere():
    assert softmax(np.array([1e4, -1e4])) == pytest.approx(np.array([1.0, 0.0]))
    assert np.isfinite(cross_entropy(soft_vote(np.array([[[0.0, 1e4]]])), np.array([0])))


@pytest.mark.parametrize("shape", [(3, 2), (0, 3, 2)])
def test_a_vote_needs_members_rows_and_classes(shape):
    with pytest.raises(ValueError, match="members, rows, classes"):
        soft_vote(np.zeros(shape))


def test_scores_of_four_texts():
    probabilities = np.array([[0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.3, 0.7, 0.0]])
    labels = np.array([0, 1, 1, 1])
    assert accuracy(probabilities, labels) == 0.75
    assert cross_entropy(probabilities, labels) == pytest.approx(-np.log([0.8, 0.4, 0.9, 0.7]).mean())
    # class 0: 1 hit, 2 predicted, 1 true; class 1: 2 hits, 2 predicted, 3 true; class 2 is neither predicted nor true
    assert macro_f1(probabilities, labels) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert calibration_error(probabilities, labels) == pytest.approx((0.2 + 0.6 + 0.1 + 0.3) / 4)


def test_a_bin_holds_its_upper_end_and_averages_its_texts():
    sure = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert calibration_error(sure, np.array([0, 1])) == 0.5
    edge = 12 / CALIBRATION_BINS
    same_bin = np.array([[edge, 1 - edge], [edge - 0.01, 1.01 - edge]])
    assert calibration_error(same_bin, np.array([0, 0])) == pytest.approx(1 - edge + 0.005)
