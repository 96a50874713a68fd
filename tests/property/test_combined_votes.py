import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tlm_search.committee.combine import fit_weights, greedy, majority, mean_logits, weighted_vote
from tlm_search.committee.vote import accuracy, cross_entropy, soft_vote, softmax

SHAPES = npst.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6)
LOGITS = SHAPES.flatmap(lambda shape: npst.arrays(np.float32, shape, elements=st.floats(-30, 30, width=32)))
VOTES = (soft_vote, mean_logits, majority)


def labels_for(logits, data):
    return data.draw(npst.arrays(np.int64, logits.shape[1], elements=st.integers(0, logits.shape[2] - 1)))


def greedy_vote(logits, labels):
    return weighted_vote(logits, greedy(logits, labels))


def fitted_vote(logits, labels):
    return weighted_vote(logits, fit_weights(logits, labels))


@given(LOGITS, st.integers(2, 5), st.data())
@settings(max_examples=50)
def test_a_committee_of_identical_members_is_that_member(logits, copies, data):
    alone = logits[:1]
    labels = labels_for(alone, data)
    same = np.repeat(alone, copies, axis=0)
    for vote in VOTES:
        assert np.allclose(vote(same).argmax(axis=-1), vote(alone).argmax(axis=-1)) or _tied(alone[0])
    for vote in (greedy_vote, fitted_vote):
        assert np.allclose(vote(same, labels), softmax(alone[0]))
    assert np.allclose(soft_vote(same), softmax(alone[0]))
    assert np.allclose(mean_logits(same), softmax(alone[0]))


@given(LOGITS, st.randoms(use_true_random=False), st.data())
@settings(max_examples=50)
def test_the_order_of_members_does_not_matter(logits, random, data):
    labels = labels_for(logits, data)
    order = list(range(len(logits)))
    random.shuffle(order)
    for vote in VOTES:
        assert np.allclose(vote(logits), vote(logits[order]))
    for vote in (greedy_vote, fitted_vote):
        assert np.allclose(vote(logits, labels), vote(logits[order], labels))


@given(LOGITS, st.data())
@settings(max_examples=80)
def test_greedy_is_never_worse_on_validation_than_its_best_single_member(logits, data):
    labels = labels_for(logits, data)
    weights = greedy(logits, labels)
    best = max(accuracy(softmax(member), labels) for member in logits)
    assert weights.sum() == pytest.approx(1)
    vote = weighted_vote(logits, weights)
    assert accuracy(vote, labels) >= best or _tied(np.log(vote))


@given(LOGITS, st.data())
@settings(max_examples=50)
def test_fitted_weights_have_no_more_cross_entropy_on_validation_than_equal_ones(logits, data):
    labels = labels_for(logits, data)
    weights = fit_weights(logits, labels)
    assert np.isclose(weights.sum(), 1)
    assert (weights >= 0).all()
    assert cross_entropy(weighted_vote(logits, weights), labels) <= cross_entropy(soft_vote(logits), labels) + 1e-9


@given(LOGITS)
@settings(max_examples=50)
def test_a_majority_goes_before_all_probabilities(logits):
    counts = (logits.argmax(axis=-1)[..., None] == np.arange(logits.shape[2])).sum(axis=0)
    named = majority(logits).argmax(axis=-1)
    assert (counts[np.arange(len(named)), named] == counts.max(axis=-1)).all()
    assert np.allclose(majority(logits).sum(axis=-1), 1)


def _tied(logits):
    highest = np.sort(softmax(logits), axis=-1)[:, -2:]
    return bool(np.isclose(highest[:, 0], highest[:, 1]).any())
