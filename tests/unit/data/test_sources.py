from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tlm_search.data.corpora import load_corpus
from tlm_search.data.markers import is_marked
from tlm_search.data.prepare import changed_sources
from tlm_search.data.rows import Labelled
from tlm_search.data.sources import hub
from tlm_search.data.sources.place import DATA_DIR, hub_fingerprint, local_place, source_fingerprint, use_data_dir
from tlm_search.data.sources.source import load_labelled, load_validation
from tlm_search.data.tasks import load_task
from tlm_search.errors import DataError
from tlm_search.space.sections import CorpusSection
from tlm_search.space.task import TaskSection


def _hub_folder(root: Path) -> Path:
    folder = root / "hub"
    folder.mkdir()
    for split, count in (("train", 30), ("test", 12)):
        rows = [{"text": f"{split} text {i}", "label": i % 2, "note": "n"} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_folder_of_text_files_is_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "1.txt").write_text("three")
    (folder / "a.txt").write_text("one\n\ntwo")
    (folder / "README.md").write_text("not data")
    (folder / ".hidden.txt").write_text("not data")
    assert load_corpus(CorpusSection(source=str(folder)), tmp_path).documents == ["one", "two", "three"]


def test_a_local_file_keeps_its_order_without_its_blanks(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    file.write_text('{"body": "one"}\n{"body": "  "}\n{"body": null}\n{"body": "two"}\n{"body": "three"}\n')
    assert load_corpus(CorpusSection(source=str(file), text="body", documents=2), tmp_path).documents == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "documents", "message"),
    [
        ('{"text": "one"}', 2, "documents asks for 2, but it has 1"),
        ('{"text": " "}', None, "it has no text"),
        ('{"text": 7}', None, "column 'text' holds int, not text"),
        ('{"body": "x"}', None, "no column 'text'; its columns are: body"),
    ],
)
def test_bad_corpora(tmp_path: Path, content: str, documents: int | None, message: str) -> None:
    (tmp_path / "c.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        load_corpus(CorpusSection(source=str(tmp_path / "c.jsonl"), documents=documents), tmp_path)


def test_a_folder_in_the_hubs_layout(tmp_path: Path) -> None:
    folder = str(_hub_folder(tmp_path))
    corpus = load_corpus(CorpusSection(source=folder, split="test", documents=3), tmp_path / "cache")
    assert corpus.documents == ["test text 0", "test text 1", "test text 2"]
    train, test = load_labelled(TaskSection(source=folder), tmp_path / "cache")
    assert (len(train.texts), train.labels[:3]) == (30, ["0", "1", "0"])
    assert test is not None
    assert len(test.texts) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_split": "tran"}, "no split 'tran'"),
        ({"test_split": "validation"}, "no split 'validation'"),
        ({"label": "klass"}, "no column 'klass'; its columns are: text, label, note"),
        ({"config": "en"}, "'en' not found"),
        ({"format": "fewrel"}, "format fewrel needs a file"),
    ],
)
def test_bad_folders(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_labelled(TaskSection(source=str(_hub_folder(tmp_path)), **options), tmp_path / "cache")
    assert "split" not in message or "its splits are: " in str(caught.value)


def test_a_damaged_folder(tmp_path: Path) -> None:
    folder = _hub_folder(tmp_path)
    (folder / "train.jsonl").write_text('{"text')
    with pytest.raises(DataError, match=r"train\.jsonl: line 1 is not JSON"):
        load_labelled(TaskSection(source=str(folder)), tmp_path / "cache")


def test_without_a_test_split_test_is_cut_from_train(tmp_path: Path) -> None:
    folder = _hub_folder(tmp_path)
    (folder / "test.jsonl").unlink()
    assert load_labelled(TaskSection(source=str(folder)), tmp_path / "cache")[1] is None


def test_a_test_file(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\n,x\nb,\nc,y\n")
    (tmp_path / "test.csv").write_text("text,label\nd,x\n")
    section = TaskSection(source=str(tmp_path / "train.csv"), test_source=str(tmp_path / "test.csv"))
    train, test = load_labelled(section, tmp_path)
    assert (train.texts, train.labels) == (["a", "", "b", "c"], ["x", "x", "", "y"])
    assert test is not None
    assert test.texts == ["d"]


def test_a_validation_file_or_split(tmp_path: Path) -> None:
    for name in ("train", "validation"):
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{name},x\n")
    section = TaskSection(source=str(tmp_path / "train.csv"))
    assert load_validation(section, tmp_path) is None
    section = TaskSection(source=section.source, validation_source=str(tmp_path / "validation.csv"))
    assert load_validation(section, tmp_path) == Labelled(["validation"], ["x"])
    folder = _hub_folder(tmp_path)
    assert load_validation(TaskSection(source=str(folder)), tmp_path / "cache") is None
    shutil.copy(folder / "test.jsonl", folder / "validation.jsonl")
    read = load_validation(TaskSection(source=str(folder)), tmp_path / "cache")
    assert read is not None
    assert len(read.texts) == 12
    of_test = TaskSection(source=str(folder), test_split="validation")  # a split cannot be both
    assert load_validation(of_test, tmp_path / "cache") is None


def test_labels_are_texts_as_written(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    labels = [1, 2.0, 2.5, True, "  x ", None, ""]
    file.write_text("".join(json.dumps({"text": f"t{i}", "label": label}) + "\n" for i, label in enumerate(labels)))
    assert load_labelled(TaskSection(source=str(file)), tmp_path)[0].labels == ["1", "2", "2.5", "true", "x", "", ""]


def _fewrel(file: Path) -> Path:
    value = {
        relation: [
            {"tokens": ["a", "b", str(i)], "h": ["head", "Q1", [[0]]], "t": ["tail", "", [[1]]]} for i in range(9)
        ]
        for relation in ("P1", "P2")
    }
    file.write_text(json.dumps(value))
    return file


def test_fewrel_is_known_by_its_layout(tmp_path: Path) -> None:
    train, test = load_labelled(TaskSection(source=str(_fewrel(tmp_path / "f.json"))), tmp_path)
    assert test is None
    assert (train.texts[0], train.labels[0], train.labels[-1]) == ("head ; tail ; a b 0", "P1", "P2")


def test_fewrel_takes_the_names_that_lie_beside(tmp_path: Path) -> None:
    (tmp_path / "pid2name.json").write_text('{"P1": ["father", "male parent"]}')
    section = TaskSection(
        source=str(_fewrel(tmp_path / "f.json")),
        format="fewrel",
        train_per_label=2,
        validation_per_label=2,
        test_per_label=2,
    )
    with pytest.raises(DataError, match="too few"):  # the two relations have the same sentences
        load_task(section, tmp_path)
    assert set(load_labelled(section, tmp_path)[0].labels) == {"father", "P2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "it does not have FewRel's layout"), ('{"P1": [{"tokens": [], "h": [], "t": []}]}', "P1, instance 1")],
)
def test_bad_fewrel(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "f.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load_labelled(TaskSection(source=str(tmp_path / "f.json"), format="fewrel"), tmp_path)


def _marked(file: Path, head: object, tail: object) -> str:
    instance = {"tokens": ["a", "b", "c", "d"], "h": ["head", "Q1", head], "t": ["tail", "Q2", tail]}
    file.write_text(json.dumps({"P1": [instance]}))
    return load_labelled(TaskSection(source=str(file), entities="marked"), file.parent)[0].texts[0]


@pytest.mark.parametrize(
    ("head", "tail", "text"),
    [
        ([[1]], [[3]], "a [E1] b [/E1] c [E2] d [/E2]"),
        ([[2, 3], [0]], [[0]], "[E2] a [/E2] b [E1] c d [/E1]"),  # the first mention counts
        ([[1]], [[2]], "a [E1] b [/E1] [E2] c [/E2] d"),
        ([[1, 2]], [[1]], "a [E1] [E2] b [/E2] c [/E1] d"),
        ([[2]], [[1, 2]], "a [E2] b [E1] c [/E1] [/E2] d"),
        ([[1]], [[1, 2]], "a [E2] [E1] b [/E1] c [/E2] d"),
        ([[0, 1]], [[1, 2]], "[E1] a [E2] b [/E1] c [/E2] d"),
        ([[1]], [[1]], "a [E1] [E2] b [/E2] [/E1] c d"),
    ],
)
def test_the_entities_of_fewrel_are_marked_where_they_are_mentioned_first(
    tmp_path: Path, head: object, tail: object, text: str
) -> None:
    assert _marked(tmp_path / "f.json", head, tail) == text
    assert is_marked(text)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ([], "P1, instance 1: h has the positions \\[\\] in a sentence of 4 tokens"),
        ([[]], "h has the positions"),
        ([[4]], "h has the positions \\[4\\]"),
        ([[-1]], "h has the positions"),
        ([["1"]], "h has the positions"),
        (None, "h has the positions"),
        ([3], "it lacks tokens, h or t"),
    ],
)
def test_an_entity_without_a_place_cannot_be_marked(tmp_path: Path, head: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _marked(tmp_path / "f.json", head, [[0]])


def test_texts_of_other_files_must_hold_the_markers(tmp_path: Path) -> None:
    good = "the [E2] mat [/E2] under [E1] cat [/E1]"
    bad = ["no markers", "[E1] a [/E1] b", "[/E1] a [E1] [E2] b [/E2]", f"{good} [E1] again"]
    assert is_marked(good)
    assert not any(map(is_marked, bad))
    file = tmp_path / "t.csv"
    sizes = {"train_per_label": 2, "validation_per_label": 1, "test_per_label": 1}
    section = TaskSection(source=str(file), entities="marked", **sizes)

    def write(texts: list[str]) -> None:
        file.write_text("text,label\n" + "".join(f"{text},{i % 2}\n" for i, text in enumerate(texts)))

    numbered = [f"{good} number {i}" for i in range(8)]
    write(numbered)
    assert set(load_task(section, tmp_path).train.texts) < set(numbered)
    write([*numbered, *bad])
    with pytest.raises(DataError, match=r"4 of 12 texts do not have each of the markers .*'no markers'") as caught:
        load_task(section, tmp_path)
    assert "[E1] cat [/E1]" in str(caught.value.hint)
    write(numbered)
    (tmp_path / "test.csv").write_text("text,label\n" + "plain text,0\n")
    with pytest.raises(DataError, match="1 of 1 texts do not have"):
        load_task(section.model_copy(update={"test_source": str(tmp_path / "test.csv")}), tmp_path)


@pytest.mark.parametrize("source", ["./none", "/none/at/all", "none.csv", "~/none", "a/b/c", "with space"])
def test_missing_paths_are_told_from_ids(source: str) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        local_place(source)
    assert local_place("owner/name") is None


@pytest.mark.parametrize("load", [hub.load_hub_tokenizer, lambda name: hub.open_splits(name, config=None)])
def test_without_a_network_one_clear_message(load: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: False)
    with pytest.raises(DataError, match="not on this machine, and the Hugging Face hub cannot be reached"):
        load("no-such-owner/no-such-name")  # type: ignore[operator]


def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.create_connection", None)
    assert hub.hub_is_reachable.__wrapped__() is False


def test_a_data_set_of_the_hub_is_shuffled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    split = datasets.Dataset.from_dict({"text": [str(i) for i in range(20)]})
    monkeypatch.setattr(hub, "open_splits", lambda *_, **__: {"train": split})
    section = CorpusSection(source="owner/name", documents=5)
    assert load_corpus(section, tmp_path).documents == split.shuffle(seed=42)["text"][:5]


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    file = tmp_path / "c.txt"
    file.write_text("one")
    first = source_fingerprint(str(file), tmp_path / "cache")
    os.utime(file, (1, 1))
    assert source_fingerprint(str(file), tmp_path / "cache") == first
    file.write_text("two")
    assert source_fingerprint(str(file), tmp_path / "cache") != first
    assert source_fingerprint("owner/name", tmp_path) != source_fingerprint("owner/other", tmp_path)


def test_a_known_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "c.txt").write_text("one")
    first = source_fingerprint(str(tmp_path / "texts"), tmp_path / "cache")
    monkeypatch.setattr("hashlib.file_digest", None)
    assert source_fingerprint(str(tmp_path / "texts"), tmp_path / "cache") == first


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setenv(DATA_DIR, "")  # use_data_dir sets this variable; the test restores it
    use_data_dir(folder)
    return folder


def _articles(folder: Path, number: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    pq.write_table(pa.table({"text": [f"article {i}" for i in range(number)]}), folder / "train-00000-of-00001.parquet")


@pytest.mark.parametrize("place", ["wikipedia", "wikimedia/wikipedia", "wikipedia/20231101.en"])
def test_a_copy_in_the_hubs_layout_gives_what_the_hub_gives(tmp_path: Path, data_dir: Path, place: str) -> None:
    import datasets

    _articles(data_dir / place, 30)
    section = CorpusSection(source="wikimedia/wikipedia", config="20231101.en", documents=9)
    split = datasets.Dataset.from_dict({"text": [f"article {i}" for i in range(30)]})
    assert load_corpus(section, tmp_path / "cache").documents == split.shuffle(seed=42)["text"][:9]


def test_copies_of_tasks_and_of_files(tmp_path: Path, data_dir: Path) -> None:
    import gzip
    import shutil

    shutil.copytree(_hub_folder(tmp_path), data_dir / "ag_news")
    train, test = load_labelled(TaskSection(source="fancyzhx/ag_news"), tmp_path / "cache")
    assert test is not None
    assert (len(train.texts), len(test.texts)) == (30, 12)
    (data_dir / "fewrel").mkdir()
    plain = _fewrel(tmp_path / "f.json").read_bytes()
    (data_dir / "fewrel" / "train_wiki.json.gz").write_bytes(gzip.compress(plain))
    section = TaskSection(source="fewrel/train_wiki.json")
    assert len(load_labelled(section, tmp_path / "cache")[0].texts) == 18
    assert source_fingerprint("fewrel/train_wiki.json", tmp_path) != source_fingerprint("fancyzhx/ag_news", tmp_path)


def test_a_copy_and_the_hubs_own_are_not_called_changed(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _articles(data_dir / "wikipedia", 30)
    source = "wikimedia/wikipedia"
    of_copy = {"sources": {source: source_fingerprint(source, tmp_path / "data")}}
    of_hub = {"sources": {source: hub_fingerprint(source)}}
    assert not changed_sources(of_copy, tmp_path)
    assert not changed_sources(of_hub, tmp_path)
    monkeypatch.setenv(DATA_DIR, "")  # like a command without --data-dir
    assert not changed_sources(of_copy, tmp_path)
    monkeypatch.setenv(DATA_DIR, str(data_dir))
    (data_dir / "wikipedia" / "train-00000-of-00001.parquet").unlink()
    (data_dir / "wikipedia").rmdir()
    _articles(data_dir / "wikipedia", 31)
    assert changed_sources(of_copy, tmp_path) == [source]


def test_the_data_folder_comes_first_but_not_before_an_absolute_path(tmp_path: Path, data_dir: Path) -> None:
    here = tmp_path / "t.csv"
    here.write_text("text,label\na,x\n")
    (data_dir / "t.csv").write_text("text,label\nb,x\n")
    assert local_place("t.csv") == data_dir / "t.csv"
    assert local_place(str(here)) == here


def test_a_missing_copy_says_how_to_give_it(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: False)
    with pytest.raises(DataError, match="data set fancyzhx/ag_news: it is not on this machine") as caught:
        load_labelled(TaskSection(source="fancyzhx/ag_news"), data_dir)
    assert "put a copy into DIR/ag_news and give --data-dir DIR" in str(caught.value.hint)
    with pytest.raises(DataError, match=r"fewrel/train_wiki.json: there is no such file") as caught:
        load_labelled(TaskSection(source="fewrel/train_wiki.json"), data_dir)
    assert f"and to {data_dir}" in str(caught.value.hint)


def test_a_data_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        use_data_dir(tmp_path / "none")


def test_a_folder_of_tables_keeps_labels_as_they_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    for split in ("train", "test"):
        rows = [f"{split} {i},{label}" for i, label in enumerate(["None", "NA", "007", "buy"] * 3)]
        (folder / f"{split}.csv").write_text("text,label\n" + "\n".join([*rows, "null,buy"]) + "\n")
    train, test = load_labelled(TaskSection(source=str(folder)), tmp_path / "cache")
    assert test is not None
    assert train.labels == test.labels == ["None", "NA", "007", "buy"] * 3 + ["buy"]
    assert train.texts[-1] == "null"
    with pytest.raises(DataError, match="no column 'team'"):
        load_labelled(TaskSection(source=str(folder), label="team"), tmp_path / "cache")


def test_missing_labels_are_no_class(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"text": "a", "label": NaN}\n{"text": "b", "label": 1.0}\n{"text": "c", "label": true}\n')
    train, _ = load_labelled(TaskSection(source=str(file)), tmp_path)
    assert (train.texts, train.labels) == (["a", "b", "c"], ["", "1", "true"])
    file.write_text('{"text": "a", "label": ["x", "y"]}\n')
    with pytest.raises(DataError, match="column 'label' holds list, not a label"):
        load_labelled(TaskSection(source=str(file)), tmp_path)


def test_json_lines_are_a_task_under_either_ending(tmp_path: Path) -> None:
    rows = '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'
    for name in ("t.json", "t.jsonl"):
        (tmp_path / name).write_text(rows)
        train, _ = load_labelled(TaskSection(source=str(tmp_path / name)), tmp_path)
        assert train.texts == ["a", "b"]


def test_half_a_surrogate_pair_is_a_question_mark(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"text": "great \\ud83d", "label": "x\\ud83d"}\n')
    train, _ = load_labelled(TaskSection(source=str(file)), tmp_path)
    assert (train.texts, train.labels) == (["great ?"], ["x?"])
    assert load_corpus(CorpusSection(source=str(file)), tmp_path).documents == ["great ?"]


def test_a_stray_table_among_text_files_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.txt").write_text(f"line\nof {number}\n\nnext")
    (folder / "metadata.csv").write_text("text\nx\n")
    documents = load_corpus(CorpusSection(source=str(folder)), tmp_path).documents
    assert documents == ["line\nof 0", "next", "line\nof 1", "next"]


def test_names_of_relations_are_part_of_what_a_file_holds(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    before = source_fingerprint(str(tmp_path / "t.json"), tmp_path / "cache")
    (tmp_path / "pid2name.json").write_text('{"P0": ["city"]}')
    assert source_fingerprint(str(tmp_path / "t.json"), tmp_path / "cache") != before
