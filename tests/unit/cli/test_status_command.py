"""What ``status`` says of a study; made-up records."""

from dataclasses import replace

import builders

from tlm_search.cli.status import lines_of, summarise
from tlm_search.search.activity import Activity


def test_the_best_keeps_to_the_constraints_and_none_that_does_is_said():
    trials = [builders.trial(0, heads=8, committee_size=8), builders.trial(1, heads=2, committee_size=2)]
    loose = summarise(
        builders.study(trials, constraints=[f"parameters <= {trials[0].metrics['parameters'] / 2}"]), lambda _: None
    )
    assert loose["best"]["committee_size"] == 4
    strict = summarise(builders.study(trials, constraints=["parameters <= 1"]), lambda _: None)
    assert strict["best"] is None
    assert lines_of(strict)[-1] == "best       none: no committee meets the constraints of the study"
    assert not any(line.startswith("best") for line in lines_of(summarise(builders.study([]), lambda _: None)))


def test_a_committee_of_one_has_one_member():
    for size, words in ((1, "trial 0, 1 member:"), (2, "trial 0, 2 members:")):
        summary = summarise(builders.study([builders.trial(0, committee_size=1)]), lambda _: None)
        summary["best"]["committee_size"] = size
        assert words in lines_of(summary)[-1]


def test_the_baseline_is_a_key_and_a_line():
    linear = builders.baseline()
    summary = summarise(builders.study([builders.trial(0)], linear=linear), lambda _: None)
    row = linear.frontier[0]
    assert summary["baseline"] == {
        "validation_accuracy": row.figures["validation_accuracy"],
        "test_accuracy": row.figures["test_accuracy"],
        "test_accuracy_interval": [row.figures["test_accuracy_low"], row.figures["test_accuracy_high"]],
        "metric": "accuracy",
        "validation_metric": row.figures["validation_accuracy"],
        "test_metric": row.figures["test_accuracy"],
        "test_metric_interval": [row.figures["test_accuracy_low"], row.figures["test_accuracy_high"]],
        "features": "words",
        "c": 10.0,
        "seconds": 0.4,
    }
    [line] = [line for line in lines_of(summary) if line.startswith("baseline")]
    assert f"{row.figures['test_accuracy']:.4f}" in line
    assert summary["best"]["baseline_accuracy"] == row.figures["test_accuracy"]
    old = summarise(builders.study([builders.trial(0)]), lambda _: None)
    assert old["baseline"] is None
    assert not any(line.startswith("baseline") for line in lines_of(old))


def test_the_rows_of_the_task_are_a_key_and_a_line():
    record = builders.study([builders.trial(0)])
    rows = {"train": 70, "validation": 14, "test": 15}
    account = {"available": 100, **rows, "dropped": {"repeated": 1}}
    counted = replace(record, data={**record.data, "rows": rows, "account": account})
    summary = summarise(counted, lambda _: None)
    assert summary["rows"] == account
    assert "rows       70 train, 14 validation, 15 test of 100 rows; not used: 1 repeated" in lines_of(summary)
    old = summarise(replace(record, data={**record.data, "rows": rows}), lambda _: None)
    assert old["rows"] == {"available": None, **rows, "dropped": {}}
    assert "rows       70 train, 14 validation, 15 test" in lines_of(old)
    assert summarise(replace(record, data={}), lambda _: None)["rows"] is None


def test_what_is_trained_now_is_a_key_and_a_line():
    told = Activity("reference", "x", "pre-training", (1, 1), 812, 2813, 12_300.0)
    summary = summarise(builders.study([]), lambda _: None, told=[told])
    [document] = summary["now"]
    assert document["update"] == 812
    assert "now        reference, pre-training, member 1, update 812 of 2,813" in lines_of(summary)
    assert summarise(builders.study([]), lambda _: None)["now"] == []
