"""Exports with a linear member give the stored answers in every form, and refuse damage with a message."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from finished import LABELS, finished_study
from safetensors.numpy import load_file

from tlm_search.errors import ExportError
from tlm_search.export.choose import choose
from tlm_search.export.committee import Committee
from tlm_search.export.folder import CONFIG, MODEL, ONNX, ONNX_INT8
from tlm_search.export.latency import measure_exports
from tlm_search.export.onnx import onnx_answers, open_session
from tlm_search.export.write import export_committee
from tlm_search.members.spec import hybrid_digests
from tlm_search.report.evidence import Evidence


def export(finished, out, *, size=None, **options):
    chosen = choose(finished.record, Evidence(finished.record, finished.store), number=0, size=size)
    return export_committee(finished.record, finished.store, chosen, out=out, **options)


ROLES = {"marked": True, "pooling": "spans", "linear_share": 0.2, "linear_roles": "ordered"}


@pytest.fixture(scope="module", params=[{}, ROLES], ids=["words", "roles"])
def hybrids(request, tmp_path_factory):
    return finished_study(tmp_path_factory.mktemp("hybrids"), linear_member=True, **request.param)


@pytest.fixture(scope="module")
def folder(hybrids, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "tiny"
    export(hybrids, out, onnx=True, int8=True)
    return out


def test_it_gives_the_answers_of_the_study(hybrids, folder):
    committee = Committee.load(folder)
    expected = hybrids.answers()
    answers = committee.answers(hybrids.texts)
    np.testing.assert_allclose(answers.probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(committee.answers(hybrids.texts, threads=2).probabilities, expected, atol=1e-5)
    for text, row in zip(hybrids.texts[:3], expected, strict=False):
        np.testing.assert_allclose(committee.probabilities([text])[0], row, atol=1e-5)
    assert committee.check() < 1e-6
    without = replace(committee, linear=())
    assert np.abs(without.probabilities(hybrids.texts) - expected).max() > 0.01, "the linear model says something"


def test_disagreement_counts_the_members_alone(hybrids, folder):
    committee = Committee.load(folder)
    tokens = committee.tokens(hybrids.texts)
    answers = committee.answers_to_tokens(tokens)
    for number, text in enumerate(hybrids.texts):
        ids = torch.tensor(tokens[number].astype(np.int64))[None]
        votes = committee.member_votes(ids, None)
        assert votes.shape == (3, 1, 3)
        apart = (votes.argmax(-1) != answers.probabilities[number].argmax()).float().mean()
        assert answers.disagreement[number] == pytest.approx(float(apart)), text


def test_transformers_loads_it_with_its_linear_model(hybrids, folder, tmp_path):
    from transformers import AutoModelForSequenceClassification, pipeline

    from tlm_search import SoftCommittee

    expected = hybrids.answers()
    classify = pipeline("text-classification", str(folder))
    for batch_size in (1, 5):
        found = classify(hybrids.texts, truncation=True, top_k=None, batch_size=batch_size)
        by_label = [{answer["label"]: answer["score"] for answer in row} for row in found]
        np.testing.assert_allclose([[row[label] for label in LABELS] for row in by_label], expected, atol=1e-4)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert isinstance(model, SoftCommittee)
    assert model.linear.pieces.dtype == torch.int64
    assert not [name for name, _ in model.named_parameters() if name.startswith("linear.pieces")]
    np.testing.assert_allclose(model.answers(hybrids.texts).probabilities, expected, atol=1e-5)
    model.save_pretrained(tmp_path / "again")
    for file in folder.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "again")
    again = SoftCommittee.from_pretrained(tmp_path / "again")
    np.testing.assert_allclose(again.answers(hybrids.texts).probabilities, expected, atol=1e-5)
    half = SoftCommittee.from_pretrained(folder, dtype=torch.bfloat16)
    np.testing.assert_allclose(half.answers(hybrids.texts).probabilities, expected, atol=0.05)


def test_the_graphs_hold_the_linear_model(hybrids, folder):
    committee = Committee.load(folder)
    tokens = committee.tokens(["", "aa", "aa ba " * 20, *hybrids.texts])
    expected = committee.answers_to_tokens(tokens)
    for name, tolerance in ((ONNX, 1e-5), (ONNX_INT8, 0.1)):
        found = onnx_answers(open_session(folder / name, threads=1), tokens, labels=3, pad=committee.pad)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=tolerance)
    rows = measure_exports([folder], threads=1, texts=1, reference=folder, seconds=0.01)
    assert [row.members for row in rows] == [3, 3, 3]


def test_the_card_says_it_and_counts_it(hybrids, folder, tmp_path):
    card = (folder / "README.md").read_text()
    share = {0.5: "half", 0.2: "20%"}[hybrids.record.trials[0].settings["linear_share"]]
    assert f"a linear model on words, which has {share} of the votes. Each of the 3 models is a BERT" in card
    assert "- Linear model: TF-IDF of" in card
    exported = export(hybrids, tmp_path / "one", size=1)
    (linear,) = hybrids.store.entries("linear")
    bert = exported.facts.parameters - linear.document["parameters"]
    whole = export(hybrids, tmp_path / "all")
    assert whole.facts.parameters == 3 * bert + linear.document["parameters"]
    assert f"| parameters of all members | {whole.facts.parameters:,} |" in card
    assert ("These folders do not contain the linear model" in card) == (folder / "members").is_dir()
    assert "a single model, and a linear model" in (tmp_path / "one" / "README.md").read_text()


def test_what_is_missing_is_named_and_nothing_is_written(hybrids, tmp_path):
    (linear,) = hybrids.store.entries("linear")
    entry = hybrids.store.read("members", hybrids.record.trials[0].members[1])
    plain, _ = hybrid_digests(entry.document["spec"])
    for kind, digest, words in (("linear", linear.digest, "the linear model"), ("members", plain, "member")):
        kept = hybrids.store.root / kind / digest
        aside = kept.with_name(f".{digest}")
        kept.rename(aside)
        try:
            with pytest.raises(ExportError, match=f"{words} {digest} of trial 0 is missing or damaged in the store"):
                export(hybrids, tmp_path / "out")
        finally:
            aside.rename(kept)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("harm", ["no tensors", "other shapes", "no word of it"])
def test_a_linear_model_that_does_not_fit_is_refused(folder, harm):
    config = json.loads((folder / CONFIG).read_text())
    tensors = {name: torch.from_numpy(value) for name, value in load_file(folder / MODEL).items()}
    if harm == "no tensors":
        tensors = {name: value for name, value in tensors.items() if not name.startswith("linear.")}
    elif harm == "other shapes":
        tensors["linear.idf"] = tensors["linear.idf"][1:]
    else:
        del config["linear"]
    with pytest.raises(ValueError, match=r"linear\.\w+ is .*, but should be"):
        Committee.of(config, tensors, Committee.load(folder).tokenizer, labels=LABELS, expected={})


def test_without_a_linear_member_there_is_no_word_of_it(exported):
    assert "linear" not in json.loads((exported / CONFIG).read_text())
    assert "linear model" not in (exported / "README.md").read_text()
    assert not [name for name in load_file(exported / MODEL) if name.startswith("linear")]
