from dataclasses import replace

import builders
import pytest

from tlm_search.committee.select import select
from tlm_search.report.claims.answer import answer_of
from tlm_search.report.evidence import Evidence
from tlm_search.report.pages.html import write_report
from tlm_search.report.tables import inside

ROWS = 200


@pytest.fixture
def record(stored_study, tmp_path):
    trials = [builders.trial(0, committee_size=4, pretrain_size=1000), builders.trial(1, committee_size=2)]
    made = stored_study(tmp_path, trials)
    return made.record, made.store


def test_logits_agree_with_what_the_trials_hold(record):
    study, store = record
    logits_of = Evidence(study, store).logits_of
    for trial in (*study.trials, study.reference):
        votes = logits_of(trial)
        assert votes.test.shape == (len(trial.members), ROWS + 1, builders.CLASSES)
    [first, *_] = select(study.trials, study.reference, logits_of=logits_of).choices
    assert first.test_difference.paired
    expected = first.candidate.test_accuracy - first.reference.test_accuracy
    if first.candidate.size == len(first.candidate.trial.frontier):
        assert first.test_difference.mean == pytest.approx(expected)


def test_labels_and_disagreement_come_from_the_logits(record):
    study, store = record
    evidence = Evidence(study, store)
    best = answer_of(study, evidence).best
    votes = inside.logits_of(best, evidence)
    table = inside.labels_table(study, votes)
    assert table["label"].tolist() == list(study.labels)
    assert table["rows"].sum() == ROWS + 1
    whole = (table["committee"] * table["rows"]).sum() / table["rows"].sum()
    assert whole == pytest.approx(best.test_difference.mean + study.reference.metrics["test_accuracy"])
    assert 0 < inside.diversity_table(votes)["disagreement"].iloc[-1] < 1


def test_losses_and_versions_come_from_the_members(record):
    study, store = record
    evidence = Evidence(study, store)
    assert [evidence.pretraining_loss(trial) for trial in study.trials] == [
        pytest.approx(4.0 + builders.skill_of(study.trials[0].settings) / 10),
        None,
    ]
    assert evidence.provenance() == {"versions": {"torch": "9"}, "revision": "abc"}


def test_what_is_missing_is_none_and_the_report_is_written_all_the_same(record, tmp_path):
    study, store = record
    store.remove("members", study.trials[0].members[-1])
    evidence = Evidence(study, store)
    assert evidence.logits_of(study.trials[0]) is None
    assert evidence.logits_of(study.trials[1]) is not None
    assert write_report(study, store, tmp_path / "out").exists()
    (store.root / "test" / "labels.npy").unlink()
    assert Evidence(study, store).logits_of(study.trials[1]) is None
    assert Evidence(study, None).logits_of(study.trials[1]) is None
    assert Evidence(replace(study, data={"labels": []}), store).logits_of(study.trials[1]) is None


def test_the_page_has_the_sections_that_need_logits(record, tmp_path):
    study, store = record
    text = write_report(study, store, tmp_path / "out").read_text()
    assert "Inside the committee" in text
    assert "name different labels for" in text
    assert "paired" in text
