"""A temperature and a bias for each label: the study's figures and all forms of an export use the same function."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from finished import Finished, finished_study

from tlm_search.committee.calibration import UNCALIBRATED, Calibration, fit_calibration
from tlm_search.committee.vote import soft_vote
from tlm_search.errors import ExportError
from tlm_search.export.choose import Chosen
from tlm_search.export.committee import Committee, calibration_of
from tlm_search.export.folder import ONNX
from tlm_search.export.onnx import onnx_answers, open_session
from tlm_search.export.write import export_committee
from tlm_search.report.evidence import Evidence

BIAS = (0.0, 0.8, -0.5)


@pytest.fixture(scope="module")
def biased(tmp_path_factory) -> Finished:
    """A study whose committee of three was judged with a bias."""
    made = finished_study(tmp_path_factory.mktemp("biased"))
    trial = made.record.trials[0]
    *others, whole = trial.frontier
    trial = replace(trial, frontier=(*others, replace(whole, bias=BIAS)))
    return replace(made, record=replace(made.record, trials=(trial,)))


@pytest.fixture(scope="module")
def folder(biased, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "tiny"
    export_committee(
        biased.record, biased.store, Chosen(biased.record.trials[0], 3, "it was asked for"), out=out, onnx=True
    )
    return out


@pytest.fixture(scope="module")
def expected(biased):
    labels = np.arange(12) % 3
    fitted = fit_calibration(soft_vote(biased.validation), labels, BIAS)
    assert fitted.bias == BIAS
    return fitted.of(soft_vote(biased.logits))


def test_it_answers_as_the_study_judges_it(biased, folder, expected):
    committee = Committee.load(folder)
    answers = committee.answers(biased.texts)
    np.testing.assert_allclose(answers.probabilities, expected, atol=1e-5)
    assert (expected.argmax(-1) != soft_vote(biased.logits).argmax(-1)).any(), "the bias moves what is named"
    differ = (biased.logits + np.array(BIAS)).argmax(-1) != expected.argmax(-1)
    np.testing.assert_allclose(answers.disagreement, differ.mean(0), atol=1e-6)
    assert committee.check() < 1e-6
    votes = Evidence(biased.record, biased.store).logits_of(biased.record.trials[0])
    assert votes.calibration(size=3) == committee.calibration


def test_all_forms_give_the_same_answers(biased, folder, expected):
    from tlm_search import SoftCommittee

    committee = Committee.load(folder)
    tokens = committee.tokens(biased.texts)
    graph = onnx_answers(open_session(folder / ONNX, threads=1), tokens, labels=3, pad=committee.pad)
    np.testing.assert_allclose(graph.probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(graph.disagreement, committee.answers(biased.texts).disagreement, atol=1e-6)
    model = SoftCommittee.from_pretrained(folder).eval()
    ids = torch.tensor(np.asarray(tokens[0]))[None]
    with torch.inference_mode():
        logits = model(ids).logits
    np.testing.assert_allclose(logits.exp()[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(logits.softmax(-1)[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(model.probabilities(biased.texts), expected, atol=1e-5)


def test_the_card_says_what_calibration_changed(folder):
    card = (folder / "README.md").read_text()
    assert "(before calibration " in card
    assert r"b\|c +0.80, 1 -0.50" in card


def test_an_export_of_before_answers_without_calibration():
    assert calibration_of({}, labels=3) == UNCALIBRATED
    given = {"calibration": {"temperature": 1.5, "bias": [0, 1, 2]}}
    assert calibration_of(given, labels=3) == Calibration(1.5, (0.0, 1.0, 2.0))


@pytest.mark.parametrize(
    "calibration",
    [{"temperature": 0, "bias": []}, {"temperature": "x", "bias": []}, {"temperature": 1, "bias": [1]}, {}, 3],
)
def test_a_calibration_that_cannot_be_is_a_damaged_export(folder, calibration, monkeypatch):
    from tlm_search.export import committee as module

    config = {**module.verified(folder), "calibration": calibration}
    monkeypatch.setattr(module, "verified", lambda _: config)
    with pytest.raises(ExportError, match="damaged"):
        Committee.load(folder)
