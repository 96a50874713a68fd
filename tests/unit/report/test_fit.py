import builders
import numpy as np
import pytest

from tlm_search.committee.select import Votes
from tlm_search.report import fit
from tlm_search.report.evidence import Evidence

ROWS = 200


def test_the_parameters_of_a_curve_are_found_again():
    sizes = np.arange(1, 9)
    rate = fit.RATES[10]
    curves = np.stack([0.8 - 0.2 * sizes**-rate, 0.6 - 0.05 * sizes**-rate])
    asymptote, gap, found = fit.fit(curves)
    assert asymptote == pytest.approx([0.8, 0.6])
    assert gap == pytest.approx([0.2, 0.05])
    assert found == pytest.approx([rate, rate])


def test_nothing_is_promised_above_all_right():
    asymptote, _, _ = fit.fit(np.array([[0.90, 0.95, 0.99, 1.0]]))
    assert asymptote[0] <= 1


def test_the_table_has_an_interval_only_from_logits(monkeypatch):
    record = builders.study([builders.trial(0, committee_size=6), builders.trial(1, heads=8, committee_size=2)])
    [row] = fit.saturation_table(record, record.trials, Evidence(record, None)).to_dict("records")
    assert row["trial"] == 0  # two members are too few for three parameters
    assert np.isnan(row["low"])
    skill = builders.skill_of(record.trials[0].settings)
    splits = [builders.logits_of(skill, members=6, rows=rows) for rows in (ROWS, ROWS + 1)]
    votes = Votes(*splits, builders.labels_of(ROWS), builders.labels_of(ROWS + 1))
    monkeypatch.setattr(Evidence, "votes_of", lambda self, trial: votes)
    [again] = fit.saturation_table(record, record.trials, Evidence(record, None)).to_dict("records")
    assert again["asymptote"] == row["asymptote"]
    assert again["low"] < again["asymptote"] < again["high"]
    assert again["high"] - again["low"] < 0.5
    size = again["members"]
    promised = again["asymptote"] - again["gap"] * (2 * size) ** -again["rate"]
    reached = again["asymptote"] - again["gap"] * size ** -again["rate"]
    assert again["next_gain"] == pytest.approx(promised - reached)
