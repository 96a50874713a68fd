"""Exports of mixed committees: members of several configurations, each with its weight, in every form of an export."""

import json
import shutil
from dataclasses import replace

import builders
import numpy as np
import pytest
import torch
from finished import LABELS, LENGTH, SHAPE, Finished, finished_study
from safetensors.numpy import load_file

from tlm_search import SoftCommittee
from tlm_search.api import Study
from tlm_search.committee.calibration import UNCALIBRATED, fit_calibration
from tlm_search.committee.combine import weighted_vote
from tlm_search.committee.frontier import frontier
from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.errors import ExportError, UserError
from tlm_search.export.committee import Committee
from tlm_search.export.folder import CONFIG, FORMAT, MIXED_FORMAT, MODEL, ONNX, ONNX_INT8, verified
from tlm_search.export.latency import measure_exports
from tlm_search.export.onnx import onnx_answers, open_session
from tlm_search.members.bert_trainer import BertTrainer
from tlm_search.members.spec import committee_specs
from tlm_search.members.train import obtain
from tlm_search.report.tables.committees import committees_table
from tlm_search.report.tables.mixed import GREEDY, mixed_committees
from tlm_search.space.settings import complete
from tlm_search.study.location import StudyLocation
from tlm_search.study.record import TrialRecord

CONFIGURATIONS = (
    {"depth": 2, "width": 32, "pooling": "mean"},
    {"linear_member": True, "linear_share": 0.3},
    {"linear_member": True, "linear_share": 0.6, "class_weights": "balanced"},
    {"convolution_layers": 1, "convolution_channels": 2},
)


def with_trials(finished: Finished, *configurations: dict, task: str = "task") -> Study:
    """Return the study with one more trial for each of these configurations, on the same data."""
    data = PreparedData.from_document(finished.record.data, finished.store.root)
    trials = [finished.record.trials[0]]
    for number, settings in enumerate(configurations, start=1):
        full = complete({**SHAPE, "pretrain_size": 0, "committee_size": 2, **settings})
        specs = committee_specs(
            full,
            vocabulary=data.vocabulary,
            positions=LENGTH,
            labels=len(LABELS),
            corpus="",
            task=task,
            tokenizer=data.tokenizer_fingerprint,
            seeds=range(2),
        )
        members = obtain(specs, store=finished.store, data=data, trainer=BertTrainer(threads=1, device="cpu")).members
        validation, test = (np.stack([getattr(m, f"{s}_logits") for m in members]) for s in ("validation", "test"))
        rows = frontier(validation, test, np.arange(12) % 3, np.arange(18) % 3)
        digests = tuple(member.digest for member in members)
        trials.append(TrialRecord(number, "complete", settings=full, frontier=rows, members=digests))
    return Study(replace(finished.record, trials=tuple(trials)))


def said(study: Study, members: dict[str, float]) -> np.ndarray:
    """Return the answers of these members to the test texts by the stored logits: weighted and calibrated."""
    entries = [study.store.read("members", digest).arrays("logits") for digest in members]
    weights = np.array(list(members.values()))
    votes = {
        split: weighted_vote(np.stack([entry[split] for entry in entries]), weights / weights.sum())
        for split in ("validation", "test")
    }
    return fit_calibration(votes["validation"], np.arange(12) % 3).of(votes["test"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return finished_study(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def study(finished):
    return with_trials(finished, *CONFIGURATIONS)


@pytest.fixture(scope="module")
def chosen(study):
    """Members of five configurations, named in all possible ways. One is named twice, which doubles its weight."""
    first, second, *others = study.record.trials
    digests = [first.members[1], second.members[0], second.members[1], *(trial.members[0] for trial in others)]
    weights = dict.fromkeys(digests, 1.0) | {first.members[1]: 2.0}
    names = [(0, 2), *digests[:2], *((1, 2), (2, 1), (3, 1), (4, 1))]
    return names, weights


@pytest.fixture(scope="module")
def folder(study, chosen, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "mixed"
    study.export(out, members=chosen[0])
    return out


def test_it_answers_as_the_stored_logits_say_with_their_weights(finished, study, chosen, folder, monkeypatch):
    committee, expected = Committee.load(folder), said(study, chosen[1])
    assert (committee.size, len(committee.stacks), len(committee.linear)) == (6, 3, 2)
    np.testing.assert_allclose(committee.probabilities(finished.texts), expected, atol=1e-5)
    for text, row in zip(finished.texts[:3], expected, strict=False):
        np.testing.assert_allclose(committee.probabilities([text])[0], row, atol=1e-5)
    assert committee.check() < 1e-6
    # Many texts are answered by one member after the other, with tables of the first layer.
    monkeypatch.setattr("tlm_search.export.committee.STACKED_TOKENS", 0)
    np.testing.assert_allclose(committee.answers(finished.texts, threads=2).probabilities, expected, atol=1e-5)
    monkeypatch.setattr("tlm_search.model.inference.LOOKUP_BYTES", 0)
    np.testing.assert_allclose(committee.probabilities(finished.texts), expected, atol=1e-5)
    assert not np.allclose(expected, said(study, dict.fromkeys(chosen[1], 1.0)), atol=1e-3), "a weight says something"


def test_transformers_loads_it(finished, study, chosen, folder, tmp_path):
    from transformers import AutoModelForSequenceClassification, pipeline

    expected = said(study, chosen[1])
    classify = pipeline("text-classification", str(folder))
    found = classify(finished.texts, truncation=True, top_k=None, batch_size=5)
    by_label = [{answer["label"]: answer["score"] for answer in row} for row in found]
    np.testing.assert_allclose([[row[label] for label in LABELS] for row in by_label], expected, atol=1e-4)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert isinstance(model, SoftCommittee)
    np.testing.assert_allclose(model.answers(finished.texts).probabilities, expected, atol=1e-5)
    assert model(torch.tensor([[2, 7, 3]])).member_logits.shape == (1, 6, 3)
    with pytest.raises(ValueError, match=f"the committee reads {LENGTH}"):
        model(torch.ones(1, LENGTH + 1, dtype=torch.long))
    model.save_pretrained(tmp_path / "again")
    for file in folder.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "again")
    again = SoftCommittee.from_pretrained(tmp_path / "again")
    np.testing.assert_allclose(again.answers(finished.texts).probabilities, expected, atol=1e-5)


@pytest.mark.timeout(300)  # torch's exporter is slow
def test_its_graph_holds_all_of_it(finished, study, tmp_path):
    study.export(tmp_path / "out", members=[(1, 1), (2, 1), (2, 1)], onnx=True, int8=True)
    committee = Committee.load(tmp_path / "out")
    tokens = committee.tokens(["", "aa", "aa ba " * 20, *finished.texts])
    expected = committee.answers_to_tokens(tokens)
    for name, tolerance in ((ONNX, 1e-5), (ONNX_INT8, 0.1)):
        found = onnx_answers(open_session(tmp_path / "out" / name, threads=1), tokens, labels=3, pad=committee.pad)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=tolerance)
    rows = measure_exports([tmp_path / "out"], threads=1, texts=1, reference=None, seconds=0.01)
    assert [row.members for row in rows] == [2, 2, 2]


def test_commands_take_it_like_any_other(folder, call, tmp_path):
    (tmp_path / "rows.csv").write_text("text,team\naa ea,1\nba,b|c\n")
    code, out, _ = call("predict", str(folder), "aa ea", "--json")
    assert (code, len(json.loads(out)[0]["probabilities"])) == (0, 3)
    code, out, err = call("predict", str(folder), "--file", str(tmp_path / "rows.csv"), "--label", "team")
    assert (code, "accuracy" in out + err) == (0, True)
    code, _, err = call("push", str(folder), "someone/mixed", "--dry-run")
    assert code == 0, err


def test_the_card_says_which_members_and_how_they_were_chosen(study, folder, tmp_path):
    card = (folder / "README.md").read_text()
    for part in (
        "a mixed soft committee of 6 models",
        "It has 6 members of trials 0, 1, 2, 3 and 4 of a search by `tlm-search`: each was asked for.",
        "| 0 | ",
        "depth 2, width 32, 4 heads | 14.3% |",
        "| 28.6% |",
        "2 linear models on words have 12.9% of the votes",
        "Members of trial 1, fine-tuning: ",
        "Its members were named one by one",
        "The study did not measure latency",
        "There is no folder `members/`",
    ):
        assert part in card, part
    study.export(tmp_path / "greedy", pool="greedy")
    card = (tmp_path / "greedy" / "README.md").read_text()
    assert "chosen greedily, with replacement, on validation from 11 members of 5 configurations" in card
    assert "is too high, and by more than that of a committee of one configuration" in card
    assert "test accuracy (95% interval over texts)" in card


@pytest.mark.parametrize("how", ["greedy", "weighted"])
def test_what_the_report_lists_is_what_is_exported(study, tmp_path, how):
    exported = study.export(tmp_path / how, pool=how)
    mixed = mixed_committees(study.record, study.evidence)[how]
    assert exported.facts.chosen.members == mixed.members
    row = committees_table(study.record, study.evidence).iloc[-2 if how == GREEDY else -1]
    assert row["test_accuracy"] == pytest.approx(exported.facts.reached("test")[0])
    assert row["validation_accuracy"] == pytest.approx(exported.facts.reached("validation")[0])
    assert row["members"] == len(mixed.members)
    np.testing.assert_allclose(
        Committee.load(tmp_path / how)
        .answers_to_tokens(Committee.load(tmp_path / how).tokens([""]))
        .probabilities.sum(),
        1,
        atol=1e-6,
    )


def test_members_of_one_configuration_that_vote_alike_are_written_as_ever(finished, study, tmp_path):
    """Older versions can read it, because its format is not new."""
    study.export(tmp_path / "named", members=[(0, 1), (0, 2)])
    config, manifest = (json.loads((tmp_path / "named" / name).read_text()) for name in (CONFIG, "manifest.json"))
    assert "stacks" not in config
    assert manifest["format"] == FORMAT
    np.testing.assert_allclose(
        Committee.load(tmp_path / "named").probabilities(finished.texts), finished.answers(2), atol=1e-5
    )
    assert (tmp_path / "named" / "members" / "1" / "model.safetensors").is_file()


def test_older_versions_are_told_to_be_updated(folder, monkeypatch):
    assert json.loads((folder / "manifest.json").read_text())["format"] == MIXED_FORMAT
    monkeypatch.setattr("tlm_search.export.folder.MIXED_FORMAT", FORMAT)
    with pytest.raises(ExportError, match="it has format 3") as error:
        verified(folder)
    assert error.value.hint == "update tlm-search"


@pytest.mark.parametrize(
    "harm",
    [
        lambda config: config.update(stacks=[]),
        lambda config: config.update(stacks={}),
        lambda config: config.update(stacks=[None]),
        lambda config: config["stacks"].pop(),
        lambda config: config["stacks"][0].pop("member_weights"),
        lambda config: config["stacks"][0].update(member_weights=[1.0]),
        lambda config: config["stacks"][0].update(member_weights=[0] * 4),
        lambda config: config["stacks"][0].update(member_weights=["1"] * 4),
        lambda config: config["stacks"][0].update(member_weights=[float("nan")] * 4),
        lambda config: config["stacks"][1].update(pooling="none"),
        lambda config: config["stacks"][1]["architecture"].update(vocabulary=36),
        lambda config: config.update(linear_models={}),
        lambda config: config["linear_models"].pop(),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, harm):
    config = json.loads((folder / CONFIG).read_text())
    tensors = {name: torch.from_numpy(value) for name, value in load_file(folder / MODEL).items()}
    harm(config)
    with pytest.raises((KeyError, TypeError, ValueError)):
        Committee.of(config, tensors, Committee.load(folder).tokenizer, labels=LABELS, expected={})


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"members": []}, "members is empty"),
        ({"members": ["0" * 32]}, "has no member 0+"),
        ({"members": [(9, 1)]}, "member 1 of trial 9: the study has no such trial"),
        ({"members": [(0, 4)]}, "no member 4 of trial 0: the trial has 3 members, and 1 is the first"),
        ({"members": [(0, 0)]}, "member 0 of trial 0"),
        ({"members": [3]}, "3 does not name a member"),
        ({"members": [(0, 1)], "pool": "greedy"}, "--from and members both choose a committee"),
        ({"members": [(0, 1)], "student": True}, "both choose what to export"),
        ({"pool": "greedy", "trial": 0}, "--from and --trial or --size both choose a committee"),
        ({"pool": "best"}, "--from best"),
        ({"pool": "greedy", "student": True}, "no student of --from greedy"),
    ],
)
def test_what_cannot_be_named_is_refused(study, tmp_path, named, message):
    with pytest.raises(UserError, match=message):
        study.export(tmp_path / "out", **named)
    assert not (tmp_path / "out").exists()


def test_members_that_read_other_tokens_are_refused_with_one_message(finished, tmp_path):
    other = with_trials(finished, {"depth": 2}, task="other tokens")
    with pytest.raises(ExportError, match="do not read the same tokens: they differ in the tokenizer or in the length"):
        other.export(tmp_path / "out", members=[(0, 1), (1, 1)])
    assert other.export(tmp_path / "out", members=[(1, 1), (1, 2)]).facts.chosen.size == 2


def test_it_is_distilled(finished, study, tmp_path):
    folder = finished.record.folder
    StudyLocation(folder, None, folder.name).write(builders.space())
    StudyLocation.of(folder).create(builders.space())
    told = []
    mixed = mixed_committees(study.record, study.evidence)["weighted"]
    students = study.distil(pool="weighted", announce=told.append).record.students
    (student,) = students
    assert student.mixed["how"] == "weighted"
    assert (student.size, len(student.result.members) <= 5) == (len(mixed.members), True)
    teaching = study.store.read("members", student.result.members[0]).document["spec"]["teaching"]
    assert (tuple(teaching["teachers"]), tuple(teaching["weights"])) == (mixed.members, mixed.weights)
    (labels,) = study.store.entries("soft_labels")
    train = labels.arrays("labels")["probabilities"]
    study.export(tmp_path / "teachers", pool="weighted")
    committee = replace(Committee.load(tmp_path / "teachers"), calibration=UNCALIBRATED)
    expected = committee.answers_to_tokens(TokenArray.open(finished.store.root / "train")).probabilities
    np.testing.assert_allclose(train, expected, atol=1e-5)
    again = Study(replace(study.record, students=students))
    assert "student of the weighted committee" in again._report.figures["frontier"].to_json()
    again.export(tmp_path / "student", student=True, pool="weighted")
    assert "a student of the weighted committee with" in (tmp_path / "student" / "README.md").read_text()
    with pytest.raises(ExportError, match="no student of --from greedy") as error:
        again.export(tmp_path / "none", student=True, pool="greedy")
    assert "the study has students of --from weighted" in error.value.hint
