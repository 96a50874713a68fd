import builders
import numpy as np
import pandas as pd
import pytest

from tlm_search.committee.candidates import candidates
from tlm_search.committee.logits import MemberLogits
from tlm_search.report.evidence import Evidence
from tlm_search.report.tables import fit
from tlm_search.report.tables.insight import size_advice

ROWS = 200


def test_the_parameters_of_a_curve_are_found_again():
    sizes = np.arange(1, 9)
    rate = fit.RATES[10]
    curves = np.stack([0.8 - 0.2 * sizes**-rate, 0.6 - 0.05 * sizes**-rate])
    gap, found = fit.fit(curves)
    assert gap == pytest.approx([0.2, 0.05])
    assert found == pytest.approx([rate, rate])
    assert fit.next_gain(curves) == pytest.approx([g * (8.0**-rate - 16.0**-rate) for g in (0.2, 0.05)])


def test_nothing_is_promised_above_all_right():
    steep = np.array([[0.70, 0.80, 0.90, 0.995]])
    gap, rate = fit.fit(steep)
    assert gap * (4**-rate - 8**-rate) > 0.005
    assert fit.next_gain(steep) == pytest.approx([0.005])


def test_the_table_is_of_validation_and_has_an_interval_only_from_logits(monkeypatch):
    record = builders.study([builders.trial(0, committee_size=6), builders.trial(1, heads=8, committee_size=2)])
    [row] = fit.saturation_table(record, record.trials, Evidence(record, None)).to_dict("records")
    assert row["trial"] == 0  # two members are too few for three parameters
    assert row["validation_metric"] == record.trials[0].frontier[-1].figures["validation_accuracy"]
    assert np.isnan(row["next_low"])
    skill = builders.skill_of(record.trials[0].settings)
    splits = [builders.logits_of(skill, members=6, rows=rows) for rows in (ROWS, ROWS + 1)]
    votes = MemberLogits(*splits, builders.labels_of(ROWS), builders.labels_of(ROWS + 1))
    monkeypatch.setattr(Evidence, "logits_of", lambda self, trial: votes)
    [again] = fit.saturation_table(record, record.trials, Evidence(record, None)).to_dict("records")
    assert again["next_gain"] == row["next_gain"]
    assert again["next_low"] < again["next_gain"] < again["next_high"]
    assert again["next_high"] - again["next_low"] < 0.2


@pytest.mark.parametrize(("low", "lines"), [(0.0049, 0), (0.0051, 1), (float("nan"), 0)])
def test_more_members_are_advised_only_where_they_are_surely_worth_it(low, lines):
    row = {"trial": 3, "configuration": "#3: depth 1", "members": 4, "next_gain": 0.02, "next_low": low}
    table = pd.DataFrame([{**row, "next_high": 0.03}])
    smaller, best = candidates(builders.trial(3, committee_size=4))[2:]
    assert size_advice(table, smaller) == size_advice(table, None) == []
    advice = size_advice(table, best)
    assert len(advice) == lines
    for line in advice:
        assert line.startswith("Twice the 4 members of #3: depth 1 promise +2.0 points (+0.5 to +3.0;")
