import dataclasses
import json
import math

import numpy as np
import pytest

from tlm_search.committee.frontier import frontier
from tlm_search.committee.metrics import Metric
from tlm_search.committee.scores import CommitteeScores

ACCURACIES = ("accuracy", "balanced_accuracy", "macro_f1", "cross_entropy", "calibration_error")
OF_ONE_LABEL = ("precision", "recall", "f1", "average_precision")


def made_up(metric):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(2, 60, 3)), random.integers(0, 3, 60)
    logits[:, np.arange(60), labels] += 1
    return frontier(logits, logits, labels, labels, metric=metric)[0]


def stored_keys(*, with_interval, means, more=()):
    """The keys of a stored row, as every version writes them."""
    keys = {"size", "subsets", "subset_low", "subset_high", *more}
    for split in ("validation", "test"):
        keys |= {f"{split}_{name}" for name in means}
        keys |= {f"{split}_{end}" for end in ("low", "high")}  # of the accuracy
        keys |= {f"{split}_{name}_{end}" for name in with_interval for end in ("low", "high")}
    return keys


KEYS = {
    Metric(): stored_keys(with_interval=(), means=ACCURACIES),
    Metric("macro_f1"): stored_keys(with_interval=["macro_f1"], means=ACCURACIES, more=["metric", "bias"]),
    Metric("f1", 1): stored_keys(with_interval=OF_ONE_LABEL, means=ACCURACIES + OF_ONE_LABEL, more=["metric", "bias"]),
}


@pytest.mark.parametrize(("metric", "keys"), KEYS.items(), ids=lambda of: getattr(of, "name", ""))
def test_the_keys_of_stored_rows_never_change(metric, keys):
    scores = dataclasses.replace(made_up(metric), bias=(0.0, 0.5, -0.5) if "bias" in keys else ())
    stored = json.loads(json.dumps(scores.stored()))
    assert set(stored) == keys
    assert (stored["test_low"], stored["test_high"]) == pytest.approx(scores.interval("test", "accuracy"), abs=1e-6)
    again = CommitteeScores.from_stored(stored)
    assert again.figures.keys() == scores.figures.keys()
    assert again.figures == pytest.approx(dict(scores.figures), abs=1e-6)
    assert (again.size, again.subsets, again.metric, again.bias) == (1, 2, metric.name, scores.bias)
    assert again.stored() == stored


def test_stored_numbers_are_short_but_for_metrics_on_test():
    third = 1 / 3
    scores = CommitteeScores(1, 1, {"test_accuracy": third, "validation_accuracy": third, "test_cross_entropy": third})
    stored = scores.stored()
    assert (stored["test_accuracy"], stored["validation_accuracy"]) == (third, 0.333333)
    assert stored["test_cross_entropy"] == 0.333333


def test_a_number_that_is_not_finite_is_stored_as_none_and_read_as_missing():
    stored = CommitteeScores(1, 1, {"training_flops": math.nan}).stored()
    assert stored["training_flops"] is None
    assert not CommitteeScores.from_stored(stored).figures


def test_every_name_of_an_interval_has_its_metric():
    scores = made_up(Metric("macro_f1"))
    assert scores.interval("test", "accuracy") == (
        scores.figures["test_accuracy_low"],
        scores.figures["test_accuracy_high"],
    )
    assert not {"test_low", "test_high", "validation_low", "validation_high"} & scores.figures.keys()
    assert not scores.has_interval("test", "cross_entropy")


def test_a_trial_keeps_all_means_and_two_intervals_on_test():
    metrics = made_up(Metric("f1", 1)).metrics()
    means = {f"{split}_{name}" for split in ("validation", "test") for name in (*ACCURACIES, *OF_ONE_LABEL)}
    assert metrics.keys() == means | {f"test_{name}_{end}" for name in ("accuracy", "f1") for end in ("low", "high")}
