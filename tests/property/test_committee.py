import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tlm_search.committee import vote
from tlm_search.committee.frontier import frontier
from tlm_search.committee.interval import accuracy_interval, paired_interval

SHAPES = npst.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=7)
LOGITS = SHAPES.flatmap(lambda shape: npst.arrays(np.float32, shape, elements=st.floats(-60, 60, width=32)))


def labels_for(logits, data):
    classes = st.integers(0, logits.shape[2] - 1)
    return data.draw(npst.arrays(np.int64, logits.shape[1], elements=classes))


@given(LOGITS)
def test_a_vote_is_a_distribution_and_knows_no_order_of_members(logits):
    said = vote.soft_vote(logits)
    assert np.allclose(said.sum(axis=-1), 1)
    assert (said >= 0).all()
    assert np.allclose(said, vote.soft_vote(logits[::-1]))


@given(LOGITS, st.floats(-100, 100, width=32))
def test_a_constant_added_to_all_logits_changes_nothing(logits, constant):
    assert np.allclose(vote.soft_vote(logits), vote.soft_vote(logits.astype(np.float64) + constant))


@given(LOGITS, st.data())
def test_the_vote_is_never_worse_than_its_members_on_average_in_cross_entropy(logits, data):
    labels = labels_for(logits, data)
    alone = np.mean([vote.cross_entropy(vote.softmax(member), labels) for member in logits])
    assert vote.cross_entropy(vote.soft_vote(logits), labels) <= alone + 1e-9


@given(LOGITS, st.data())
@settings(max_examples=60)
def test_every_number_of_a_frontier_is_in_order(logits, data):
    labels = labels_for(logits, data)
    rows = frontier(logits, logits, labels, labels)
    assert [row.size for row in rows] == list(range(1, len(logits) + 1))
    for row in rows:
        low, high = row.interval("test", "accuracy")
        assert 0 <= low <= row.figures["test_accuracy"] + 1e-12
        assert row.figures["test_accuracy"] - 1e-12 <= high <= 1
        assert row.figures["subset_low"] <= row.figures["subset_high"]
        assert row.mean("validation", "accuracy") == row.mean("test", "accuracy")
        assert row.interval("validation", "accuracy") == (low, high)
        assert 0 <= row.figures["test_macro_f1"] <= 1
        assert 0 <= row.figures["test_calibration_error"] <= 1
        assert np.isfinite(row.figures["test_cross_entropy"])


@given(LOGITS, st.data())
@settings(max_examples=60)
def test_the_last_size_is_the_vote_of_all(logits, data):
    labels = labels_for(logits, data)
    last, said = frontier(logits, logits, labels, labels)[-1], vote.soft_vote(logits)
    # If two classes are equal up to rounding, either may be the vote.
    top = np.sort(said, axis=-1)
    near = (top[:, -1] - top[:, -2] < 1e-12).mean()
    assert abs(last.figures["test_accuracy"] - vote.accuracy(said, labels)) <= near + 1e-12
    assert np.isclose(last.figures["test_cross_entropy"], vote.cross_entropy(said, labels))


@given(npst.arrays(np.int64, st.integers(1, 50), elements=st.integers(0, 32)))
def test_an_interval_holds_its_mean(votes):
    share = votes / 32  # the number of committees
    low, high = accuracy_interval(share)
    assert 0 <= low <= share.mean() + 1e-9
    assert share.mean() - 1e-9 <= high <= 1


@given(LOGITS, st.data())
@settings(max_examples=40)
def test_a_difference_lies_in_its_interval_and_turns_with_its_sides(logits, data):
    labels = labels_for(logits, data)
    a, b = (member.argmax(axis=-1) == labels for member in logits[:2])
    mean, low, high = paired_interval(a, b)
    assert -1 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1
    assert paired_interval(b, a)[0] == -mean
