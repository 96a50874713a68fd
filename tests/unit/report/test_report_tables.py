from dataclasses import replace

import builders
import pandas as pd
import pytest

from tlm_search.model.architecture import Architecture
from tlm_search.report.evidence import Evidence
from tlm_search.report.tables import insight, tables
from tlm_search.report.tables.costs import COSTS
from tlm_search.report.tables.frames import configurations_frame, pairs_frame, provenance_table
from tlm_search.study.record import REFERENCE_NUMBER


@pytest.fixture(scope="module")
def record():
    return builders.study(builders.grid(48), reference_trial=builders.reference())


def test_trials_have_their_parameters_metrics_and_errors(record):
    table = tables.trials_table(record)
    assert len(table) == 48
    first = record.trials[0]
    row = table.iloc[0]
    assert (row["trial"], row["heads"], row["committee_size"]) == (
        0,
        first.params["heads"],
        first.params["committee_size"],
    )
    assert row["test_accuracy"] == first.metrics["test_accuracy"]
    failed = table[table["state"] == "failed"]
    assert failed["error"].tolist() == ["DivergedError: the loss is not a number"] * len(failed)
    assert failed["test_accuracy"].isna().all()


def test_frontiers_are_best_first_and_carry_every_number(record):
    table = tables.frontiers_table(record)
    best = insight.best_committee(record).trial
    assert table.iloc[0]["trial"] == best.number
    rows = table[table["trial"] == best.number]
    assert rows["test_accuracy"].tolist() == [row.figures["test_accuracy"] for row in best.frontier]
    assert rows["test_gain"].iloc[1] == pytest.approx(
        best.frontier[1].figures["test_accuracy"] - best.frontier[0].figures["test_accuracy"]
    )
    assert table[table["trial"] == -1]["configuration"].tolist() == [
        "reference: depth 6, 8 heads, pre-trained on 4,000"
    ]


def test_the_reference_is_named_by_the_depth_that_it_alone_has():
    search = {"heads": {"choices": [2, 4]}, "head_size": 16, "committee_size": 2}
    for depth, words in ((3, "depth 3, 4 heads"), (1, "4 heads")):
        record = builders.study(
            [builders.trial(0, depth=1, heads=2)],
            search=search,
            reference={"depth": depth, "heads": 4, "head_size": 16},
            reference_trial=builders.trial(REFERENCE_NUMBER, depth=depth, heads=4),
        )
        assert tables.configuration_words(record, record.trials[0]) == "2 heads"
        assert tables.configuration_words(record, record.reference) == words


def test_nothing_is_better_and_cheaper_than_the_front(record):
    table = tables.tradeoffs_table(record)
    own = table[table["trial"] >= 0]
    for cost in COSTS:
        known = own[own[cost].notna()]
        front = known[known[f"front_{cost}"]]
        assert len(front)
        for row in known.to_dict("records"):
            beaten = (known[cost] < row[cost]) & (known["validation_accuracy"] >= row["validation_accuracy"])
            equal = (known[cost] == row[cost]) & (known["validation_accuracy"] > row["validation_accuracy"])
            if row[f"front_{cost}"]:
                assert not (beaten | equal).any()
        assert not table[table["trial"] < 0][f"front_{cost}"].any()


def test_pairs_differ_in_nothing_but_pre_training():
    trials = [
        builders.trial(0, pretrain_size=0),
        builders.trial(1, pretrain_size=4000),
        builders.trial(2, pretrain_size=4000, heads=8),
    ]
    record = builders.study(trials)
    table = tables.pretraining_table(record, Evidence(record, None)).set_index("trial")
    assert table.loc[0, "pair"] == table.loc[1, "pair"] != table.loc[2, "pair"]
    gain = trials[1].frontier[0].figures["test_accuracy"] - trials[0].frontier[0].figures["test_accuracy"]
    assert table.loc[1, "gain"] == pytest.approx(gain)
    assert pd.isna(table.loc[2, "gain"])
    assert table["pretraining_loss"].isna().all()


def test_outcomes_count_states_and_reasons():
    trials = [
        builders.trial(0),
        builders.trial(1, state="failed"),
        builders.trial(2, state="failed"),
        builders.trial(3, state="running"),
    ]
    table = tables.outcomes_table(builders.study(trials))
    assert table[["state", "trials"]].to_numpy().tolist() == [["complete", 1], ["failed", 2], ["running", 1]]
    assert table["share"].sum() == pytest.approx(1)


def test_a_pruned_trial_says_what_stopped_it_and_when():
    trials = [builders.trial(0), replace(builders.trial(1, state="pruned"), rungs={1: 0.5, 2: 0.5})]
    table = tables.outcomes_table(builders.study(trials, pruner="median"))
    assert table["reason"].tolist() == ["", "stopped by the median pruner after 2 members"]


def test_serving_costs_what_the_encoders_of_all_members_compute(record):
    table = tables.tradeoffs_table(record).set_index(["trial", "size"])["serving_flops"]
    settings = record.reference.settings
    one = Architecture.of(settings, vocabulary=4096, positions=64).serving_flops(64, pooling="cls")
    assert table.loc[-1, 1] == one
    largest = max(record.in_state("complete"), key=lambda trial: len(trial.frontier))
    assert table.loc[largest.number, 8] == pytest.approx(8 * table.loc[largest.number, 1])
    unprepared = replace(record, data={})
    assert tables.tradeoffs_table(unprepared)["serving_flops"].isna().all()


def test_constraints_decide_what_is_feasible():
    trials = [builders.trial(0), builders.trial(1, state="failed")]
    loose = builders.study(trials, constraints=["latency_ms <= 1000"])
    strict = builders.study(trials, constraints=["latency_ms <= 0.0001"])
    assert tables.trials_table(loose)["feasible"].tolist() == [True, None]
    assert tables.trials_table(strict)["feasible"].tolist() == [False, None]


def test_the_front_has_only_what_the_constraints_allow():
    trials = [builders.trial(0, heads=8, committee_size=8), builders.trial(1, heads=2, committee_size=2)]
    table = tables.tradeoffs_table(builders.study(trials, constraints=["parameters <= 1e6"]))
    assert (table["allowed"] == (table["parameters"] <= 1e6)).all()
    front = table[table["front_parameters"]]
    assert len(front)
    assert front["allowed"].all()


def test_the_best_committee_keeps_to_the_constraints():
    trials = [builders.trial(0, heads=8, committee_size=8), builders.trial(1, heads=2, committee_size=2)]
    assert insight.best_committee(builders.study(trials)).trial.number == 0
    below_its_member = f"parameters <= {trials[0].metrics['parameters'] / 8 - 1}"
    assert insight.best_committee(builders.study(trials, constraints=[below_its_member])).trial.number == 1
    assert insight.best_committee(builders.study(trials, constraints=["parameters <= 1"])) is None


def test_a_size_at_the_edge_is_that_of_the_best_committee_not_of_its_trial():
    trial = builders.trial(0, heads=8, committee_size=8)
    record = builders.study([trial], constraints=[f"parameters <= {trial.metrics['parameters'] / 2}"])
    row = insight.boundaries_table(record).set_index("setting").loc["committee_size"]
    assert (row["best"], row["edge"]) == (4, "")


def test_an_optimum_on_an_edge_is_flagged_unless_the_edge_cannot_move():
    record = builders.study([builders.trial(0, depth=1, heads=8, pretrain_size=1000, committee_size=4)])
    table = insight.boundaries_table(record).set_index("setting")
    assert table["edge"].to_dict() == {
        "depth": "",  # 1 is the smallest depth
        "heads": "upper",
        "pretrain_size": "",
        "finetune_learning_rate": "",
        "committee_size": "",
    }
    assert insight.boundary_advice(table.reset_index()) == [
        "The best committee has heads = 8, the upper end of its range; a study that searches above it may find a "
        "better one."
    ]


def test_what_is_idle_in_the_best_trial_has_no_edge():
    search = {
        **builders.SEARCH,
        "pretrain_size": {"low": 1000, "high": 8000, "log": True, "when": {"depth": [2]}},
        "convolution_layers": {"choices": [0, 2]},
        "convolution_channels": {"choices": [16, 64], "when": {"convolution_layers": [2]}},
    }
    reference = {**builders.REFERENCE, "convolution_layers": 0}
    idle = builders.study([builders.trial(0, convolution_layers=0)], search=search, reference=reference)
    table = insight.boundaries_table(idle)
    assert list(table["setting"]) == [
        "depth",
        "heads",
        "finetune_learning_rate",
        "committee_size",
        "convolution_layers",
    ]
    assert not any("channels" in line for line in insight.boundary_advice(table))


def test_importance_needs_trials_and_adds_up(record, capsys):
    table = insight.importance_table(record)
    assert set(table["setting"]) == set(builders.SEARCH)
    assert table["importance"].sum() == pytest.approx(1)
    assert insight.importance_table(builders.study([builders.trial(0)])).empty
    assert capsys.readouterr().err == ""


def test_members_saved_are_counted_with_their_seconds():
    given = builders.trial(0, committee_size=4)
    assert insight.members_saved(builders.study([given])) == (
        2,
        2,
        pytest.approx(given.metrics["training_seconds"] / 2),
    )


def test_the_table_of_configurations_is_cut_and_says_so(record, monkeypatch):
    monkeypatch.setattr("tlm_search.report.tables.frames.MAX_ROWS", 5)
    frame, caption = configurations_frame(record, tables.trials_table(record))
    assert len(frame.rows) == 5
    assert "best 5 of" in caption
    shown = [row[1].value for row in frame.rows]
    assert shown == sorted(shown, reverse=True)


def test_pairs_are_not_chosen_by_what_they_gain_on_test():
    rows = [(f"#{place}", 0.5, (place - 20) / 100) for place in range(30)]
    table = pd.DataFrame([*rows, ("alone", 0.5, None)], columns=["configuration", "test_metric", "gain"])
    table["metric"] = "macro_f1"
    frame, caption = pairs_frame(table)
    assert [row[0].text for row in frame.rows] == [f"#{place}" for place in range(10)]
    assert caption.endswith("The best on validation come first. The first 10 of 30; all are in tables/pretraining.csv")
    assert caption.startswith("Test macro F1 of single members")
    assert "9 of 30 pairs gain" in caption
    assert "The first" not in pairs_frame(table.head(3))[1]


def test_provenance_names_data_versions_and_seed(record):
    facts = provenance_table(record, {"versions": {"torch": "9"}, "revision": "abc"}).set_index("fact")["value"]
    assert facts["seed"] == "0"
    assert facts["seeds of the members"] == "0 to 7"
    assert facts["data rows train"] == "500"
    assert facts["revision"] == "abc"
    assert facts["labels"] == "numpy, pandas, torch, ray, optuna"


@pytest.mark.parametrize("trials", [[], [builders.trial(0, state="failed")], [builders.trial(0, state="running")]])
def test_tables_of_a_study_without_results_have_their_columns(trials):
    record = builders.study(trials)
    evidence = Evidence(record, None)
    assert len(tables.trials_table(record)) == len(trials)
    for table in (
        tables.frontiers_table(record),
        tables.tradeoffs_table(record),
        tables.pretraining_table(record, evidence),
        insight.boundaries_table(record),
        insight.importance_table(record),
    ):
        assert table.empty
        assert len(table.columns) > 1
