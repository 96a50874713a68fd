"""``predict`` answers in the order of its input, and says in one message what is wrong with it."""

import json

import pytest
from finished import LABELS
from typer.testing import CliRunner

from tlm_search.cli.main import app
from tlm_search.export.committee import Committee

TEXTS = ["aa ea", "", "aa, ba"]


def predict(*arguments, **options):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], catch_exceptions=False, **options)


def test_json_is_the_list_of_the_contract(exported):
    found = json.loads(predict(exported, *TEXTS, "--json").stdout)
    expected = Committee.load(exported).answers(TEXTS)
    assert [list(answer) for answer in found] == [["label", "probability", "probabilities", "disagreement"]] * 3
    for answer, row in zip(found, expected.probabilities, strict=True):
        assert answer["label"] == LABELS[row.argmax()]
        assert answer["probabilities"] == pytest.approx(dict(zip(LABELS, row.tolist(), strict=True)), abs=1e-6)
        assert answer["probability"] == max(answer["probabilities"].values())


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("t.txt", "aa ea\n\naa, ba\n", []),
        ("t.csv", 'text,n\naa ea,1\n,2\n"aa, ba",3\n', []),
        ("t.jsonl", '{"body": "aa ea"}\n{"body": null}\n{"body": "aa, ba"}\n', ["--text", "body"]),
        (None, "aa ea\n\naa, ba", []),
    ],
)
def test_texts_come_from_files_and_standard_input_too(exported, tmp_path, name, content, options):
    expected = predict(exported, *TEXTS, "--json").stdout
    if name is None:
        assert predict(exported, "--json", input=content).stdout == expected
        return
    (tmp_path / name).write_text(content)
    assert predict(exported, "--file", tmp_path / name, *options, "--json").stdout == expected


def test_without_json_there_is_a_line_a_text(exported):
    lines = predict(exported, *TEXTS).stdout.splitlines()
    assert [line.split("\t")[0] in LABELS for line in lines] == [True] * 3


def test_wrong_input_is_one_message(exported, tmp_path, call):
    (tmp_path / "t.csv").write_text("body,label\naa,b\n")
    assert call("predict", str(tmp_path / "none"), "aa")[0] == 2
    code, out, err = call("predict", str(exported), "--file", str(tmp_path / "t.csv"), "--json")
    assert (code, out) == (2, "")
    assert "its columns are: body, label" in err
    assert "--text COLUMN" in err
    code, _, err = call("predict", str(exported), "aa", "--file", str(tmp_path / "t.csv"))
    assert (code, "give one of the two" in err) == (2, True)
