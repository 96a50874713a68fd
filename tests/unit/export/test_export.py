"""An exported committee answers as the study's members did, alone and together, and notices every change."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import builders
import numpy as np
import pytest
import torch
from finished import LABELS, LENGTH, SHAPE, finished_study

from tlm_search.api import Study
from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import encode, open_tokenizer
from tlm_search.errors import ExportError
from tlm_search.export import card as cards
from tlm_search.export.choose import choose
from tlm_search.export.committee import Committee, markers_of
from tlm_search.export.write import export_committee
from tlm_search.members.bert_trainer import BertTrainer
from tlm_search.members.spec import teaching_of
from tlm_search.report.evidence import Evidence
from tlm_search.search.trial import run_trial
from tlm_search.space.settings import complete


def export(finished, out, **choice):
    chosen = choose(finished.record, Evidence(finished.record, finished.store), **choice)
    return export_committee(finished.record, finished.store, chosen, out=out)


def test_the_committee_equals_the_vote_of_the_stored_logits(finished, exported):
    committee = Committee.load(exported)
    answers = committee.answers(finished.texts)
    expected = finished.answers()
    assert answers.probabilities.dtype == np.float32
    np.testing.assert_allclose(answers.probabilities, expected, atol=1e-4)
    np.testing.assert_allclose(committee.answers(finished.texts, threads=2).probabilities, expected, atol=1e-4)
    differ = finished.logits.argmax(-1) != expected.argmax(-1)
    np.testing.assert_allclose(answers.disagreement, differ.mean(0), atol=1e-6)
    assert committee.labels == LABELS
    assert committee.check() < 1e-5


@pytest.mark.parametrize("settings", [{"pooling": "mean"}, {"convolution_layers": 1}, {"normalisation": "pre"}])
def test_members_without_a_form_in_transformers_are_left_out_and_the_card_says_why(tmp_path, settings, monkeypatch):
    finished = finished_study(tmp_path, **settings)
    exported = export(finished, tmp_path / "out", number=0, size=2)
    assert not exported.plain_members
    assert not (tmp_path / "out" / "members").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "There is no folder `members/`" in card
    assert "by their mean over the 3 members that were trained" in card
    committee, expected = Committee.load(tmp_path / "out"), finished.answers(2)
    np.testing.assert_allclose(committee.probabilities(finished.texts), expected, atol=1e-4)
    # Many texts are answered by one member after the other, with tables of the first layer unless these are too large.
    monkeypatch.setattr("tlm_search.export.committee.STACKED_TOKENS", 0)
    np.testing.assert_allclose(committee.probabilities(finished.texts), expected, atol=1e-4)
    assert ("_looking_up" in vars(committee)) == ("pooling" in settings)
    monkeypatch.setattr("tlm_search.model.inference.LOOKUP_BYTES", 0)
    np.testing.assert_allclose(committee.probabilities(finished.texts), expected, atol=1e-4)


def test_a_member_alone_is_a_plain_bert(finished, exported):
    from transformers import BertForSequenceClassification

    tokenizer = open_tokenizer(exported / "members" / "1")
    settings = json.loads((exported / "members" / "1" / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == LENGTH
    model = BertForSequenceClassification.from_pretrained(exported / "members" / "1").eval()
    assert model.config.id2label == dict(enumerate(LABELS))
    for text, expected in zip(finished.texts[:5], finished.logits[1], strict=False):
        ids = torch.tensor(list(encode(tokenizer, [text], length=LENGTH)))
        with torch.inference_mode():
            np.testing.assert_allclose(model(ids).logits[0], expected, atol=1e-4)


def test_layers_that_share_their_weights_are_repeated_for_a_plain_bert(tmp_path):
    from transformers import BertForSequenceClassification

    finished = finished_study(tmp_path, depth=3, layer_weights="shared")
    assert export(finished, tmp_path / "out", number=0, size=2).plain_members
    found = Committee.load(tmp_path / "out").probabilities(finished.texts)
    np.testing.assert_allclose(found, finished.answers(2), atol=1e-4)
    tokenizer = open_tokenizer(tmp_path / "out")
    model = BertForSequenceClassification.from_pretrained(tmp_path / "out" / "members" / "1").eval()
    ids = torch.tensor(list(encode(tokenizer, finished.texts[:1], length=LENGTH)))
    with torch.inference_mode():
        np.testing.assert_allclose(model(ids).logits[0], finished.logits[1, 0], atol=1e-4)


@pytest.mark.parametrize("name", ["config.json", "labels.json", "model.safetensors", "check.json", "tokenizer.json"])
@pytest.mark.parametrize("harm", ["changed", "truncated", "missing"])
def test_a_damaged_export_is_one_clear_error(exported, tmp_path, name, harm):
    folder = shutil.copytree(exported, tmp_path / "copy")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content if harm == "changed" else content[:-7])
    with pytest.raises(ExportError, match=rf"damaged: {name} (was changed|has .* bytes instead of|is missing)"):
        Committee.load(folder)


def test_the_card_may_be_edited_and_a_broken_manifest_may_not(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "copy")
    (folder / "README.md").write_text("mine")
    Committee.load(folder)
    (folder / "manifest.json").write_text('{"files": {}}')
    with pytest.raises(ExportError, match=r"damaged: manifest.json does not name config.json"):
        Committee.load(folder)
    (folder / "manifest.json").write_text('{"format": 4}')
    with pytest.raises(ExportError, match="it has format 4"):
        Committee.load(folder)


def test_other_answers_than_expected_are_noticed(exported):
    committee = Committee.load(exported)
    committee.expected["probabilities"][0][0] += 0.1
    with pytest.raises(ExportError, match="does not answer as it did"):
        committee.check()


def test_members_that_learned_other_data_are_not_exported(finished, tmp_path):
    root = shutil.copytree(finished.store.root, tmp_path / "store")
    texts = [text.tolist() for text in TokenArray.open(root / "test")]
    TokenArray.write(root / "test", texts[::-1], vocabulary=100)
    moved = replace(finished, store=type(finished.store)(root))
    with pytest.raises(ExportError, match="does not answer as it did in the study: probabilities differ by 0"):
        export(moved, tmp_path / "out", number=0)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_the_card_has_the_facts_and_no_path_of_the_machine(exported, finished):
    card = (exported / "README.md").read_text()
    assert "[E1]" not in card
    for part in ("test accuracy (95% interval", "calibration", "0.5 ms", "FLOPs", "## Limits", "`tickets.csv`"):
        assert part in card
    assert "someone" not in card
    assert "by their mean" not in card  # the export has all members
    assert str(finished.store.root) not in "".join(f.read_text() for f in exported.glob("*.json"))


def test_the_card_names_the_accuracy_of_the_linear_model(finished, exported, tmp_path):
    assert "linear model" not in (exported / "README.md").read_text()
    linear = builders.baseline()
    export(replace(finished, record=replace(finished.record, baseline=linear)), tmp_path / "out", number=0)
    card = (tmp_path / "out" / "README.md").read_text()
    accuracy = f"{100 * linear.metrics['test_accuracy']:.1f}%"
    assert "a linear model (logistic regression, TF-IDF of words, C = 10), fitted to the same training texts" in card
    assert f"which reaches {accuracy} on the same test texts (" in card


@pytest.mark.parametrize(("epochs", "start"), [(0, "word vectors from the counts of the first"), (3, "the first")])
def test_the_card_tells_counts_alone_from_pre_training(epochs, start):
    pretrained = {"documents": 2000, "settings": {"epochs": epochs}}
    data = builders.prepared_data(
        Path(), rows=dict.fromkeys(("train", "validation", "test"), 9), length=8, vocabulary=9, labels=()
    )
    facts = SimpleNamespace(data=data, documents=[{"spec": {"pretrained": pretrained}}])
    assert f"- Pre-training: {start} 2,000 documents of `made-up texts`." in cards._data(facts)


@pytest.mark.parametrize(
    ("dropped", "words"),
    [
        (
            {"repeated": 1, "held_out": 2},
            " The data have 1,030 rows; not used: 1 repeated, 2 that validation or test has too.",
        ),
        ({}, " The data have 1,030 rows; all are used."),
        (None, ""),
    ],
)
def test_the_card_accounts_for_each_row(dropped, words):
    rows = {"train": 1_000, "validation": 12, "test": 15}
    account = {} if dropped is None else {"available": 1_030, **rows, "dropped": dropped}
    data = builders.prepared_data(Path(), rows=rows, length=8, vocabulary=9, labels=(), account=account)
    facts = SimpleNamespace(data=data, documents=[{"spec": {"pretrained": None}}])
    said = f"1,000 texts to train, 12 to choose by (validation), 15 to report (test).{words}\n"
    assert said in cards._data(facts)


def test_nothing_is_overwritten_and_nothing_is_left_behind(finished, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="not empty"):
        export(finished, tmp_path / "full", number=0)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="not a folder"):
        export(finished, tmp_path / "file", number=0)
    trial = finished.record.trials[0]
    gone = type(trial)(**{**vars(trial), "members": ("0" * 32,)})
    study = type(finished.record)(**{**vars(finished.record), "trials": (gone,)})
    with pytest.raises(ExportError, match="is missing or damaged in the store"):
        export(replace(finished, record=study), tmp_path / "out", number=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
    (tmp_path / "empty").mkdir()
    export(finished, tmp_path / "empty", number=0, size=1)
    assert Committee.load(tmp_path / "empty").size == 1


def test_a_process_that_is_told_to_end_leaves_nothing_behind(tmp_path):
    code = """import signal, sys, threading
from pathlib import Path
from tlm_search.export.folder import new_export
def export(name):
    with new_export(Path(sys.argv[1]) / name) as folder:
        (folder / "config.json").write_text("{}")
        if name == "told":
            signal.raise_signal(signal.SIGTERM)
thread = threading.Thread(target=export, args=["thread"])  # which can have no handler of signals
thread.start()
thread.join()
export("main")
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
export("told")"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main", "thread"]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("tokenizer/tokenizer.json", lambda raw: raw.replace(b'"ba"', b'"zz"'), "was changed after the study ran"),
        ("tokenizer/tokenizer.json", lambda raw: raw[:-9], "was changed after the study ran"),
        ("tokenizer/tokenizer_config.json", lambda raw: raw[:-9], "was changed after the study ran"),
        ("test/labels.npy", lambda raw: raw[:-9], "the labels of the study tiny cannot be read"),
        ("test/labels.npy", lambda _: b"", "the labels of the study tiny cannot be read"),
    ],
)
def test_damaged_data_are_one_message_and_nothing_is_written(finished, tmp_path, name, damage, message):
    root = shutil.copytree(finished.store.root, tmp_path / "store")
    (root / name).write_bytes(damage((root / name).read_bytes()))
    moved = replace(finished, store=type(finished.store)(root))
    with pytest.raises(ExportError, match=message):
        export(moved, tmp_path / "out", number=0)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"number": 7}, "no such trial"),
        ({"number": 1}, "the trial is failed"),
        ({"size": 4}, "has 3 members"),
        ({"size": 0}, "--size 0"),
    ],
)
def test_a_choice_that_is_not_there_is_refused(finished, choice, message):
    with pytest.raises(ExportError, match=message):
        choose(finished.record, Evidence(finished.record, finished.store), **choice)


def test_texts_of_every_kind_get_an_answer(exported):
    committee = Committee.load(exported)
    texts = ["", "aa " * 100_000, "x" * 100_000, "\udcff", "日本\0\n", "aa ba"]
    found = committee.probabilities(texts)
    assert found.shape == (6, 3)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(committee.probabilities(["aa ba"])[0], found[5], atol=1e-5)
    assert committee.probabilities([]).shape == (0, 3)
    with pytest.raises(TypeError):
        committee.probabilities("one text")


@pytest.mark.parametrize(
    ("more", "said", "cost"),
    [
        ({}, "Its members were self-trained: fine-tuned on the mean probabilities of 3 teachers", "The committee that"),
        (
            {"linear_member": True, "student_linear": "teachers", "student_epochs": 0},
            "Its linear model was self-trained: fitted to the most probable labels by 3 teachers",
            "The search around",
        ),
    ],
    ids=["students", "linear"],
)
def test_the_card_says_who_was_taught_and_on_how_many_texts(finished, tmp_path, more, said, cost):
    """Self-trained members are exported like others."""
    record, store = finished.record, finished.store
    data = PreparedData.from_document(record.data, store.root)
    data = replace(
        data,
        unlabelled="test",
        unlabelled_texts={"available": 20, "used": 18, "held_out": 2, "repeated": 0},
        unlabelled_fingerprint="texts",
        unlabelled_name="/home/someone/more.csv",
    )
    settings = complete({**SHAPE, "pretrain_size": 0, "committee_size": 2, "self_training": 1, "teachers": 3, **more})
    at = {"seed": 0, "data": data, "store": store, "trainer": BertTrainer(threads=1, device="cpu")}
    *_, rung = run_trial(settings, **at)
    trial = replace(record.trials[0], settings=settings, members=tuple(rung.members), frontier=tuple(rung.frontier))
    record = replace(record, trials=(trial,), data=data.to_document())
    chosen = choose(record, Evidence(record, store), number=0)
    export_committee(record, store, chosen, out=tmp_path / "out")
    committee = Committee.load(tmp_path / "out")
    assert (committee.size, committee.check() < 1e-5) == (2, True)
    card = (tmp_path / "out" / "README.md").read_text()
    assert said in card
    assert "on 24 training texts and 18 unlabelled ones" in card
    assert "Unlabelled texts: 18 of `more.csv`. Texts that validation or test has were left out (2)." in card
    assert cost in card
    spec = store.read("members", rung.members[0]).document["spec"]
    assert all(f"`{digest}`" in card for digest in teaching_of(spec)["teachers"])
    assert "/home/someone" not in card


def test_the_command_says_what_works_without_members_for_transformers_alone(tmp_path, call, monkeypatch):
    finished = finished_study(tmp_path, pooling="mean")
    monkeypatch.setattr(Study, "open", lambda *_, **__: Study(finished.record))
    code, out, err = call("export", "tiny", "--trial", "0", "--out", str(tmp_path / "out"))
    assert (code, err) == (0, "")
    assert "the committee works in predict, serve, ONNX and SoftCommittee\nonly the folder members/" in out
    assert "left out: `BertForSequenceClassification` does not pool by the mean of the tokens\n" in out


def test_a_committee_that_reads_spans_carries_its_markers(tmp_path):
    from transformers import AutoModelForSequenceClassification, pipeline

    from tlm_search import SoftCommittee

    finished = finished_study(tmp_path, marked=True, pooling="spans")
    exported = export(finished, tmp_path / "out", number=0)
    assert not exported.plain_members
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["pooling"], config["markers"]) == ("spans", [35, 36, 37, 38])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`The [E1] cat [/E1] sat on the [E2] mat [/E2].`" in card
    assert "There is no folder `members/`: `BertForSequenceClassification` does not pool marked entities apart." in card
    committee, expected = Committee.load(tmp_path / "out"), finished.answers()
    assert committee.check() < 1e-5
    assert any("[E1]" in text for text in committee.expected["texts"])
    np.testing.assert_allclose(committee.probabilities(finished.texts), expected, atol=1e-5)
    unmarked = [text.replace("[E1] ", "") for text in finished.texts]
    assert np.abs(committee.probabilities(unmarked) - expected).max() > 1e-3  # the head is pooled separately
    model = SoftCommittee.from_pretrained(tmp_path / "out")
    np.testing.assert_allclose(model.probabilities(finished.texts), expected, atol=1e-5)
    classify = pipeline("text-classification", str(tmp_path / "out"))
    for batch_size in (1, 5):
        found = classify(finished.texts, truncation=True, top_k=None, batch_size=batch_size)
        by_label = [{answer["label"]: answer["score"] for answer in row} for row in found]
        np.testing.assert_allclose([[row[label] for label in LABELS] for row in by_label], expected, atol=1e-5)
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "again")
    ids = torch.tensor([[2, 35, 5, 36, 9, 37, 6, 38, 3]])
    torch.testing.assert_close(again(ids).logits, model(ids).logits)


@pytest.mark.parametrize("markers", [None, [1, 2, 3], "abcd"])
def test_spans_without_their_four_markers_are_damage(markers):
    config = {"pooling": "spans", "markers": markers}
    with pytest.raises((TypeError, ValueError)):
        markers_of(config)
    assert markers_of({"pooling": "mean"}) is None
