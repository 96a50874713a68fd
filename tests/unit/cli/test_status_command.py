"""What ``status`` says of a study; made-up records."""

import builders

from tlm_search.cli.status import lines_of, summarise


def test_the_best_keeps_to_the_constraints_and_none_that_does_is_said():
    trials = [builders.trial(0, heads=8, committee_size=8), builders.trial(1, heads=2, committee_size=2)]
    loose = summarise(
        builders.study(trials, constraints=[f"parameters <= {trials[0].metrics['parameters'] / 2}"]), lambda _: None
    )
    assert loose["best"]["committee_size"] == 4
    strict = summarise(builders.study(trials, constraints=["parameters <= 1"]), lambda _: None)
    assert strict["best"] is None
    assert lines_of(strict)[-1] == "best       none: no committee keeps to the constraints of the study"
    assert not any(line.startswith("best") for line in lines_of(summarise(builders.study([]), lambda _: None)))


def test_the_baseline_is_a_key_and_a_line():
    linear = builders.baseline()
    summary = summarise(builders.study([builders.trial(0)], linear=linear), lambda _: None)
    row = linear.frontier[0]
    assert summary["baseline"] == {
        "validation_accuracy": row["validation_accuracy"],
        "test_accuracy": row["test_accuracy"],
        "test_accuracy_interval": [row["test_low"], row["test_high"]],
        "features": "words",
        "c": 10.0,
        "seconds": 0.4,
    }
    [line] = [line for line in lines_of(summary) if line.startswith("baseline")]
    assert f"{row['test_accuracy']:.4f}" in line
    assert summary["best"]["baseline_accuracy"] == row["test_accuracy"]
    old = summarise(builders.study([builders.trial(0)]), lambda _: None)
    assert old["baseline"] is None
    assert not any(line.startswith("baseline") for line in lines_of(old))
