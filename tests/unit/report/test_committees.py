from dataclasses import replace

import builders
import numpy as np
import pytest

from tlm_search.committee.candidates import candidates
from tlm_search.committee.logits import MemberLogits
from tlm_search.report.evidence import Evidence
from tlm_search.report.tables.committees import COLUMNS, committees_table
from tlm_search.report.tables.mixed import export_words, mixed_committees

ROWS = 240


class Known(Evidence):
    def logits_of(self, trial):
        skill, seed = builders.skill_of(trial.settings), builders.seed_of(trial.number)
        validation, test = (
            builders.logits_of(skill, members=len(trial.members), rows=rows, seed=seed) for rows in (ROWS, ROWS + 1)
        )
        return MemberLogits(validation, test, builders.labels_of(ROWS), builders.labels_of(ROWS + 1))


@pytest.fixture
def record():
    trials = [builders.trial(number, heads=heads, committee_size=3) for number, heads in enumerate((2, 4, 8))]
    deep = builders.trial(3, depth=6, heads=8, committee_size=3)
    return builders.study([*trials, deep], reference_trial=builders.reference())


def test_every_kind_of_vote_is_judged_and_says_its_pool(record):
    table = committees_table(record, Known(record, None))
    assert tuple(table.columns) == COLUMNS
    assert table["vote"].tolist() == [
        "mean of probabilities",
        "mean of logits",
        "majority",
        "weights fitted on validation",
        "mean of probabilities",
        "mean of probabilities",
        "greedy with replacement",
        "weights fitted on validation",
    ]
    assert table["pool"].tolist() == [3, 3, 3, 3, 9, 9, 9, 9]  # the deep trial is not in the pool
    assert table["committee"].iloc[4] == "mixed: one member of each of 3 configurations, mean of 3"
    assert table["committee"].iloc[5] == "all members of 3 configurations"
    assert table["members"].iloc[5] == 9
    assert table["test_accuracy"].between(table["test_accuracy_low"], table["test_accuracy_high"], "neither").all()
    assert (table["members"] <= table["pool"]).all()


def test_the_first_row_is_the_committee_of_the_frontier(record):
    first = committees_table(record, Known(record, None)).iloc[0]
    votes = Known(record, None).logits_of(record.trials[2])
    probabilities = np.exp(votes.test) / np.exp(votes.test).sum(axis=-1, keepdims=True)
    right = probabilities.mean(axis=0).argmax(axis=-1) == votes.test_labels
    assert first["committee"].startswith("#2: ")
    assert first["test_accuracy"] == pytest.approx(right.mean())


def test_the_whole_pool_votes_beside_what_is_chosen_from_it(record):
    evidence = Known(record, None)
    pool = np.concatenate([evidence.logits_of(trial).test for trial in record.trials[:3]])
    probabilities = np.exp(pool) / np.exp(pool).sum(axis=-1, keepdims=True)
    right = probabilities.mean(axis=0).argmax(axis=-1) == builders.labels_of(ROWS + 1)
    table = committees_table(record, evidence).set_index("committee")
    assert table.loc["all members of 3 configurations", "test_accuracy"] == pytest.approx(right.mean())


def test_greedy_is_no_worse_on_validation_than_any_single_member(record):
    evidence = Known(record, None)
    table = committees_table(record, evidence)
    singles = [
        (member.argmax(axis=-1) == builders.labels_of(ROWS)).mean()
        for trial in record.trials[:3]
        for member in evidence.logits_of(trial).validation
    ]
    assert table.loc[table["vote"] == "greedy with replacement", "validation_accuracy"].item() >= max(singles)


def test_without_logits_or_trials_the_table_is_empty(record):
    assert committees_table(record, Evidence(record, None)).empty
    assert committees_table(builders.study([]), Evidence(builders.study([]), None)).empty


def test_single_members_are_only_mixed():
    trials = [builders.trial(number, heads=heads, committee_size=1) for number, heads in enumerate((2, 4))]
    record = builders.study(trials)
    assert committees_table(record, Known(record, None))["pool"].tolist() == [2, 2, 2, 2]


def test_the_command_of_the_greedy_committee_is_named_where_it_is_better_on_validation(record):
    evidence = Known(record, None)
    mixed = mixed_committees(record, evidence)
    best = candidates(record.trials[2])[-1]
    ours = mixed["greedy"].candidate
    reached = ({"validation_accuracy": ours.validation_metric + step} for step in (-0.01, 0.0))
    worse, better = (replace(best, scores=best.scores.having(figures)) for figures in reached)
    words = export_words(record, mixed, worse)
    assert words is not None
    assert f"tlm-search export {record.name} --from greedy --out {record.name}-greedy" in words
    assert "too high, because validation chose its members" in words
    assert export_words(record, mixed, better) is None
    assert export_words(record, {}, worse) is None
    simulated = replace(record, space=builders.space(trainer="simulated"))
    assert export_words(simulated, mixed, worse) is None
