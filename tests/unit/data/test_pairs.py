"""Two texts in a row: what is read, split, left out and tokenised, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from tlm_search.data.pairs import Pair
from tlm_search.data.prepare import prepare
from tlm_search.data.prepared import PreparedData
from tlm_search.data.rows import likeness
from tlm_search.data.sources.source import load_labelled
from tlm_search.data.tasks import load_task
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import encode, encode_pairs, require_pairs
from tlm_search.data.vocabulary.wordpiece import SPECIAL, save, wordpiece
from tlm_search.errors import DataError
from tlm_search.space.schema import Space
from tlm_search.space.task import TaskSection

SpaceOf = Callable[..., Space]
LETTERS = [chr(ord("a") + i) for i in range(26)]
TEXT = ["premise", "hypothesis"]


def letters() -> Tokenizer:
    return wordpiece([*SPECIAL, *LETTERS])


def rows_of(file: Path, rows: list[tuple[Any, ...]]) -> str:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("n", "premise", "hypothesis", "label"), *((0, *row) for row in rows)])
    return str(file)


def pairs(count: int, start: int = 0) -> list[tuple[str, str, str]]:
    numbers = range(start, start + count)
    return [(f"the first text {i}", f"the second text {i % 3}", ["no", "yes"][i % 2]) for i in numbers]


def test_they_are_tokenised_and_cut_as_transformers_does(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    save(letters(), tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    sizes = [(0, 0), (0, 30), (30, 0), (3, 2), (9, 30), (30, 9), (30, 30), (31, 30), (30, 31), (900, 901), (901, 900)]
    texts = [Pair(*(" ".join(LETTERS[(i * 7) % 26] for i in range(size)) for size in both)) for both in sizes]
    for length in (8, 9, 16, 17):
        for text, (ids, first) in zip(texts, encode_pairs(letters(), texts, length=length), strict=True):
            theirs = loaded([text.first], [text.second], truncation=True, max_length=length)
            assert theirs["input_ids"] == [ids]
            assert theirs["token_type_ids"] == [[0] * first + [1] * (len(ids) - first)]
            assert len(ids) <= length


def test_a_tokenizer_that_writes_pairs_otherwise_is_refused() -> None:
    tokenizer = letters()
    require_pairs(tokenizer, "fine")
    special = [("[CLS]", 2), ("[SEP]", 3)]
    for pair in ("[CLS] $A [SEP] [SEP] $B:1 [SEP]:1", "[CLS] $A [SEP] $B [SEP]"):
        tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", pair=pair, special_tokens=special)
        with pytest.raises(DataError, match=r"odd: it does not write a pair of texts as BERT does"):
            require_pairs(tokenizer, "odd")


def test_the_segments_are_kept_wherever_tokens_go(tmp_path: Path) -> None:
    both = TokenArray.write(tmp_path / "a", [[2, 5, 3, 6, 3], [2, 3, 3]], vocabulary=9, firsts=[3, 2])
    single = TokenArray.write(tmp_path / "b", [[2, 5, 3, 6, 3], [2, 3, 3]], vocabulary=9)
    other = TokenArray.write(tmp_path / "c", [[2, 5, 3, 6, 3], [2, 3, 3]], vocabulary=9, firsts=[4, 2])
    assert both.firsts is not None
    assert single.firsts is None
    assert len({array.fingerprint() for array in (both, single, other)}) == 3
    assert np.array_equal(both.prefix(1).firsts or 0, [3])
    assert np.array_equal(both.followed_by(single).firsts, [3, 2, 5, 3])  # type: ignore[arg-type]
    assert np.array_equal(single.followed_by(both).firsts, [5, 3, 3, 2])  # type: ignore[arg-type]
    assert single.followed_by(single).firsts is None
    np.save(tmp_path / "a" / "firsts.npy", np.array([3]))
    with pytest.raises(Exception, match="sizes of its files do not agree"):
        TokenArray.open(tmp_path / "a")


def test_rows_count_by_the_pair(tmp_path: Path) -> None:
    """Rows that are repeated, contradictory, held out or without a text are judged by both texts, in any case."""
    odd = [
        ("THE first  text 0", "the second text 0", "no"),  # repeated
        ("the first text 0", "the second text 1", "yes"),  # another pair
        ("the second text 0", "the first text 0", "yes"),  # the order counts
        ("x", "y", "no"),
        ("X", "y ", "yes"),  # two labels
        ("x", "", "no"),
        (" ", "y", "no"),
        ("x", "y z", ""),
    ]
    test = [("the first text 4", "the SECOND text 1", "no"), ("new", "new too", "yes"), ("", "blank", "yes")]
    section = TaskSection(
        source=rows_of(tmp_path / "rows.csv", [*pairs(20), *odd]),
        test_source=rows_of(tmp_path / "test.csv", test),
        text=TEXT,
        validation=4,
    )
    task = load_task(section, tmp_path)
    assert task.account is not None
    assert task.account.dropped == {"repeated": 1, "two_labels": 2, "no_text": 2, "no_label": 1, "held_out": 1}
    assert task.test.texts == tuple(Pair(first, second) for first, second, _ in test)
    known = {Pair(first, second) for first, second, _ in [*pairs(20), *odd[1:3]]}
    assert {*task.train.texts, *task.validation.texts} == known - {Pair("the first text 4", "the second text 1")}
    assert {likeness("the SECOND text 1"), likeness("new too"), likeness(Pair("NEW", "new too"))} <= task.held_out()


def test_what_is_prepared(tmp_path: Path, space_of: SpaceOf) -> None:
    """Pairs are in two segments; a corpus and unlabelled pairs of the same file lack the held-out texts."""
    source = rows_of(tmp_path / "rows.csv", pairs(40))
    more = rows_of(tmp_path / "more.csv", [*pairs(60, start=20), *pairs(3, start=20), ("", "half of a pair", "")])
    task = {"text": TEXT, "unlabelled": more, "source": source}
    space = space_of(
        task=task,
        corpus={"source": source, "text": "premise"},
        search={"pretrain_size": 10},
        tokenizer={"vocabulary": 200, "length": 16},
    )
    told: list[str] = []
    read: list[Any] = []
    data = prepare(space, tmp_path / "store", progress=told.append, on_task=read.append)
    assert data.pairs
    assert PreparedData.from_document(json.loads(json.dumps(data.to_document())), data.root) == data
    assert prepare(space, tmp_path / "store") == data
    assert data.rows == {"train": 12, "validation": 8, "test": 10}
    tokenizer = Tokenizer.from_file(str(data.folder("tokenizer") / "tokenizer.json"))
    train = TokenArray.open(data.folder("train"))
    assert train.firsts is not None
    for number, pair in enumerate(read[0].train.texts):
        first, second = encode(tokenizer, pair, length=512)
        assert train[number].tolist() == [*first, *second[1:]]
        assert train.firsts[number] == len(first)
    held_out = {first for part in ("validation", "test") for first, _ in getattr(read[0], part).texts}
    assert data.documents == 40 - len(held_out) == 22
    assert TokenArray.open(data.folder("corpus")).firsts is None
    unlabelled = TokenArray.open(data.folder("unlabelled"))
    counts = data.unlabelled_texts
    assert counts["used"] == len(unlabelled) == len(unlabelled.firsts)  # type: ignore[arg-type]
    assert counts["available"] == 63 == counts["used"] + counts["held_out"] + counts["repeated"]
    of_test = TokenArray.open(data.folder("test"))
    assert not {tuple(of_test[i].tolist()) for i in range(len(of_test))} & {
        tuple(unlabelled[i].tolist()) for i in range(len(unlabelled))
    }


def test_what_reads_one_column_has_the_names_that_it_had(space_of: SpaceOf) -> None:
    assert "pairs" not in space_of().task.model_dump(mode="json")
    assert space_of().task.model_dump(mode="json")["text"] == "text"
    assert space_of(task={"text": TEXT}).task.model_dump(mode="json")["text"] == TEXT


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"text": ["a"]}, r"given \['a'\]; allowed: a column, or two for pairs, such as \[premise, hypothesis\]"),
        ({"text": ["a", "a"]}, "allowed: a column, or two for pairs"),
        ({"text": ["a", "b", "c"]}, "allowed: a column, or two for pairs"),
        ({"text": ["a", 1]}, "allowed: a column, or two for pairs"),
        ({"text": {"a": "b"}}, "allowed: a column, or two for pairs"),
        ({"text": TEXT, "source": "pydocs"}, "pydocs has no pairs"),
        ({"text": TEXT, "format": "fewrel"}, "FewRel has no pairs"),
        ({"text": TEXT, "entities": "marked"}, "entities cannot be marked in pairs"),
        ({"text": TEXT, "unlabelled": "pydocs"}, "a source of pairs; pydocs has none"),
        ({"text": TEXT, "unlabelled": {"source": "x.csv", "text": "a"}}, "as many columns as text of the task names"),
        ({"unlabelled": {"source": "x.csv", "text": TEXT}}, "as many columns as text of the task names"),
    ],
)
def test_what_cannot_be_read_as_pairs_is_refused(task: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Space.from_document({"task": {"source": "rows.csv", **task}})


def test_spans_of_pairs_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"spans only with task: \{entities: marked\}"):
        Space.from_document({"task": {"source": "rows.csv", "text": TEXT}, "search": {"pooling": "spans"}})


def test_a_missing_column_and_another_layout_are_one_message(tmp_path: Path) -> None:
    source = rows_of(tmp_path / "rows.csv", pairs(4))
    with pytest.raises(DataError, match="there is no column 'other'; its columns are: n, premise, hypothesis, label"):
        load_labelled(TaskSection(source=source, text=["premise", "other"]), tmp_path)
    entity = ["x", "Q1", [[0]]]
    (tmp_path / "f.json").write_text(json.dumps({"P1": [{"tokens": ["x"], "h": entity, "t": entity}]}))
    with pytest.raises(DataError, match="it has FewRel's layout, which has no columns premise and hypothesis"):
        load_labelled(TaskSection(source=str(tmp_path / "f.json"), text=TEXT), tmp_path)
