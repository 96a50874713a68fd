"""``predict`` answers in the order of its input, and reports wrong input in one message."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from finished import LABELS
from typer.testing import CliRunner

from tlm_search.cli.main import app
from tlm_search.export.committee import Committee

TEXTS = ["aa ea", "", "aa, ba"]


def predict(*arguments, **options):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], catch_exceptions=False, **options)


def same(found, expected):
    """Return whether two answers are equal up to rounding, which depends on the texts of the batch."""
    assert [answer["label"] for answer in found] == [answer["label"] for answer in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)


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
    if name is None:
        found = predict(exported, "--json", input=content)
    else:
        (tmp_path / name).write_text(content)
        found = predict(exported, "--file", tmp_path / name, *options, "--json")
    same(json.loads(found.stdout), json.loads(predict(exported, *TEXTS, "--json").stdout))


def test_without_json_there_is_a_line_a_text(exported):
    lines = predict(exported, *TEXTS).stdout.splitlines()
    assert [line.split("\t")[0] in LABELS for line in lines] == [True] * 3


def test_wrong_input_is_one_message(exported, tmp_path, call):
    (tmp_path / "t.csv").write_text("body,label\naa,b\n")
    for no_folder in (str(tmp_path / "none"), "text " * 60, str(tmp_path / "t.csv")):
        code, out, err = call("predict", no_folder, "aa")
        assert (code, out, "the first argument is the folder" in err) == (2, "", True)
    code, out, err = call("predict", str(exported), "--file", str(tmp_path / "t.csv"), "--json")
    assert (code, out) == (2, "")
    assert "its columns are: body, label" in err
    assert "--text COLUMN" in err
    code, _, err = call("predict", str(exported), "aa", "--file", str(tmp_path / "t.csv"))
    assert (code, "give only one of the two" in err) == (2, True)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "txt"])
def test_a_file_is_answered_in_chunks_and_in_order(exported, tmp_path, ending, monkeypatch):
    monkeypatch.setattr("tlm_search.export.texts.CHUNK", 4)
    texts = [f"{'aa ' * (i % 5)}b{'aeiou'[i % 5]}" for i in range(11)]
    table, file = pd.DataFrame({"text": texts}), tmp_path / f"t.{ending}"
    writers = {
        "csv": lambda: table.to_csv(file, index=False),
        "jsonl": lambda: table.to_json(file, orient="records", lines=True),
        "parquet": lambda: table.to_parquet(file),
        "txt": lambda: file.write_text("\n".join(texts)),
    }
    writers[ending]()
    same(
        json.loads(predict(exported, "--file", file, "--json").stdout),
        json.loads(predict(exported, *texts, "--json").stdout),
    )


def test_no_texts_are_an_empty_list(exported, tmp_path):
    (tmp_path / "t.csv").write_text("text\n")
    assert json.loads(predict(exported, "--file", tmp_path / "t.csv", "--json").stdout) == []


def test_standard_input_is_answered_while_it_comes(exported):
    """The first answer arrives before the second text is sent."""
    program = "from tlm_search.cli.main import main; main()"
    command = [sys.executable, "-c", program, "predict", str(exported)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for text in ("aa ea", "ba"):
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            assert process.stdout.readline().split("\t")[0] in LABELS
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_input_that_is_no_text_is_one_message(exported, call, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "aa"}\n{"text": 3}\n')
    code, out, err = call("predict", str(exported), "--file", str(tmp_path / "t.jsonl"), "--json")
    assert (code, out) == (2, "")
    assert "row 2: column 'text' holds int" in err
    (tmp_path / "t.jsonl").write_text('{"text": "aa"}\n{"text": ' + "[" * 99_999 + "\n")
    code, _, err = call("predict", str(exported), "--file", str(tmp_path / "t.jsonl"))
    assert (code, "line 2 is not JSON" in err) == (2, True)


def test_a_wrong_row_far_down_leaves_no_half_of_a_document(exported, call, tmp_path, monkeypatch):
    monkeypatch.setattr("tlm_search.export.texts.CHUNK", 4)
    (tmp_path / "t.csv").write_text("text\n" + "aa\n" * 9 + "aa,ba\n")
    code, out, err = call("predict", str(exported), "--file", str(tmp_path / "t.csv"), "--json")
    assert (code, out, "line 11: 2 fields" in err) == (2, "", True)


def test_standard_input_that_was_closed_is_one_message(exported, call, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    code, out, err = call("predict", str(exported))
    assert (code, out, "standard input is closed" in err) == (2, "", True)
