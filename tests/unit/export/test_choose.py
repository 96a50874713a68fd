"""Which committee is exported if the user names none."""

import builders
import pytest

from tlm_search.errors import ExportError
from tlm_search.export.choose import choose
from tlm_search.report.evidence import Evidence

TRIALS = (builders.trial(0, heads=8, committee_size=8), builders.trial(1, heads=2, committee_size=2))


def chosen(constraints, **how):
    record = builders.study(TRIALS, constraints=constraints)
    return choose(record, Evidence(record, None), **how)


def test_the_best_keeps_to_the_constraints():
    assert chosen([]).trial.number == 0
    bound = TRIALS[0].metrics["parameters"] / 8 - 1
    assert chosen([f"parameters <= {bound}"]).trial.number == 1


def test_where_nothing_is_allowed_the_constraints_are_named_and_a_trial_can_be_asked_for():
    with pytest.raises(ExportError, match=r"meets its constraints \(parameters <= 1\.0\)") as error:
        chosen(["parameters <= 1"])
    assert "--trial N" in error.value.hint
    assert chosen(["parameters <= 1"], number=0).size == 8
