"""Metrics of votes against scikit-learn, and the contributions of their rows against a row more."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from tlm_search.committee.frontier import frontier
from tlm_search.committee.interval import paired_interval
from tlm_search.committee.metrics import ACCURACY, Metric, Named, metric_of, texts_that_count
from tlm_search.errors import DataError
from tlm_search.space.task import METRICS_OF_ALL_LABELS, METRICS_OF_ONE_LABEL, TaskSection

NAMES = METRICS_OF_ALL_LABELS + METRICS_OF_ONE_LABEL
ROWS, CLASSES, POSITIVE = 60, 4, 1


def by_scikit_learn(name, classes, scores, labels):
    of_label = labels == POSITIVE, classes == POSITIVE
    return {
        "accuracy": lambda: sklearn.accuracy_score(labels, classes),
        "balanced_accuracy": lambda: sklearn.balanced_accuracy_score(labels, classes),
        "macro_f1": lambda: sklearn.f1_score(labels, classes, average="macro"),
        "precision": lambda: sklearn.precision_score(*of_label),
        "recall": lambda: sklearn.recall_score(*of_label),
        "f1": lambda: sklearn.f1_score(*of_label),
        "average_precision": lambda: sklearn.average_precision_score(labels == POSITIVE, scores),
    }[name]()


@pytest.fixture
def votes():
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, ROWS)
    classes = np.where(random.random((5, ROWS)) < 0.6, labels, random.integers(0, CLASSES, (5, ROWS)))
    return classes, np.round(random.random((5, ROWS)) + (labels == POSITIVE) / 2, 1), labels  # many scores are equal


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_is_that_of_scikit_learn_and_the_mean_of_its_rows_parts(votes, name):
    classes, scores, labels = votes
    named, metric = Named(classes, scores, labels, CLASSES), Metric(name, POSITIVE)
    expected = [by_scikit_learn(name, c, s, labels) for c, s in zip(classes, scores, strict=True)]
    assert named.values(metric) == pytest.approx(expected)
    assert named.contributions(metric).mean(axis=1) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_part_of_a_row_is_what_the_metric_gains_where_it_counts_for_more(votes, name):
    (classes, *_), (scores, *_), labels = votes
    contributions = Named(classes[None], scores[None], labels, CLASSES).contributions(Metric(name, POSITIVE))[0]
    whole, times = by_scikit_learn(name, classes, scores, labels), 200
    for row in range(0, ROWS, 7):
        more = [np.append(np.tile(values, times), values[row]) for values in (classes, scores, labels)]
        gain = (by_scikit_learn(name, *more) - whole) * (ROWS * times + 1)
        assert gain == pytest.approx(contributions[row] - whole, abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_labels_that_nobody_names_or_has_give_numbers(name):
    labels = np.array([0, 0, 2, 2])
    named = Named(np.zeros((1, 4), int), np.zeros((1, 4)), labels, CLASSES)
    assert np.isfinite(named.contributions(Metric(name, POSITIVE))).all()
    expected = {"accuracy": 0.5, "balanced_accuracy": 0.5, "macro_f1": 1 / 3}.get(name, 0)
    assert named.values(Metric(name, 3)) == pytest.approx(expected)


def test_rare_labels_count_for_few_texts():
    labels = np.repeat([0, 1, 2], [90, 8, 2])
    assert texts_that_count(ACCURACY, labels) == 100
    assert texts_that_count(Metric("f1", 2), labels) == 2
    assert texts_that_count(Metric("macro_f1"), np.repeat([0, 1], 50)) == 100
    assert texts_that_count(Metric("macro_f1"), labels) == pytest.approx(9 / (1 / 90 + 1 / 8 + 1 / 2))


@pytest.mark.parametrize("name", NAMES)
def test_a_frontier_is_judged_by_its_metric_and_says_so(name):
    random = np.random.default_rng(1)
    labels = random.integers(0, CLASSES, 200)
    logits = random.normal(size=(3, 200, CLASSES))
    logits[:, np.arange(200), labels] += 1.5
    metric = Metric(name, POSITIVE)
    single, _, whole = frontier(logits, logits, labels, labels, metric=metric)
    votes = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = [by_scikit_learn(name, v.argmax(axis=-1), v[:, POSITIVE], labels) for v in votes]
    assert single.figures[f"test_{name}"] == pytest.approx(np.mean(expected))
    assert single.figures["subset_high"] == pytest.approx(np.quantile(expected, 0.975))
    low, high = whole.interval("test", name)
    assert 0 < low < whole.figures[f"test_{name}"] < high < 1
    assert whole.metric == name


def test_a_perfect_score_of_few_texts_has_the_interval_of_few():
    labels = np.repeat([0, 1], [990, 10])
    logits = np.log(np.eye(2)[labels] * 0.8 + 0.1)[None]
    [row] = frontier(logits, logits, labels, labels, metric=Metric("f1", 1))
    assert (row.figures["test_f1"], row.figures["test_f1_high"]) == (1, pytest.approx(1))
    assert row.figures["test_f1_low"] < 0.75  # the lower end of Wilson's interval of ten of ten
    assert row.figures["test_accuracy_low"] > 0.99


def test_differences_of_parts_that_all_differ_are_redrawn_as_fast_and_as_wide():
    random = np.random.default_rng(2)
    a, b = random.normal(size=(2, 4000))
    mean, low, high = paired_interval(a, b)
    assert mean == pytest.approx((a - b).mean())
    assert high - low == pytest.approx(2 * 1.96 * (a - b).std() / 4000**0.5, rel=0.06)


def test_the_label_is_one_of_the_data():
    task = TaskSection.model_validate({"metric": "f1", "positive": "ham"})
    assert metric_of(task, ("spam", "ham")) == Metric("f1", 1)
    assert metric_of(TaskSection(), ("spam", "ham")) == ACCURACY
    with pytest.raises(DataError, match=r"task.positive: unknown label 'hamm'; did you mean ham\?; allowed: spam, ham"):
        metric_of(TaskSection.model_validate({"positive": "hamm"}), ("spam", "ham"))
