"""What the report says of the inside of a committee, against numbers computed from the logits in another way."""

from dataclasses import replace

import builders
import finished
import numpy as np
import pytest

from tlm_search.committee.candidates import whole
from tlm_search.committee.choice import Choice
from tlm_search.report.evidence import Evidence
from tlm_search.report.tables import inside
from tlm_search.report.tables.frames import examples_frame
from tlm_search.space.sections import ReportSection

LABELS = np.arange(18) % 3


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of real members. Its trial is compared with another trial, which plays the reference."""
    made = finished.finished_study(tmp_path_factory.mktemp("study"))
    trial = made.record.trials[0]
    reference = replace(trial, number=-1, members=trial.members[:1], frontier=trial.frontier[:1])
    return replace(made, record=replace(made.record, reference=reference))


@pytest.fixture(scope="module")
def evidence(study):
    return Evidence(study.record, study.store)


@pytest.fixture(scope="module")
def choice(study):
    return Choice(whole(study.record.trials[0]), whole(study.record.reference), None, None)


@pytest.fixture(scope="module")
def votes(choice, evidence):
    return inside.logits_of(choice, evidence)


def softmax(logits):
    raised = np.exp(logits.astype(np.float64))
    return raised / raised.sum(axis=-1, keepdims=True)


def test_the_ambiguity_is_the_log_of_arithmetic_over_geometric_mean(study, votes):
    table = inside.diversity_table(votes)
    given = softmax(study.logits)[:, np.arange(18), LABELS]  # (members, rows)
    for row in table.to_dict("records"):
        of = given[: row["size"]]
        geometric = np.exp(np.log(of).mean(axis=0))
        assert row["ambiguity"] == pytest.approx(np.log(of.mean(axis=0) / geometric).mean())
        assert row["ambiguity"] >= 0
        assert row["cross_entropy"] == pytest.approx(-np.log(of.mean(axis=0)).mean())
        assert row["member_cross_entropy"] - row["ambiguity"] == pytest.approx(row["cross_entropy"])
    said = study.logits.argmax(axis=-1)
    pairs = [np.mean(said[i] != said[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert table["disagreement"].iloc[-1] == pytest.approx(np.mean(pairs))
    assert np.isnan(table["disagreement"].iloc[0])


def test_numbers_are_those_of_the_logits(study, votes, evidence):
    committee = softmax(study.logits).mean(axis=0)
    said = committee.argmax(axis=-1)
    confusion = inside.confusion_table(study.record, votes)
    matrix = confusion["committee"].to_numpy().reshape(3, 3)
    assert matrix.sum() == 18
    for i in range(3):
        for j in range(3):
            assert matrix[i, j] == ((i == LABELS) & (said == j)).sum()
    labels = inside.labels_table(study.record, votes)
    assert labels["committee"].tolist() == pytest.approx([np.mean(said[i == LABELS] == i) for i in range(3)])
    members = inside.members_table(study.record, study.record.trials[:1], evidence)
    right = study.logits.argmax(axis=-1) == LABELS
    assert members["test_accuracy"].tolist() == pytest.approx(right.mean(axis=1).tolist())


def test_calibration_weighs_up_to_the_expected_calibration_error(study, votes):
    table = inside.calibration_table(votes)
    assert table["committee"].drop_duplicates().tolist() == [
        "1 member",
        "2 members",
        "3 members",
        "3 members, calibrated",
        "reference, calibrated",
    ]
    for _, rows in table.groupby("committee"):
        gaps = (rows["confidence"] - rows["accuracy"]).abs() * rows["rows"]
        assert rows["rows"].sum() == 18
        assert gaps.sum() / 18 == pytest.approx(rows["calibration_error"].iloc[0])
    entropy = {name: rows["cross_entropy"].iloc[0] for name, rows in table.groupby("committee")}
    for name, said in (
        ("3 members", softmax(study.logits).mean(axis=0)),
        ("3 members, calibrated", study.answers()),
        ("reference, calibrated", study.answers(1)),
    ):
        assert entropy[name] == pytest.approx(-np.log(said[np.arange(18), LABELS]).mean())


@pytest.mark.parametrize("most", [0, 1])
def test_a_space_says_how_many_texts_a_report_shows(study, votes, evidence, most):
    space = study.record.space.model_copy(update={"report": ReportSection(examples=most)})
    table = inside.examples_table(replace(study.record, space=space), votes, evidence)
    better = table["committee_on_label"] > table["reference_on_label"]
    assert (better.sum(), (~better).sum()) == (most, most)
    assert len(examples_frame(table).rows) == 2 * most  # the page has no table of examples


def test_the_examples_differ_most_and_show_the_texts_that_were_read(study, votes, evidence):
    table = inside.examples_table(study.record, votes, evidence)
    rows = np.arange(18)
    difference = study.answers()[rows, LABELS] - study.answers(1)[rows, LABELS]
    better = table[table["committee_on_label"] > table["reference_on_label"]]
    assert better["row"].iloc[0] == difference.argmax()
    worse = table[table["committee_on_label"] < table["reference_on_label"]]
    assert worse["row"].iloc[0] == difference.argmin()
    for row in table.to_dict("records"):
        read = study.texts[row["row"]].split()
        assert row["text"].split() == read[: len(row["text"].split())]
        assert row["label"] == finished.LABELS[LABELS[row["row"]]]


def test_without_logits_the_tables_are_empty():
    record = builders.study([builders.trial(0)])
    votes = inside.logits_of(None, Evidence(record, None))
    assert votes is None
    tables = [inside.labels_table(record, None), inside.diversity_table(None), inside.calibration_table(None)]
    tables += [inside.confusion_table(record, None), inside.examples_table(record, None, Evidence(record, None))]
    assert all(table.empty and len(table.columns) > 3 for table in tables)
