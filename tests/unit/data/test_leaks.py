"""No text of validation or test is learned from, whatever way it comes: corpus, vocabulary, unlabelled texts, train."""

import csv
import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tlm_search.data.prepare import prepare
from tlm_search.data.prepared import PreparedData
from tlm_search.data.tasks import load_task
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import open_tokenizer
from tlm_search.space.schema import Space

Copy = Callable[[list[str], Path], Path]


def as_csv(texts: list[str], folder: Path) -> Path:
    with (folder / "copy.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["text"], *([text] for text in texts)])
    return folder / "copy.csv"


def as_jsonl(texts: list[str], folder: Path) -> Path:
    file = folder / "copy.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return file


def compressed(texts: list[str], folder: Path) -> Path:
    plain = as_jsonl(texts, folder)
    with gzip.open(f"{plain}.gz", "wb") as stream:
        stream.write(plain.read_bytes())
    plain.unlink()
    return Path(f"{plain}.gz")


def in_other_letters(texts: list[str], folder: Path) -> Path:
    return as_csv([f"  {text.upper()} ".replace(" ", "\t ") for text in texts], folder)


def linked(texts: list[str], folder: Path) -> Path:
    (folder / "link.csv").symlink_to(as_csv(texts, folder))
    return folder / "link.csv"


def in_a_folder(texts: list[str], folder: Path) -> Path:
    (folder / "folder").mkdir()
    as_csv(texts, folder / "folder")
    return folder / "folder"


@pytest.fixture(
    params=[as_csv, as_jsonl, compressed, in_other_letters, linked, in_a_folder], ids=lambda copy: copy.__name__
)
def copy(request: pytest.FixtureRequest) -> Copy:
    return request.param  # type: ignore[no-any-return]


def task_of(folder: Path) -> list[str]:
    """Write a task in which each row has a unique word, and return its texts."""
    texts = [f"{('red', 'blue')[i % 2]} common words beside q{'xyz'[i % 3]}{i:03}w" for i in range(80)]
    rows = "".join(f'"{text}",{text.split()[0]}\n' for text in texts)
    (folder / "task.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    return texts


def learned(data: PreparedData) -> Iterator[str]:
    """Yield all texts that members can learn from: vocabulary, corpus, unlabelled texts and training rows."""
    tokenizer = open_tokenizer(data.folder("tokenizer"))
    yield from tokenizer.get_vocab()
    for part in ("corpus", "unlabelled", "train"):
        for row in TokenArray.open(data.folder(part)):
            yield tokenizer.decode(row.tolist())


def test_nothing_that_is_held_out_is_learned_from(tmp_path: Path, copy: Copy) -> None:
    texts = task_of(tmp_path)
    fresh = [f"red and blue common words number {i}" for i in range(30)]
    source = str(copy([*fresh, *texts], tmp_path))
    space = Space.from_document(
        {
            "corpus": source,
            "tokenizer": {"vocabulary": 600, "length": 32},
            "task": {"source": str(tmp_path / "task.csv"), "unlabelled": source},
            "search": {"self_training": 1, "pretrain_size": 30},
        }
    )
    told: list[str] = []
    data = prepare(space, tmp_path / "store", progress=told.append)
    task = load_task(space.task, tmp_path / "store")
    held_out = {text.split()[-1] for split in (task.validation, task.test) for text in split.texts}
    seen = " ".join(learned(data)).lower()
    assert not [word for word in held_out if word in seen]
    own = {text.split()[-1] for text in task.train.texts}
    assert [word for word in own if word in seen], "the test would not see a word if it were there"
    assert data.documents == len(fresh) + len(own)
    assert data.unlabelled_texts["held_out"] == len(held_out)
    assert [line for line in told if f"{len(held_out)} different texts that validation or test contain" in line]


def test_a_corpus_that_shares_nothing_is_prepared_once_for_all_tasks(tmp_path: Path) -> None:
    task_of(tmp_path)
    corpus = str(as_csv([f"a document of qx{i:03}w, qy{i:03}w and qz{i:03}w" for i in range(40)], tmp_path))

    def documents(seed: int) -> str | None:
        task = {"source": str(tmp_path / "task.csv"), "seed": seed}
        tokenizer = {"vocabulary": 200, "length": 16}
        document = {"corpus": corpus, "tokenizer": tokenizer, "task": task, "search": {"pretrain_size": 30}}
        told: list[str] = []
        folder = prepare(Space.from_document(document), tmp_path / "store", progress=told.append).corpus
        assert seed == 0 or not [line for line in told if "vocabulary of" in line or "tokenising 40" in line]
        return folder

    assert documents(0) == documents(1)
    shutil.rmtree(tmp_path / "store" / "data" / "prepared")
    assert documents(1) == documents(0)
