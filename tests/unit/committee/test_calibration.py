import numpy as np
import pytest

from tlm_search.committee.calibration import Calibration, fit_bias, fit_calibration
from tlm_search.committee.frontier import frontier, right_share
from tlm_search.committee.metrics import Metric, Named
from tlm_search.committee.vote import calibration_error, cross_entropy, log_softmax, soft_vote

MACRO, RARE = Metric("macro_f1"), Metric("f1", 1)
SHARES = (0.7, 0.25, 0.05)


def unsure_of_rare(members, rows, *, seed=0, shares=SHARES):
    """Logits (members, rows, classes) of members that trust the shares of the labels too much, and the labels."""
    random = np.random.default_rng(seed)
    labels = random.choice(len(shares), size=rows, p=shares)
    logits = random.normal(size=(rows, len(shares))) + 0.5 * random.normal(size=(members, rows, len(shares)))
    logits[:, np.arange(rows), labels] += 2
    return logits + 2 * np.log(shares), labels


def macro_f1(named, labels):
    return Named(named[None], None, labels, len(SHARES)).values(MACRO)[0]


def test_the_temperature_undoes_what_sharpened_the_answers():
    logits, labels = unsure_of_rare(1, 20_000)
    fitted = fit_calibration(soft_vote(logits), labels)
    sharper = fit_calibration(soft_vote(3 * logits), labels)
    assert sharper.temperature == pytest.approx(3 * fitted.temperature, rel=1e-3)
    before, after = soft_vote(3 * logits), sharper.of(soft_vote(3 * logits))
    assert cross_entropy(after, labels) < cross_entropy(before, labels) - 0.1
    assert calibration_error(after, labels) < calibration_error(before, labels) / 3
    assert (after.argmax(-1) == before.argmax(-1)).all()
    np.testing.assert_allclose(log_softmax(3 * logits[0] / sharper.temperature), np.log(after), atol=1e-9)


def test_a_committee_that_is_always_right_on_few_rows_is_not_made_certain():
    logits = np.full((1, 40, 2), -3.0)
    labels = np.arange(40) % 2
    logits[0, np.arange(40), labels] = 3
    fitted = fit_calibration(soft_vote(logits), labels)
    # One row in 41 counts equally for both labels.
    assert fitted.of(soft_vote(logits)).max() == pytest.approx(1 - 0.5 / 41, abs=1e-4)


@pytest.mark.parametrize("metric", [MACRO, RARE, Metric("balanced_accuracy")])
def test_a_bias_helps_rows_that_it_was_not_fitted_to(metric):
    validation, labels = unsure_of_rare(2, 600)
    test, test_labels = unsure_of_rare(2, 5_000, seed=1)
    bias = fit_bias(soft_vote(validation), labels, metric)
    logs = np.log(soft_vote(test))
    plain, biased = (
        Named(one.argmax(-1)[None], None, test_labels, 3).values(metric)[0] for one in (logs, logs + bias.of_labels)
    )
    assert biased > plain + 0.05


def test_rows_of_validation_are_judged_by_what_was_fitted_without_them():
    """A metric on the rows of the fit is too high. Over many studies, held-out rows of validation agree with test."""
    said = {"validation": [], "fitted": [], "test": []}
    for seed in range(30):
        validation, labels = unsure_of_rare(1, 200, seed=seed)
        test, test_labels = unsure_of_rare(1, 2_000, seed=1_000 + seed)
        bias = fit_bias(soft_vote(validation), labels, MACRO)
        logs = np.log(soft_vote(validation))
        said["validation"].append(macro_f1((logs + bias.on("validation")).argmax(-1), labels))
        said["fitted"].append(macro_f1((logs + bias.of_labels).argmax(-1), labels))
        said["test"].append(macro_f1((np.log(soft_vote(test)) + bias.on("test")).argmax(-1), test_labels))
    validation, fitted, test = (np.mean(values) for values in said.values())
    assert abs(validation - test) < abs(fitted - test)
    assert validation == pytest.approx(test, abs=0.02)


@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "average_precision"])
def test_a_metric_without_use_for_a_bias_has_none(name):
    logits, labels = unsure_of_rare(1, 300)
    assert fit_bias(soft_vote(logits), labels, Metric(name, 1)) is None


def test_there_is_no_bias_where_it_does_not_help():
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3  # equal shares: no label is rare
    logits = random.normal(size=(1, 300, 3))
    logits[0, np.arange(300), labels] += 2
    assert fit_bias(soft_vote(logits), labels, MACRO) is None
    right = np.full((1, 300, 3), -4.0)
    right[0, np.arange(300), labels] = 4
    assert fit_bias(soft_vote(right), labels, RARE) is None
    assert fit_bias(soft_vote(logits[:, :3]), labels[:3], MACRO) is None


def test_the_frontier_names_labels_with_the_bias_of_its_first_members():
    validation, labels = unsure_of_rare(3, 400)
    test, test_labels = unsure_of_rare(3, 500, seed=1)
    rows = frontier(validation, test, labels, test_labels, metric=MACRO)
    for row in rows:
        size = row.size
        bias = fit_bias(soft_vote(validation[:size]), labels, MACRO)
        assert list(row.bias) == bias.of_labels.tolist()
        for split, logits, true in (("validation", validation, labels), ("test", test, test_labels)):
            shares = right_share(logits, true, size=size, metric=MACRO, bias=bias.on(split))
            assert row.mean(split, "macro_f1") == pytest.approx(shares.mean(), abs=1e-12)
    whole = Calibration(1.7, rows[-1].bias).of(soft_vote(test)).argmax(-1)
    assert rows[-1].figures["test_macro_f1"] == macro_f1(whole, test_labels)
    assert rows[-1].figures["test_accuracy"] == (whole == test_labels).mean()
    # The calibration error is computed on the vote before calibration.
    assert rows[-1].figures["test_calibration_error"] == pytest.approx(calibration_error(soft_vote(test), test_labels))
    assert rows[-1].figures["test_cross_entropy"] == pytest.approx(cross_entropy(soft_vote(test), test_labels))


def test_a_frontier_of_accuracies_has_no_bias():
    logits, labels = unsure_of_rare(2, 300)
    assert not any(row.bias for row in frontier(logits, logits, labels, labels))
