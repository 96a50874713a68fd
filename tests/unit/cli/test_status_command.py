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
