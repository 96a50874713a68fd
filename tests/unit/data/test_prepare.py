from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from machines import On, objects

from tlm_search.data.markers import Markers
from tlm_search.data.prepare import prepare
from tlm_search.data.prepared import PreparedData
from tlm_search.data.simulated import simulated_data
from tlm_search.data.tokens import TokenArray
from tlm_search.errors import DataError, StoreError
from tlm_search.remote.remote import Remote
from tlm_search.space.schema import Space

SpaceOf = Callable[..., Space]
GOLDEN = ("d62ba37bfc983975982e1e9380524cc8", "0d1fe2be26ec00b6bf2f58ac13b0ef7c")


def test_all_is_there_for_a_worker(tmp_path: Path, space_of: SpaceOf) -> None:
    made = prepare(space_of(), tmp_path / "store")
    data = PreparedData.from_document(json.loads(json.dumps(made.to_document())), tmp_path / "store")
    assert data == made
    assert data.labels == ("blue", "green", "red")
    assert data.rows == {"train": 18, "validation": 12, "test": 15}
    assert (data.documents, data.length, data.special["mask"]) == (50, 12, 4)
    assert len(TokenArray.open(data.folder("corpus"))) == 50
    for part, rows in data.rows.items():
        tokens = TokenArray.open(data.folder(part))
        labels = np.load(data.folder(part) / "labels.npy")
        assert len(tokens) == len(labels) == rows
        assert len(tokens.ids) == data.tokens[part]
        assert labels.dtype == np.int64
        assert int(tokens.ids.max()) < data.vocabulary
        assert int(tokens.lengths().max()) <= 12
    assert (data.folder("tokenizer") / "tokenizer.json").is_file()


def test_the_second_time_nothing_is_done(tmp_path: Path, space_of: SpaceOf) -> None:
    steps: list[str] = []
    first = prepare(space_of(), tmp_path / "store", progress=steps.append)
    assert len(steps) == 5
    assert prepare(space_of(), tmp_path / "store", progress=steps.append) == first
    assert len(steps) == 5


def test_another_task_reuses_the_corpus(tmp_path: Path, space_of: SpaceOf) -> None:
    steps: list[str] = []
    first = prepare(space_of(), tmp_path / "store")
    second = prepare(space_of(task={"labels": 2}), tmp_path / "store", progress=steps.append)
    # Preparation reads the documents to find texts that the task holds out, and does nothing else.
    assert [step.split()[0] for step in steps if not step.startswith("warning")] == ["reading", "reading"]
    assert (first.corpus, first.tokenizer, first.corpus_fingerprint) == (
        second.corpus,
        second.tokenizer,
        second.corpus_fingerprint,
    )
    assert first.task_fingerprint != second.task_fingerprint


def test_fingerprints_are_of_the_contents(tmp_path: Path, space_of: SpaceOf, corpus_file: Path) -> None:
    first = prepare(space_of(), tmp_path / "store")
    moved = corpus_file.with_name("moved.jsonl")
    shutil.copy(corpus_file, moved)
    second = prepare(space_of(corpus=str(moved)), tmp_path / "other")
    assert second.corpus_fingerprint == first.corpus_fingerprint
    assert second.task_fingerprint == first.task_fingerprint
    assert second.tokenizer_fingerprint == first.tokenizer_fingerprint


def test_changed_files_are_read_anew(tmp_path: Path, space_of: SpaceOf, corpus_file: Path) -> None:
    first = prepare(space_of(), tmp_path / "store")
    corpus_file.write_text(corpus_file.read_text() + '{"text": "one more document"}\n')
    second = prepare(space_of(), tmp_path / "store")
    assert second.documents == first.documents + 1


@pytest.mark.parametrize("part", ["corpus", "train", "tokenizer"])
def test_what_is_damaged_is_made_anew(tmp_path: Path, space_of: SpaceOf, part: str) -> None:
    first = prepare(space_of(), tmp_path / "store")
    folder = first.folder(part)
    (folder / ("tokenizer.json" if part == "tokenizer" else "ids.bin")).unlink()
    assert prepare(space_of(), tmp_path / "store") == first


def test_pretrain_size_above_the_corpus_is_refused_early_and_late(tmp_path: Path, space_of: SpaceOf) -> None:
    too_much = space_of(search={"pretrain_size": {"choices": [0, 51]}})
    with pytest.raises(DataError, match="it has 50 documents, but pretrain_size goes up to 51"):
        prepare(too_much, tmp_path / "store")
    prepare(space_of(), tmp_path / "store")
    with pytest.raises(DataError, match="it has 50 documents"):
        prepare(too_much, tmp_path / "store")


@pytest.mark.parametrize(
    ("sections", "largest"),
    [
        ({"search": {}}, 0),
        ({"search": {"pretrain_size": 7}}, 7),
        ({"search": {"pretrain_size": {"low": 1, "high": 9}}}, 9),
        ({"search": {"pretrain_size": {"choices": [3, 8, 0]}}, "reference": {"pretrain_size": 40}}, 40),
    ],
)
def test_largest_pretrain_size(space_of: SpaceOf, sections: dict[str, object], largest: int) -> None:
    assert space_of(**sections).largest_pretrain_size() == largest


def test_a_bad_task_costs_nothing(tmp_path: Path, space_of: SpaceOf) -> None:
    steps: list[str] = []
    with pytest.raises(DataError, match="too few different texts"):
        prepare(space_of(task={"train_per_label": 999}), tmp_path / "store", progress=steps.append)
    assert [step.split()[2] for step in steps] == ["task"]


def test_a_store_that_cannot_be_written(tmp_path: Path, space_of: SpaceOf) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        prepare(space_of(), tmp_path / "file" / "store")


def test_processes_share_the_work(tmp_path: Path, space_of: SpaceOf) -> None:
    program = (
        "import json, sys; from pathlib import Path; from tlm_search.data.prepare import prepare\n"
        "from tlm_search.space.schema import Space\n"
        "space = Space.from_document(json.loads(sys.argv[1]))\n"
        "prepare(space, Path(sys.argv[2]), progress=print)"
    )
    command = [sys.executable, "-c", program, json.dumps(space_of().to_document()), str(tmp_path / "store")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    output = "".join(process.communicate()[0] for process in running)
    assert [process.returncode for process in running] == [0, 0, 0]
    assert output.count("training a vocabulary") == 1
    assert not list((tmp_path / "store").rglob("*.tmp"))


def test_simulated_data_needs_no_files(tmp_path: Path, space_of: SpaceOf) -> None:
    data = simulated_data(space_of(), tmp_path / "store")
    assert len(data.labels) == 4
    assert data.rows == {"train": 24, "validation": 16, "test": 20}
    assert (data.corpus, data.documents) == (None, 40)
    assert not (tmp_path / "store").exists()
    assert PreparedData.from_document(data.to_document(), tmp_path / "store") == data


def test_what_one_machine_prepared_another_fetches(on: On, space_of: SpaceOf, url: str) -> None:
    steps: list[str] = []
    first = prepare(space_of(), on("a") / ".store", progress=steps.append)
    assert [step for step in steps if step.startswith("sending")]
    done = len(steps)
    there = prepare(space_of(), on("b") / ".store", progress=steps.append)
    assert len(steps) == done
    assert there.to_document() == first.to_document()
    # Another task on the same corpus needs files that only its own preparation reads.
    assert prepare(space_of(task={"train_per_label": 5}), on("b") / ".store").rows["train"] == 15
    assert prepare(space_of(), on("b") / ".store").rows == first.rows

    root = on("worker") / ".store"
    data = PreparedData.from_document(json.loads(json.dumps(first.to_document())), root)
    assert not root.exists()
    assert len(TokenArray.open(data.folder("train"))) == len(np.load(data.folder("train") / "labels.npy"))
    assert len(TokenArray.open(data.folder("corpus"))) == first.documents
    assert (data.folder("tokenizer") / "tokenizer.json").is_file()


def test_data_that_was_changed_is_not_used(on: On, space_of: SpaceOf, url: str) -> None:
    first = prepare(space_of(), on("a") / ".store")
    for name, data in objects(url).items():
        if name.endswith("ids.bin"):
            Remote(url).write(name, bytes(data[:-1]) + bytes([data[-1] ^ 1]))
    there = PreparedData.from_document(first.to_document(), on("worker") / ".store")
    with pytest.raises(StoreError, match=r"is damaged: .* was changed"):
        there.folder("corpus")
    assert prepare(space_of(), on("b") / ".store").to_document() == first.to_document()


@pytest.mark.parametrize("named", ["task.csv", "../d/task.csv", "../link.csv", "."])
def test_a_corpus_drawn_from_the_task_lacks_what_is_held_out(
    tmp_path: Path, task_file: Path, space_of: SpaceOf, named: str
) -> None:
    (tmp_path / "d").mkdir()
    task_file = task_file.rename(tmp_path / "d" / "task.csv")
    (tmp_path / "link.csv").symlink_to(task_file)
    sections = {"corpus": f"{tmp_path}/d/{named}", "task": {"source": str(task_file)}}
    whole = {"vocabulary": 100, "length": 64}
    data = prepare(space_of(**sections, tokenizer=whole, search={"pretrain_size": 33}), tmp_path / "store")
    assert data.documents == 60 - 12 - 15
    corpus = {tuple(row) for row in TokenArray.open(data.folder("corpus"))}
    train, *others = (
        {tuple(row) for row in TokenArray.open(data.folder(part))} for part in ("train", "validation", "test")
    )
    assert train <= corpus
    assert not any(corpus & held_out for held_out in others)
    with pytest.raises(DataError, match="33 documents, without the task's texts of validation and test, but"):
        prepare(space_of(**sections, search={"pretrain_size": 34}), tmp_path / "store")


def test_passing_over_all_documents_is_refused(tmp_path: Path, corpus_file: Path, space_of: SpaceOf) -> None:
    space = space_of(corpus={"source": str(corpus_file), "skip": 50}, search={"pretrain_size": 0})
    with pytest.raises(DataError, match="0 documents after the first 50, which skip leaves out, but it needs one"):
        prepare(space, tmp_path / "store")


def test_marked_entities_have_a_tokenizer_of_their_own(tmp_path: Path, space_of: SpaceOf, task_file: Path) -> None:
    rows = task_file.read_text().splitlines()
    marked_file = task_file.with_name("marked.csv")
    marked = [row.replace('"', '"[E1] a [/E1] [E2] b [/E2] ', 1) for row in rows[1:]]
    marked_file.write_text("\n".join([rows[0], *marked]) + "\n")
    task = {"source": str(marked_file), "entities": "marked"}
    plain, made = (prepare(space_of(task=more), tmp_path / "store") for more in ({}, task))
    assert Markers.of(plain.special) is None
    assert Markers.of(made.special) == tuple(range(plain.vocabulary, plain.vocabulary + 4))
    assert made.vocabulary == plain.vocabulary + 4
    assert made.tokenizer != plain.tokenizer
    for part in ("train", "validation", "test"):
        tokens = TokenArray.open(made.folder(part))
        for number in Markers.of(made.special) or ():
            assert [int((np.asarray(tokens[text]) == number).sum()) for text in range(len(tokens))] == [1] * len(tokens)
    again = PreparedData.from_document(json.loads(json.dumps(made.to_document())), tmp_path / "store")
    assert again == made
    unmarked = prepare(space_of(task={**task, "entities": "prefixed"}), tmp_path / "store")
    assert unmarked.tokenizer == plain.tokenizer
    named = {"name": str(plain.folder("tokenizer")), "length": 12}
    whole, pruned = (
        prepare(space_of(tokenizer={**named, **more}, task=task), tmp_path / "store")
        for more in ({}, {"min_count": 20})
    )
    assert (whole.vocabulary, whole.task_fingerprint) == (made.vocabulary, made.task_fingerprint)
    assert pruned.vocabulary < whole.vocabulary
    for data in (whole, pruned):
        assert set(Markers.of(data.special) or ()) < set(TokenArray.open(data.folder("test")).ids.tolist())


def test_what_was_prepared_before_keeps_its_place(
    tmp_path: Path, space_of: SpaceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The golden names were computed by the same lines at commit 04973ea, before marked entities existed."""
    monkeypatch.chdir(tmp_path)
    space = space_of(corpus="corpus.jsonl", task={"source": "task.csv"})
    made = prepare(space, tmp_path / "store")
    (note,) = (tmp_path / "store" / "data" / "prepared").iterdir()
    assert (Path(made.tokenizer).name, note.stem) == GOLDEN
