"""A committee of lines in context: its export answers as the study did, and builds contexts as the study did."""

import json

import numpy as np
import pytest
from finished import LABELS, finished_study
from typer.testing import CliRunner

from tlm_search.cli.main import app
from tlm_search.export.choose import choose
from tlm_search.export.committee import Committee
from tlm_search.export.onnx import onnx_answers, open_session, write_onnx
from tlm_search.export.write import export_committee
from tlm_search.report.evidence import Evidence

LINES = ["aa ea", "ba", "", "aa", "ea ba aa"]


def exported_of(study, out):
    chosen = choose(study.record, Evidence(study.record, study.store), number=0)
    export_committee(study.record, study.store, chosen, out=out)
    return out


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    context = {"rows": 2, "group": "host", "time": "at"}
    return finished_study(tmp_path_factory.mktemp("context"), context=context, linear_member=True)


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    return exported_of(study, tmp_path_factory.mktemp("exports") / "context")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A study of lines without groups and times."""
    study = finished_study(tmp_path_factory.mktemp("plain"), context={"rows": 2, "group": None, "time": None})
    return exported_of(study, tmp_path_factory.mktemp("exports") / "plain")


def predicted(folder, *arguments, **options):
    result = CliRunner().invoke(app, ["predict", *map(str, (folder, *arguments)), "--json"], **options)
    assert result.exit_code == 0, result.stderr
    answers = json.loads(result.stdout)
    answers = answers["answers"] if isinstance(answers, dict) else answers
    return [[answer["probabilities"][label] for label in LABELS] for answer in answers]


def test_it_answers_as_the_study_did(study, folder, tmp_path):
    from tlm_search import SoftCommittee

    committee, expected = Committee.load(folder), study.answers()
    tokens = committee.tokens(study.texts)
    write_onnx(committee, tmp_path / "model.onnx")
    for found in (
        committee.probabilities(study.texts),
        committee.probabilities([list(text) for text in study.texts]),
        SoftCommittee.from_pretrained(folder).probabilities([tuple(text) for text in study.texts]),
        onnx_answers(open_session(tmp_path / "model.onnx", threads=1), tokens, labels=3, pad=0).probabilities,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    longest = max(study.texts, key=lambda text: len(text[0]))
    assert len(longest[0].split()) > 9
    recent = (" ".join(longest[0].split()[-9:]), longest[1])
    np.testing.assert_allclose(committee.probabilities([recent]), committee.probabilities([longest]), atol=1e-6)


def test_pipelines_cut_the_oldest(study, folder):
    from transformers import pipeline

    classify = pipeline("text-classification", str(folder))
    texts = [text for text in study.texts if len(text[1].split()) < 9]
    assert any(len(" ".join(text).split()) > 9 for text in texts)
    for text in texts:
        found = classify({"text": text[0], "text_pair": text[1]}, truncation="only_first", top_k=None)
        by_label = {answer["label"]: answer["score"] for answer in found}
        expected = Committee.load(folder).probabilities([text])[0]
        np.testing.assert_allclose([by_label[label] for label in LABELS], expected, atol=1e-5)


def test_predict_builds_the_contexts_of_a_table(folder, tmp_path):
    (tmp_path / "t.csv").write_text("at,text,host,label\n4,aa ea,x,1\n2,ba,x,b|c\n3,aa,y,\n1,ea ba,x,1\n5,ba,x,1\n")
    contexts = ["ea ba\nba", "ea ba", "", "", "ba\naa ea"]
    lines = ["aa ea", "ba", "aa", "ea ba", "ba"]
    expected = Committee.load(folder).probabilities(list(zip(contexts, lines, strict=True)))
    np.testing.assert_allclose(predicted(folder, "--file", tmp_path / "t.csv"), expected, atol=1e-5)
    scored = predicted(folder, "--file", tmp_path / "t.csv", "--label", "label")
    np.testing.assert_allclose(scored, expected, atol=1e-5)
    arguments = [part for text in zip(contexts, lines, strict=True) for part in text]
    np.testing.assert_allclose(predicted(folder, *arguments), expected, atol=1e-5)


def test_predict_builds_the_contexts_of_lines(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("tlm_search.export.texts.CHUNK", 2)
    text = "\n".join(LINES)
    (tmp_path / "t.txt").write_text(text)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"message": line}) + "\n" for line in LINES))
    before = ["", "aa ea", "aa ea\nba", "ba\n", "\naa"]
    expected = Committee.load(plain).probabilities(list(zip(before, LINES, strict=True)))
    for found in (
        predicted(plain, "--file", tmp_path / "t.txt"),
        predicted(plain, input=text),
        predicted(plain, "--file", tmp_path / "t.jsonl", "--text", "message"),
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--file", "t.txt"], "t.txt has no columns, but the contexts of lines need those of the study: 'host', 'at'"),
        (["--file", "t.csv"], "a line's context needs the columns 'host', 'at' of the study"),
        (["--file", "u.csv"], "row 2: column 'at' holds 'later': neither a number nor an ISO time"),
        (["--file", "u.csv", "--text", "host", "--text", "text"], "--text names 2 columns"),
        (["a line"], "the number of texts is odd: 1"),
    ],
)
def test_predict_says_what_a_context_lacks(folder, tmp_path, monkeypatch, call, arguments, words):
    (tmp_path / "t.txt").write_text("aa\n")
    (tmp_path / "t.csv").write_text("text,host\naa,x\n")
    (tmp_path / "u.csv").write_text("text,host,at\naa,x,1\nba,x,later\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = call("predict", str(folder), *arguments, "--json")
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_the_card_says_what_a_context_is(folder, plain):
    card = (folder / "README.md").read_text()
    assert "It reads a line of a log with the lines before it of the same host as context, at most 2" in card
    assert '({"text": "a text", "text_pair": "another text"}, truncation="only_first")' in card
    assert "with the lines before it as context, at most 2" in (plain / "README.md").read_text()
