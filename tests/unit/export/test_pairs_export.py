"""The export of a committee of pairs answers like the study, in every form, and says what it reads."""

import json

import numpy as np
import pytest
from finished import LABELS, finished_study
from typer.testing import CliRunner

from tlm_search.cli.main import app
from tlm_search.data.pairs import Pair
from tlm_search.export.choose import choose
from tlm_search.export.committee import Committee
from tlm_search.export.folder import CHECK, ONNX
from tlm_search.export.onnx import onnx_answers, open_session, write_onnx
from tlm_search.export.write import export_committee
from tlm_search.report.evidence import Evidence


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return finished_study(tmp_path_factory.mktemp("pairs"), pairs=True, linear_member=True)


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "pairs"
    chosen = choose(study.record, Evidence(study.record, study.store), number=0)
    export_committee(study.record, study.store, chosen, out=out)
    return out


def test_it_answers_as_the_study_did(study, folder):
    from tlm_search import SoftCommittee

    expected = study.answers()
    committee = Committee.load(folder)
    for found in (
        committee.probabilities(study.texts),
        committee.probabilities([list(text) for text in study.texts]),
        committee.answers(study.texts, threads=2).probabilities,
        SoftCommittee.from_pretrained(folder).probabilities([tuple(text) for text in study.texts]),
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    turned = [Pair(second, first) for first, second in study.texts]
    assert np.abs(committee.probabilities(turned) - expected).max() > 1e-3
    assert committee.check() < 1e-5
    assert json.loads((folder / CHECK).read_text())["texts"][0][0] == ""


def test_a_graph_takes_the_segments(study, folder, tmp_path):
    committee = Committee.load(folder)
    write_onnx(committee, tmp_path / ONNX)
    session = open_session(tmp_path / ONNX, threads=1)
    assert [item.name for item in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    tokens = committee.tokens(study.texts)
    found = onnx_answers(session, tokens, labels=3, pad=0).probabilities
    np.testing.assert_allclose(found, study.answers(), atol=1e-5)


def test_pipelines_take_text_and_text_pair(study, folder):
    from transformers import pipeline

    def asked(place, texts):
        classify = pipeline("text-classification", str(place))
        given = [{"text": first, "text_pair": second} for first, second in texts]
        found = [classify(one, truncation=True, top_k=None) for one in given]
        by_label = [{answer["label"]: answer["score"] for answer in row} for row in found]
        return [[row[label] for label in LABELS] for row in by_label]

    np.testing.assert_allclose(asked(folder, study.texts), study.answers(), atol=1e-5)


def test_a_member_alone_reads_pairs_in_plain_transformers(tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    study = finished_study(tmp_path, pairs=True, committee_size=1)
    chosen = choose(study.record, Evidence(study.record, study.store), number=0)
    export_committee(study.record, study.store, chosen, out=tmp_path / "out")
    member = tmp_path / "out" / "members" / "0"
    model, tokenizer = (kind.from_pretrained(member) for kind in (AutoModelForSequenceClassification, AutoTokenizer))
    first, second = zip(*study.texts, strict=True)
    given = tokenizer(list(first), list(second), truncation=True, padding=True, return_tensors="pt")
    np.testing.assert_allclose(model(**given).logits.detach().numpy(), study.logits[0], atol=1e-4)


def predict(*arguments, **options):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], catch_exceptions=False, **options)


def test_predict_reads_pairs_from_arguments_lines_and_two_columns(folder, tmp_path):
    (tmp_path / "t.csv").write_text("premise,n,hypothesis\naa ea,1,\nba,2,aa\n")
    (tmp_path / "plain.csv").write_text("text_pair,text\n,aa ea\naa,ba\n")
    (tmp_path / "t.txt").write_text("aa ea\t\nba\taa\n")
    columns = ["--text", "premise", "--text", "hypothesis"]
    ways = {
        "arguments": predict(folder, "aa ea", "", "ba", "aa", "--json"),
        "standard input": predict(folder, "--json", input="aa ea\t\nba\taa"),
        "a text file": predict(folder, "--file", tmp_path / "t.txt", "--json"),
        "two columns": predict(folder, "--file", tmp_path / "t.csv", *columns, "--json"),
        "their usual names": predict(folder, "--file", tmp_path / "plain.csv", "--json"),
    }
    expected = Committee.load(folder).probabilities([("aa ea", ""), ("ba", "aa")])
    for way, result in ways.items():
        found = [[answer["probabilities"][label] for label in LABELS] for answer in json.loads(result.stdout)]
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=way)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a text"], "the number of texts is odd: 1"),
        (["--file", "t.csv", "--text", "premise"], "this committee reads pairs of texts, and --text names 1 column"),
        (["--file", "t.csv", "--text", "premise", "--text", "x"], "there is no column 'x'"),
        (["--file", "t.txt"], "this committee reads pairs of texts, but line 2 has no tab between two texts"),
    ],
)
def test_predict_says_what_is_no_pair(folder, tmp_path, monkeypatch, call, arguments, words):
    (tmp_path / "t.csv").write_text("premise,hypothesis\naa,ba\n")
    (tmp_path / "t.txt").write_text("aa\tba\naa ba\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = call("predict", str(folder), *arguments, "--json")
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_a_pair_for_a_committee_of_single_texts_is_refused(exported, tmp_path, call):
    (tmp_path / "t.csv").write_text("a,b\naa,ba\n")
    code, out, err = call("predict", str(exported), "--file", str(tmp_path / "t.csv"), "--text", "a", "--text", "b")
    assert (code, out) == (2, "")
    assert "this committee reads single texts, and --text names 2 columns" in err
    with pytest.raises(TypeError, match="sequence of str"):
        Committee.load(exported).tokens([("aa", "ba")])


@pytest.mark.parametrize("texts", [["a text"], [("a", "b", "c")], [("a", 1)], "a text", [None]])
def test_what_is_no_pair_is_refused(folder, texts):
    with pytest.raises(TypeError, match="reads pairs"):
        Committee.load(folder).tokens(texts)


def test_the_card_says_how_pairs_are_given(folder):
    card = (folder / "README.md").read_text()
    assert "It reads pairs of texts" in card
    assert 'committee.probabilities([("a text", "another text")])' in card
    assert '({"text": "a text", "text_pair": "another text"}, truncation=True)' in card
    assert 'tlm-search predict DIR "a text" "another text"' in card
    assert "the words also by the text of the pair that they are in" in card
