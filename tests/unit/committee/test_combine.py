"""MemberLogits that are worked out by hand."""

import numpy as np
import pytest

from tlm_search.committee.combine import fit_weights, greedy, majority, mean_logits, weighted_vote
from tlm_search.committee.vote import accuracy, soft_vote


def logits_of(*probabilities):
    return np.log(np.array(probabilities, dtype=float))


def test_the_votes_can_disagree():
    # Two members slightly prefer class 1, one is very sure of class 0.
    logits = logits_of([[0.4, 0.6]], [[0.4, 0.6]], [[0.999, 0.001]])
    assert soft_vote(logits).argmax() == 0  # (0.4 + 0.4 + 0.999) / 3 = 0.6
    assert majority(logits).argmax() == 1
    product = np.array([0.4 * 0.4 * 0.999, 0.6 * 0.6 * 0.001]) ** (1 / 3)
    assert mean_logits(logits)[0] == pytest.approx(product / product.sum())


def test_a_tie_of_the_majority_goes_to_the_soft_vote():
    assert majority(logits_of([[0.9, 0.1]], [[0.4, 0.6]])).argmax() == 0
    assert majority(logits_of([[0.6, 0.4]], [[0.1, 0.9]])).argmax() == 1


def test_weights_go_to_the_member_that_is_right():
    right, wrong = [[0.9, 0.1], [0.1, 0.9]], [[0.1, 0.9], [0.9, 0.1]]
    weights = fit_weights(logits_of(right, wrong), np.array([0, 1]))
    assert weights == pytest.approx([1, 0], abs=1e-6)


def test_weights_that_are_known():
    # The probabilities of the label are (a, b) on one row and (b, a) on the other, so by symmetry both weights are
    # equal.
    weights = fit_weights(logits_of([[0.8, 0.2], [0.7, 0.3]], [[0.3, 0.7], [0.2, 0.8]]), np.array([0, 1]))
    assert weights == pytest.approx([0.5, 0.5])


def test_greedy_takes_what_complements_and_stops_at_the_best_step():
    # Member 0 is right on rows 0 and 1, member 1 on rows 2 and 3, member 2 on none; 0 and 1 together are right on all.
    sure, unsure, off = [0.9, 0.1], [0.45, 0.55], [0.05, 0.95]
    logits = logits_of([sure, sure, unsure, unsure], [unsure, unsure, sure, sure], [off] * 4)
    labels = np.zeros(4, dtype=int)
    weights = greedy(logits, labels)
    assert weights.tolist() == [0.5, 0.5, 0]
    assert accuracy(weighted_vote(logits, weights), labels) == 1


def test_greedy_may_take_a_member_twice():
    # On row 1, member 1 outvotes the others unless member 0 has two votes.
    logits = logits_of([[0.9, 0.1], [0.7, 0.3], [0.45, 0.55]], [[0.3, 0.7], [0.2, 0.8], [0.83, 0.17]])
    labels = np.zeros(3, dtype=int)
    weights = greedy(logits, labels)
    assert weights[0] > weights[1] > 0
    assert accuracy(weighted_vote(logits, weights), labels) == 1
