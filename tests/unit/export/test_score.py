"""``predict --label`` gives the study's own test figures to the last digit, and reports what a table lacks."""

import csv
import json
from dataclasses import replace

import builders
import numpy as np
import pytest
import torch
from finished import LABELS, SHAPE
from typer.testing import CliRunner

from tlm_search.cli.main import app
from tlm_search.committee.calibration import UNCALIBRATED
from tlm_search.committee.select import select
from tlm_search.committee.vote import soft_vote
from tlm_search.data.prepare import prepare
from tlm_search.data.tokens import TokenArray
from tlm_search.export.choose import choose
from tlm_search.export.committee import Committee
from tlm_search.export.score import score
from tlm_search.export.write import export_committee
from tlm_search.members.bert_trainer import BertTrainer
from tlm_search.report.evidence import Evidence
from tlm_search.search.trial import run_trial
from tlm_search.space.settings import complete
from tlm_search.store.local import Store
from tlm_search.study.record import TrialRecord

CODES = ["007", "7", "NA"]
WORDS = {code: [f"{first}{vowel}" for vowel in "aeiou"] for code, first in zip(CODES, "bcd", strict=True)}
TRIED = 3  # members


def write_table(file, header, rows):
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return file


def texts_of(code, count, *, seed):
    """Yield texts in which every other word is of any label; one text in three is longer than the study reads."""
    generator = np.random.default_rng(seed)
    other = [word for words in WORDS.values() for word in words]
    for number in range(count):
        words = int(generator.integers(1, 6)) + 20 * (number % 3 == 0)
        yield " ".join(
            np.where(np.arange(words) % 2, generator.choice(other, words), generator.choice(WORDS[code], words))
        )


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A study on its own files: its record, its store and its test file, which has the faults of real ones."""
    here = tmp_path_factory.mktemp("studied")
    rows = [(text, code) for number, code in enumerate(CODES) for text in texts_of(code, 30, seed=number)]
    train = write_table(here / "train.csv", ["body", "team"], rows)
    rows = [(text, code) for number, code in enumerate(CODES) for text in texts_of(code, 25, seed=10 + number)]
    rows += [*rows[:7], ("", "7"), ("  ", "007"), ("ba", "007"), ("ba", "NA"), ("BA ", " 7 "), ("???", "NA")]
    test = write_table(
        here / "test.csv", ["id", "team", "body"], [(i, code, text) for i, (text, code) in enumerate(rows)]
    )
    task = {"source": str(train), "test_source": str(test), "text": "body", "label": "team"}
    settings = complete({**SHAPE, "pretrain_size": 0, "committee_size": TRIED})
    sections = {"task": task, "corpus": {"source": str(train), "text": "body"}}
    sections |= {"tokenizer": {"vocabulary": 64, "length": 8}, "search": {**SHAPE, "pretrain_size": 0}}
    record = builders.study([], name="studied", folder=here / "studied", reference=None, **sections)
    data, store = prepare(record.space, here / ".store"), Store(here / ".store")
    *_, rung = run_trial(settings, seed=0, data=data, store=store, trainer=BertTrainer(threads=1, device="cpu"))
    trial = TrialRecord(
        number=0,
        state="complete",
        settings=settings,
        metrics=rung.metrics,
        frontier=tuple(rung.frontier),
        members=tuple(rung.members),
    )
    return replace(record, trials=(trial,), labels=data.labels, data=data.to_document()), store, test, len(rows)


def predict(*arguments):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], catch_exceptions=False)


def scored(*arguments):
    return json.loads(predict(*arguments, "--json").stdout)["score"]


@pytest.mark.parametrize("size", [TRIED, TRIED - 1, 1])
def test_the_score_is_the_test_figure_of_the_study(studied, tmp_path, size):
    record, store, test, rows = studied
    evidence = Evidence(record, store)
    written = export_committee(record, store, choose(record, evidence, number=0, size=size), out=tmp_path / "out")
    found = scored(tmp_path / "out", "--file", test, "--label", "team")
    assert (found["rows"], found["scored"], record.data["rows"]["test"]) == (rows, rows, rows)
    assert (found["without_text"], found["without_label"], found["unknown_labels"]) == (2, 0, {})
    assert (found["accuracy"], *found["accuracy_interval"]) == written.facts.reached("test")
    (trial,) = record.trials
    # If figures are means over committees, `best` and the report also give those of the members that are exported.
    of_size = replace(
        trial, frontier=tuple(row.having({"validation_accuracy": row.size == size}) for row in trial.frontier)
    )
    selection = select([of_size], None, logits_of=evidence.logits_of)
    (choice,) = selection.choices
    assert (choice.candidate.size, choice.to_document()["exported_test_accuracy"]) == (size, found["accuracy"])
    assert any("which are exported, have" in reason for reason in selection.reasons) == (size < TRIED)
    if size == TRIED:
        assert found["accuracy"] == choice.candidate.test_accuracy == trial.metrics["test_accuracy"]
        assert found["macro_f1"] == trial.metrics["test_macro_f1"] == trial.frontier[-1].figures["test_macro_f1"]


@pytest.fixture(scope="module")
def teams(studied, tmp_path_factory):
    record, store, _, _ = studied
    out = tmp_path_factory.mktemp("teams") / "out"
    export_committee(record, store, choose(record, Evidence(record, store), number=0), out=out)
    return out


def test_an_export_knows_the_columns_of_its_study(teams, exported, studied, call, tmp_path):
    from tlm_search import SoftCommittee

    assert Committee.load(teams).columns == {"text": "body", "label": "team"}
    assert SoftCommittee.from_pretrained(teams).config.columns == {"text": "body", "label": "team"}
    # An export of an earlier version names no columns.
    assert Committee.load(exported).columns == {}
    assert len(json.loads(predict(teams, "--file", studied[2], "--json").stdout)) == studied[3]
    file = write_table(tmp_path / "t.csv", ["text", "team"], [("ba", "7")])
    for options in ([], ["--label", "team"]):
        code, out, err = call("predict", str(teams), "--file", str(file), *options)
        assert (code, out) == (2, "")
        assert "there is no column 'body'; its columns are: text, team" in err
        assert "in the study text was 'body'" in err
    assert predict(teams, "--file", file, "--text", "text").exit_code == 0


def test_what_a_table_lacks_is_counted_and_said(exported, tmp_path):
    known = LABELS[1]
    rows = [("aa ea", known), ("", known), ("ba be", ""), ("", " "), ("ca", "none such"), ("ce", "x"), ("ci", "x")]
    file = write_table(tmp_path / "t.csv", ["text", "label"], rows)
    document = json.loads(predict(exported, "--file", file, "--label", "label", "--json").stdout)
    assert document["answers"] == json.loads(predict(exported, "--file", file, "--json").stdout)
    found, said = document["score"], [answer["label"] for answer in document["answers"]]
    counts = {name: found[name] for name in ("rows", "scored", "without_text", "without_label", "unknown_labels")}
    unknown = {"x": 2, "none such": 1}
    assert counts == {"rows": 7, "scored": 5, "without_text": 1, "without_label": 2, "unknown_labels": unknown}
    right = sum(answer == known for answer in said[:2])
    assert (found["right"], found["accuracy"], found["accuracy_of_known_labels"]) == (right, right / 5, right / 2)
    assert [row["label"] for row in found["labels"]] == [*LABELS, "none such", "x"]
    assert [row["recall"] for row in found["labels"][3:]] == [0, 0]
    printed = " ".join(predict(exported, "--file", file, "--label", "label").stdout.split())
    assert "5 of 7 in" in printed
    assert "1 without a text are answered as empty texts; 2 without a label are left out" in printed
    assert "3 rows of labels that the committee does not know count as wrong: x 2, none such 1;" in printed


def test_figures_of_each_label_and_confusions():
    true, said = ["a", "a", "a", "b", "b", "c", ""], ["a", "b", "b", "b", "a", "b", "a"]
    found = score(["a", "b", "c", "d"], ["t"] * 7, true, said)
    assert [(row.label, row.rows, row.precision, row.recall, row.f1) for row in found.labels] == [
        ("a", 3, 1 / 2, pytest.approx(1 / 3), pytest.approx(0.4)),
        ("b", 2, 1 / 4, 1 / 2, pytest.approx(1 / 3)),
        ("c", 1, None, 0, 0),
        ("d", 0, None, None, None),
    ]
    assert found.macro_f1 == pytest.approx((0.4 + 1 / 3) / 3)
    confused = [(pair.label, pair.predicted, pair.rows) for pair in found.confusions]
    assert confused == [("a", "b", 2), ("b", "a", 1), ("c", "b", 1)]
    low, high = found.accuracy_interval
    assert low < found.accuracy == 1 / 3 < high


def test_the_table_names_each_label_and_the_largest_confusions(teams, studied):
    out = predict(teams, "--file", studied[2], "--label", "team").stdout
    found = scored(teams, "--file", studied[2], "--label", "team")
    assert f"accuracy  {100 * found['accuracy']:.1f}% (" in out
    assert f"macro F1  {found['macro_f1']:.3f}\n" in out
    lines = [line.split() for line in out.splitlines()]
    for row in found["labels"]:
        assert [row["label"], str(row["rows"])] in [line[:2] for line in lines]
    largest = found["confusions"][0]
    assert [largest["label"], largest["predicted"], str(largest["rows"])] in lines


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("text,team\naa,b\n", ["--label", "label"], "no column 'label'; its columns are: text, team"),
        ("text,team\naa,b\n", ["--label", "text"], "column 'text' is given as the text and as the label"),
        ("text,team\naa,b\n", ["--label", "team", "--text", "team"], "is given as the text and as the label"),
        ("", ["--label", "team"], "no column 'text'; its columns are: none"),
        ("text,team\n", ["--label", "team"], "it has no rows"),
        ("text,team\naa,\nbb, \n", ["--label", "team"], "column 'team' has no label in any of 2 rows"),
        ("text,team\naa,b\nbb\n", ["--label", "team"], "line 3: 1 fields"),
        (None, ["--label", "team"], "--label needs --file"),
    ],
)
@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_bad_input_is_one_message(exported, tmp_path, call, content, options, words, json_):
    (tmp_path / "t.csv").write_text(content or "")
    file = [] if content is None else ["--file", str(tmp_path / "t.csv")]
    code, out, err = call("predict", str(exported), *file, *options, *json_)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_members_that_are_sure_of_different_labels_vote_as_in_the_study(exported):
    """In float32 both members would be equally sure, and the first label would win."""
    committee = Committee.load(exported)
    logits = np.zeros((committee.size, 3), np.float32)
    logits[0, 0], logits[1, 2], logits[2:] = 30, 40, 0
    (stack,) = committee.stacks
    weights = {**stack.weights, "classifier.weight": torch.zeros_like(stack.weights["classifier.weight"])}
    weights["classifier.bias"] = torch.from_numpy(logits).view_as(stack.weights["classifier.bias"])
    sure = replace(committee, stacks=(replace(stack, weights=weights),), calibration=UNCALIBRATED)
    tokens = TokenArray(np.array([2, 3], np.int32), np.array([0, 2]))
    expected = soft_vote(logits[:, None])
    found = sure.answers_to_tokens(tokens).probabilities
    assert found.argmax(-1) == expected.argmax(-1) == 2
    np.testing.assert_allclose(found, expected, atol=1e-6)
