"""Lines of a log in their context: what is read, how it is divided, cut and tokenised, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tlm_search.data.context import read_log
from tlm_search.data.pairs import Line, is_blank
from tlm_search.data.prepare import prepare
from tlm_search.data.prepared import PreparedData
from tlm_search.data.rows import Task, likeness
from tlm_search.data.tasks import load_task
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import encode_lines
from tlm_search.data.vocabulary.wordpiece import SPECIAL, save, wordpiece
from tlm_search.errors import DataError
from tlm_search.space.schema import Space
from tlm_search.space.task import ContextSection, TaskSection

SpaceOf = Callable[..., Space]
LETTERS = [chr(ord("a") + i) for i in range(26)]
COLUMNS = ("time", "host", "text", "label")


def rows_of(file: Path, rows: Iterable[Sequence[Any]], columns: Sequence[str] = COLUMNS) -> str:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([columns, *rows])
    return str(file)


def of_time(count: int, *, hosts: int = 1) -> list[tuple[int, str, str, str]]:
    """Return rows in the order of time; all lines differ, and every fifth is odd."""
    return [(i, f"h{i % hosts}", f"line {i}", "odd" if i // hosts % 5 == 4 else "even") for i in range(count)]


def section(source: str, context: Mapping[str, Any], **others: Any) -> TaskSection:
    return TaskSection(source=source, context=context, **others)


def lines_of(task: Task, part: str) -> list[int]:
    return sorted(int(text[1].split()[1]) for text in getattr(task, part).texts)


def test_a_line_has_the_lines_of_its_group_before_it_in_time() -> None:
    read = {"host": ["a", "b", "a", "a", "b"], "time": ["4", "1", "2", "3.5", "0"]}
    texts = ["a last", "b last", "a first", "a second", "b first"]
    log = read_log(ContextSection(rows=2, group="host", time="time"), texts, read, "x")
    assert log.order == [4, 1, 2, 3, 0]
    before = ["a first\na second", "b first", "", "a first", ""]
    assert log.lines == [Line(*both) for both in zip(before, texts, strict=True)]
    in_file_order = read_log(ContextSection(rows=1), texts, {}, "x")
    assert [line.first for line in in_file_order.lines] == ["", *texts[:-1]]
    assert in_file_order.groups == ()


@pytest.mark.parametrize(
    "times",
    [
        ["10", "9", "1e9"],
        [10, 9, 1e9],
        ["2026-11-30T18:00:01", "2026-11-30 18:00:00", "2026-12-01"],
        ["2026-11-30T18:00:00+01:00", "2026-11-30T16:59:59Z", "2026-11-30T17:00:01+00:00"],
        [datetime(2026, 11, 30), datetime(2026, 11, 29), datetime(2027, 1, 1)],
        ["9" * 400, "1", "9" * 401],
    ],
)
def test_times_are_numbers_or_iso(times: list[Any]) -> None:
    assert read_log(ContextSection(rows=1, time="t"), ["a", "b", "c"], {"t": times}, "x").order == [1, 0, 2]


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (["1", "Jun 3"], "x: row 2: column 't' holds 'Jun 3': neither a number nor an ISO time"),
        (["1", None], "x: row 2: column 't' holds None: neither"),
        (["nan", "1"], "x: row 1: column 't' holds 'nan': neither"),
        ([True, 1], "x: row 1: column 't' holds True: neither"),
        (["1", "2026-11-30"], "x: row 2: .* a time without a zone, but row 1 has a number"),
        (["2026-11-30", "2026-11-30T18:00Z"], "a time with a zone, but row 1 has a time without a zone"),
    ],
)
def test_other_times_are_refused(times: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_log(ContextSection(rows=1, time="t"), ["a", "b"], {"t": times}, "x")


def test_a_row_without_a_group_is_refused() -> None:
    with pytest.raises(DataError, match=r"x: 2 of 3 rows have no group in column 'g', the first is row 2"):
        read_log(ContextSection(rows=1, group="g"), ["a", "b", "c"], {"g": ["1", None, " "]}, "x")


def test_the_last_lines_are_test_and_no_part_reaches_into_another(tmp_path: Path) -> None:
    rows = of_time(100)
    source = rows_of(tmp_path / "log.csv", [rows[i * 37 % 100] for i in range(100)])
    task = load_task(section(source, {"rows": 3, "time": "time"}, validation=0.2, test=20), tmp_path)
    assert lines_of(task, "test") == list(range(80, 100))
    assert lines_of(task, "validation") == list(range(57, 77))
    assert lines_of(task, "train") == list(range(54))
    assert task.account is not None
    assert task.account.dropped == {"border": 6}
    for part in ("train", "validation", "test"):
        for before, line in getattr(task, part).texts:
            number = int(line.split()[1])
            assert before.split("\n") == [f"line {i}" for i in range(max(number - 3, 0), number)] or number == 0
    lines = {
        part: {line for text in getattr(task, part).texts for line in "\n".join(text).split("\n")} - {""}
        for part in ("train", "test")
    }
    assert not lines["train"] & lines["test"]


def test_whole_groups_are_of_one_part(tmp_path: Path) -> None:
    sizes = {"a": 40, "b": 30, "c": 10, "d": 12, "e": 8}  # in the order of their first lines
    rows = [
        (i, host, f"line {host} {i}", "odd" if i % 5 == 4 else "even") for host, n in sizes.items() for i in range(n)
    ]
    source = rows_of(tmp_path / "log.csv", rows)
    task = load_task(section(source, {"rows": 2, "group": "host"}, validation=10, test=0.2), tmp_path)
    parts = {
        part: {text[1].split()[1] for text in getattr(task, part).texts} for part in ("train", "validation", "test")
    }
    assert parts == {"train": {"a", "b"}, "validation": {"c"}, "test": {"d", "e"}}
    assert task.account is not None
    assert (task.account.train, task.account.validation, task.account.test) == (70, 10, 20)
    assert task.account.dropped == {}
    firsts = [text for text in task.train.texts if not text[0]]
    assert len(firsts) == 2


def test_repeated_lines_stay_and_what_has_no_text_or_label_is_context_alone(tmp_path: Path) -> None:
    rows = [(i, "h", "tick", "even") for i in range(60)]
    rows[20], rows[21], rows[22] = (20, "h", " ", "even"), (21, "h", "boom", ""), (22, "h", "tick", "odd")
    source = rows_of(tmp_path / "log.csv", rows)
    test = rows_of(tmp_path / "test.csv", [(1, "h", "tick", "odd"), (2, "h", "new", ""), (3, "h", "tick", "even")])
    task = load_task(section(source, {"rows": 2}, validation=10, test_source=test), tmp_path)
    assert task.account is not None
    assert task.account.dropped == {"no_text": 1, "no_label": 2, "border": 2}
    assert (task.account.train, task.account.validation, task.account.test) == (46, 10, 2)
    assert Line("\nboom", "tick") in task.train.texts
    assert task.test.texts == (Line("", "tick"), Line("tick\nnew", "tick"))
    assert sum(task.account.dropped.values()) + 58 == task.account.available == 63
    assert not is_blank(Line("", "tick"))
    assert likeness(Line("", "TICK")) != likeness(Line("a", "tick")) != ""


def test_fewer_training_lines_can_be_asked_for(tmp_path: Path) -> None:
    source = rows_of(tmp_path / "log.csv", of_time(100))
    task = load_task(section(source, {"rows": 1}, train={"rows": 20}), tmp_path)
    assert len(task.train.texts) == 20
    assert task.account is not None
    assert task.account.dropped == {"border": 2, "not_drawn": 48}


@pytest.mark.parametrize(
    ("context", "others", "words"),
    [
        ({"rows": 1, "group": "host"}, {}, r"'host' has 2 groups .*, but each of train, test, validation needs"),
        (
            {"rows": 1, "group": "nohost"},
            {},
            r"no column 'nohost'; its columns are: time, host, text.*; did you mean 'host'\?",
        ),
        ({"rows": 1, "time": "host"}, {}, "column 'host' holds 'h0': neither a number nor an ISO time"),
        ({"rows": 1}, {"test": 200}, "test asks for 200 lines, but 50 are left, and train needs at least one"),
        (
            {"rows": 30},
            {"test": 10, "validation": 10},
            "validation asks for 10 lines, but 10 are left before the 30 lines",
        ),
        ({"rows": 30}, {"test": 10, "validation": 9}, "train has no line of the label 'even'"),
        ({"rows": 1}, {"test": 1, "positive": "even"}, "test has no line of the label 'even'"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    tmp_path: Path, context: dict[str, Any], others: dict[str, Any], words: str
) -> None:
    source = rows_of(tmp_path / "log.csv", of_time(50, hosts=2))
    with pytest.raises(DataError, match=words):
        load_task(section(source, context, **others), tmp_path)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"context": {"rows": 0}}, r"given 0; allowed: a whole number from 1 to 512"),
        ({"context": {"rows": -3}}, r"given -3; allowed: a whole number from 1 to 512"),
        ({"context": {"rows": 2.5}}, r"given 2.5; allowed: a whole number"),
        ({"context": {"group": "host"}}, "is missing; allowed: a whole number from 1 to 512"),
        ({"context": 5}, "given 5; allowed: a mapping with the keys rows, group, time"),
        ({"context": {"rows": 1, "groups": "host"}}, "did you mean group"),
        (
            {"context": {"rows": 1}, "text": ["a", "b"]},
            r"given \('a', 'b'\) together with context; allowed: one column",
        ),
        ({"context": {"rows": 1}, "source": "pydocs"}, "pydocs has no lines in order"),
        ({"context": {"rows": 1}, "format": "fewrel"}, "the rows of FewRel have no order"),
        ({"context": {"rows": 1}, "entities": "marked"}, "entities cannot be marked in lines"),
        ({"context": {"rows": 1}, "unlabelled": "more.csv"}, "no unlabelled texts"),
        ({"context": {"rows": 1}, "test_per_label": 5}, "together with context; allowed: train, validation and test"),
        ({"context": {"rows": 1, "group": "label"}}, "a column other than text and label"),
        ({"context": {"rows": 1, "time": "text"}}, "a column other than text and label"),
    ],
)
def test_what_cannot_be_read_as_lines_is_refused(task: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Space.from_document({"task": {"source": "log.csv", **task}})


def test_what_has_no_context_has_the_names_that_it_had(space_of: SpaceOf, tmp_path: Path) -> None:
    assert "context" not in space_of().task.model_dump(mode="json")
    assert "context" not in prepare(space_of(), tmp_path / "store").to_document()


def test_the_oldest_tokens_of_the_context_are_cut_first(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = wordpiece([*SPECIAL, *LETTERS])
    save(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, truncation_side="left")
    for length in (8, 9, 16):
        for before, own in ((0, 0), (0, 3), (3, 0), (3, 2), (30, 2), (30, length - 3), (900, 4), (0, 40), (30, 40)):
            first, second = (" ".join(LETTERS[i % 26] for i in range(size)) for size in (before, own))
            ((ids, of_first),) = encode_lines(tokenizer, [Line(first, second)], length=length)
            assert ids.count(3) == 2
            assert len(ids) == min(before + own + 3, length)
            if own < length - 3 and before:  # otherwise transformers refuses the line, or takes the empty text for none
                theirs = loaded([first], [second], truncation="only_first", max_length=length)
                assert theirs["input_ids"] == [ids]
                assert theirs["token_type_ids"] == [[0] * of_first + [1] * (len(ids) - of_first)]
            kept = tokenizer.decode(ids[of_first:-1]).split()
            assert kept == second.split()[: length - 3]


def test_what_is_prepared(tmp_path: Path, space_of: SpaceOf) -> None:
    """A corpus of the same file has the lines of train, even if they repeat, and lacks lines that only test has."""
    rows = [(i, "h", "tick" if i % 4 else f"line {i}", "odd" if i % 5 == 4 else "even") for i in range(80)]
    source = rows_of(tmp_path / "log.csv", rows)
    space = space_of(
        task={
            **dict.fromkeys(("train_per_label", "validation_per_label", "test_per_label")),
            "source": source,
            "context": {"rows": 2, "group": None},
        },
        corpus={"source": source},
        tokenizer={"vocabulary": 100, "length": 24},
        search={"pretrain_size": 10},
    )
    read: list[Task] = []
    data = prepare(space, tmp_path / "store", on_task=read.append)
    assert data.pairs
    assert data.context == {"rows": 2, "group": None, "time": None}
    assert PreparedData.from_document(json.loads(json.dumps(data.to_document())), data.root) == data
    assert prepare(space, tmp_path / "store") == data
    train = TokenArray.open(data.folder("train"))
    assert train.firsts is not None
    assert train.firsts.min() == 2  # [CLS] and [SEP] of a line without earlier lines
    held_out = read[0].held_out()
    assert "tick" not in held_out
    assert "line 76" in held_out
    assert data.documents == 80 - len(held_out)
