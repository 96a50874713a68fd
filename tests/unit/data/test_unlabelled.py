"""Unlabelled texts of a task: what is read, and that nothing of validation and test is among them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from machines import On

from tlm_search.data.damage import damaged_data
from tlm_search.data.prepare import prepare
from tlm_search.data.prepared import PreparedData
from tlm_search.data.sources import pydocs
from tlm_search.data.tasks import load_task
from tlm_search.data.tokens import TokenArray
from tlm_search.data.unlabelled import load_unlabelled
from tlm_search.digest import digest
from tlm_search.errors import DataError
from tlm_search.space.schema import Space
from tlm_search.space.task import TaskSection

SpaceOf = Callable[..., Space]

WHOLE = {"vocabulary": 100, "length": 64}


def rows_of(data: PreparedData, part: str) -> list[tuple[int, ...]]:
    return [tuple(row.tolist()) for row in TokenArray.open(data.folder(part))]


def odd(text: str) -> str:
    """Return a text that a reader takes for the same one, but a computer does not."""
    return f"  {text.upper()}".replace(" ", "\t ") + "\n"


def csv_of(file: Path, texts: list[str], column: str = "text") -> str:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([[column], *([text] for text in texts)])
    return str(file)


def test_no_text_of_validation_or_test_is_among_them(tmp_path: Path, space_of: SpaceOf) -> None:
    """Letter case and white space do not matter; the number of such texts is reported and stored."""
    task = load_task(space_of().task, tmp_path)
    held_out = [*task.validation.texts, *task.test.texts]
    new = [f"a fresh text about number {i}" for i in range(9)]
    texts = [*map(odd, held_out), *new, *map(odd, task.train.texts), odd(new[0]), ""]
    told: list[str] = []
    space = space_of(task={"unlabelled": csv_of(tmp_path / "more.csv", texts)}, tokenizer=WHOLE)
    data = prepare(space, tmp_path / "store", progress=told.append)
    counts = {"available": 55, "used": 9, "held_out": 27, "repeated": 19}
    assert data.unlabelled_texts == counts
    assert (
        "9 of 55 unlabelled texts are used; left out: 27 that validation or test contains, 19 that train contains or "
        "that are repeated" in told
    )
    rows = rows_of(data, "unlabelled")
    assert len(rows) == len(set(rows)) == 9
    assert not set(rows) & {*rows_of(data, "validation"), *rows_of(data, "test"), *rows_of(data, "train")}
    document = json.loads(json.dumps(data.to_document()))
    assert document["unlabelled_texts"] == counts
    assert PreparedData.from_document(document, data.root) == data
    assert prepare(space, tmp_path / "store", progress=told.append) == data
    assert data.unlabelled_fingerprint == TokenArray.open(data.folder("unlabelled")).fingerprint()


def test_a_text_that_the_cut_makes_one_of_the_test_texts_is_left_out(tmp_path: Path, space_of: SpaceOf) -> None:
    space = space_of()
    test = load_task(space.task, tmp_path).test.texts[0]
    texts = [f"{test} and some more words behind it", "a fresh text"]
    space = space_of(task={"unlabelled": csv_of(tmp_path / "more.csv", texts)}, tokenizer={**WHOLE, "length": 8})
    data = prepare(space, tmp_path / "store")
    assert data.unlabelled_texts == {"available": 2, "used": 1, "held_out": 1, "repeated": 0}
    assert not set(rows_of(data, "unlabelled")) & set(rows_of(data, "test"))


def test_the_file_of_the_task_itself_will_do(tmp_path: Path, space_of: SpaceOf, task_file: Path) -> None:
    data = prepare(space_of(task={"unlabelled": str(task_file)}), tmp_path / "store")
    assert data.unlabelled_texts["available"] == 60
    assert data.unlabelled_texts["repeated"] == data.rows["train"]
    assert data.unlabelled_texts["held_out"] >= data.rows["validation"] + data.rows["test"]


def test_a_corpus_of_the_same_source_lacks_what_is_held_out_too(tmp_path: Path, space_of: SpaceOf) -> None:
    task = load_task(space_of().task, tmp_path)
    texts = [*task.test.texts, *(f"a fresh text about number {i}" for i in range(45))]
    more = csv_of(tmp_path / "more.csv", texts)
    data = prepare(space_of(corpus=more, task={"unlabelled": more}), tmp_path / "store")
    assert data.documents == 45


def test_what_is_not_said_is_as_in_the_task(tmp_path: Path) -> None:
    rows = [{"body": f"text {i}", "team": "ab"[i % 2]} for i in range(12)]
    file, other = tmp_path / "tickets.jsonl", tmp_path / "other.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    other.write_text("".join(json.dumps({"words": row["body"] + " more"}) + "\n" for row in rows))

    def section(**more: Any) -> TaskSection:
        few = {"train_per_label": 1, "validation_per_label": 1, "test_per_label": 1}
        return TaskSection(source=str(file), text="body", label="team", unlabelled=more, **few)  # type: ignore[arg-type]

    def read(section: TaskSection) -> list[str]:
        return list(load_unlabelled(section, load_task(section, tmp_path), tmp_path).texts)

    assert len(read(section(source=str(file)))) == 6
    assert len(read(section(source=str(other), text="words"))) == 12
    with pytest.raises(DataError, match="there is no column 'body'; its columns are: words"):
        read(section(source=str(other)))


def test_the_layout_of_fewrel_is_read_without_its_labels(tmp_path: Path) -> None:
    def relations(number: int) -> dict[str, Any]:
        instance = {"h": ["head", "", [[0]]], "t": ["tail", "", [[1]]]}
        return {f"P{r}": [{**instance, "tokens": [f"w{r}", f"{i}"]} for i in range(number)] for r in range(2)}

    few = {"train_per_label": 2, "validation_per_label": 2, "test_per_label": 2}
    (tmp_path / "task.json").write_text(json.dumps(relations(6)))
    (tmp_path / "more.json").write_text(json.dumps(relations(8)))
    section = TaskSection(source=str(tmp_path / "task.json"), unlabelled=str(tmp_path / "more.json"), **few)  # type: ignore[arg-type]
    found = load_unlabelled(section, load_task(section, tmp_path), tmp_path)
    assert (found.available, found.held_out, found.repeated, len(found.texts)) == (16, 8, 4, 4)
    assert found.texts[0].startswith("head ; tail ; w")
    marked = section.model_copy(update={"entities": "marked"})
    found = load_unlabelled(marked, load_task(marked, tmp_path), tmp_path)
    assert found.texts[0].startswith("[E1] w")
    csv_of(tmp_path / "plain.csv", ["a text without markers"])
    other = TaskSection(**{**marked.model_dump(), "unlabelled": str(tmp_path / "plain.csv")})
    with pytest.raises(DataError, match=r"task.unlabelled .*plain.csv: 1 of 1 texts do not have each of the markers"):
        load_unlabelled(other, load_task(other, tmp_path), tmp_path)


def test_pydocs_gives_paragraphs_of_the_packages_of_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"a": 18, "b": 18, "c": 17}
    found = [pydocs.Paragraph(f"{name} {i}", name, i < 6) for name, size in sizes.items() for i in range(size)]
    monkeypatch.setattr(pydocs, "load_paragraphs", lambda cache: found)
    few: dict[str, Any] = {"train_per_label": 2, "validation_per_label": 2, "test_per_label": 2}
    section = TaskSection(labels=2, unlabelled="pydocs", **few)  # type: ignore[arg-type]
    read = load_unlabelled(section, load_task(section, tmp_path), tmp_path)
    assert {text.split()[0] for text in read.texts} == {"a", "b"}
    assert len(read.texts) == 2 * 12 - 4


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("nowhere.csv", "nowhere.csv: there is no such file"),
        ("only.csv", "it has 0 new texts; 27 texts do not count"),
        ({"source": "few.csv", "documents": 3}, "documents asks for 3, but it has 2 new texts"),
        ({"source": "few.csv", "text": "words"}, "there is no column 'words'"),
    ],
)
def test_a_source_that_is_missing_or_too_small_is_told_before_anything_long(
    tmp_path: Path, space_of: SpaceOf, monkeypatch: pytest.MonkeyPatch, section: Any, message: str
) -> None:
    task = load_task(space_of().task, tmp_path)
    csv_of(tmp_path / "only.csv", [*task.test.texts, *task.validation.texts])
    csv_of(tmp_path / "few.csv", ["a fresh text", "another one"])
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    with pytest.raises(DataError, match=message) as caught:
        prepare(space_of(task={"unlabelled": section}), tmp_path / "store", progress=told.append)
    assert caught.value.hint
    assert not any("vocabulary" in line for line in told)


def test_a_study_without_them_is_prepared_as_before(tmp_path: Path, space_of: SpaceOf) -> None:
    space = space_of()
    data = prepare(space, tmp_path / "store")
    assert not [key for key in data.to_document() if key.startswith("unlabelled")]
    assert "unlabelled" not in space.to_document()["task"]
    more = space_of(task={"unlabelled": csv_of(tmp_path / "more.csv", ["a fresh text"])})
    assert prepare(more, tmp_path / "store").train == data.train
    assert more.digest != space.digest
    # The digest of a space as it was before unlabelled texts existed.
    assert Space.from_document({}).digest == "5a0b5546761d48117e999cefb95e37b2"
    section = TaskSection(source="x.csv", train_per_label=100)
    assert digest(section.model_dump(mode="json")) == "e4c26e3c38785d619d4debe03ad8b56c"


def test_another_machine_fetches_them_and_damage_is_found(tmp_path: Path, on: On, space_of: SpaceOf) -> None:
    space = space_of(task={"unlabelled": csv_of(tmp_path / "more.csv", ["a fresh text", "another one"])})
    first = prepare(space, on("a") / ".store")
    there = PreparedData.from_document(first.to_document(), on("worker") / ".store")
    assert rows_of(there, "unlabelled") == rows_of(first, "unlabelled")
    file = there.folder("unlabelled") / "ids.bin"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    (there.root / "data" / "prepared").mkdir()
    (there.root / "data" / "prepared" / "x.json").write_text(json.dumps(there.to_document()))
    assert list(damaged_data(there.root)) == [there.folder("unlabelled")]
    assert "was changed" in damaged_data(there.root)[there.folder("unlabelled")]
