from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tlm_search.data.sources.files import files_below, read_columns, read_json, stream_column
from tlm_search.errors import DataError

ROWS = [{"text": "one, two", "label": 1}, {"text": 'a "quote"\nand a line', "label": 2}]


def _write(file: Path, text: str, *, encoding: str = "utf-8") -> Path:
    raw = text.encode(encoding)
    file.write_bytes(gzip.compress(raw) if file.suffix == ".gz" else raw)
    return file


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.jsonl", "".join(json.dumps(row) + "\n\n" for row in ROWS)),
        ("t.json", json.dumps(ROWS, indent=1)),
        ("t.json", "\n".join(map(json.dumps, ROWS))),
        ("t.jsonl.gz", "\n".join(map(json.dumps, ROWS))),
        ("t.csv", '\ufefflabel,text\n1,"one, two"\n\n2,"a ""quote""\nand a line"\n'),
        ("t.TSV", 'text\tlabel\none, two\t1\n"a ""quote""\nand a line"\t2\n'),
        ("t.csv.gz", 'label,text\n1,"one, two"\n2,"a ""quote""\nand a line"\n'),
    ],
)
def test_formats(tmp_path: Path, name: str, text: str) -> None:
    read = read_columns(_write(tmp_path / name, text), ["text", "label"])
    assert read["text"] == [row["text"] for row in ROWS]
    assert [int(label) for label in read["label"]] == [1, 2]


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"text": ["a", None], "label": [1, 0]}), file)
    assert read_columns(file, ["label", "text"]) == {"label": [1, 0], "text": ["a", None]}


def test_parquet_knows_the_names_of_numbered_labels(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}, "text": {"dtype": "string"}}
    table = pa.table({"text": ["a", "b"], "label": [1, -1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert read_columns(tmp_path / "t.parquet", ["label"]) == {"label": ["yes", None]}  # -1 means no label


def test_parquet_with_two_columns_of_one_name(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    parquet.write_table(table, tmp_path / "t.parquet")
    for read in (read_columns, lambda file, columns: list(stream_column(file, columns[0]))):
        with pytest.raises(DataError, match="there are 2 columns 'text'"):
            read(tmp_path / "t.parquet", ["text"])


def test_json_lines_may_hold_other_ends_of_lines(tmp_path: Path) -> None:
    texts = ["one\u2028two", "three\x85four"]
    file = _write(tmp_path / "t.json", "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts))
    assert read_columns(file, ["text"]) == {"text": texts}


def test_the_files_below_a_folder(tmp_path: Path) -> None:
    for name in ("b/2.txt", "a.txt", ".cache/3.txt", ".4.txt", "b/.git/5.txt"):
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        _write(tmp_path / "top" / name, "text")
    (tmp_path / "else").mkdir()
    _write(tmp_path / "else" / "6.txt", "text")
    (tmp_path / "top" / "c").symlink_to(tmp_path / "else")
    (tmp_path / "top" / "b" / "round").symlink_to(tmp_path / "top")
    top = tmp_path / "top"
    assert files_below(top) == [top / "a.txt", top / "b" / "2.txt", top / "c" / "6.txt"]
    assert files_below(top / "a.txt") == [top / "a.txt"]


def test_a_text_file_has_a_row_for_each_paragraph(tmp_path: Path) -> None:
    file = _write(tmp_path / "t.txt", "\n\none\nand more\n\n \t\r\n two\n\n\n")
    assert read_columns(file, ["text"]) == {"text": ["one\nand more", "two"]}


def test_what_a_row_lacks_is_none(tmp_path: Path) -> None:
    file = _write(tmp_path / "t.jsonl", '{"text": "a"}\n{"text": "b", "label": 1}\n')
    assert read_columns(file, ["label"]) == {"label": [None, 1]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "text,kind\na,b\n", "no column 'label'; its columns are: text, kind"),
        ("t.csv", "", "no column 'text'; its columns are: none"),
        ("t.csv", "text,label\na,b\na,b,c\n", "line 3: 3 fields, but the first line names 2"),
        ("t.csv", 'text,label\n"a" b,c\n', "line 2"),
        ("t.jsonl", '{"text": "a", "label": 1}\n{"text', "line 2 is not JSON"),
        ("t.jsonl", "{}\n" + "[" * 99_999, "line 2 is not JSON"),
        ("t.json", "[" * 99_999, "cannot be read as JSON"),
        ("t.jsonl", "[1]\n", "row 1 is not an object"),
        ("t.jsonl", '{"text": 1}\n', "no column 'label'; its columns are: text"),
        ("t.json", "[{", "cannot be read as JSON"),
        ("t.json", "3", "neither a list of objects"),
        ("t.parquet", "PAR1", "cannot be read as Parquet"),
        ("t.txt", "text", "no column 'label'"),
        ("t.docx", "text", "unknown format"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_columns(_write(tmp_path / name, text), ["text", "label"])


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.parquet", "t.txt", "t.jsonl.gz"])
def test_missing_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_columns(tmp_path / name, ["text"])


def test_damaged_bytes(tmp_path: Path) -> None:
    for name in ("t.txt", "t.txt.gz"):
        with pytest.raises(DataError, match=r"line 20001: byte 0xe9 is not UTF-8"):
            read_columns(_write(tmp_path / name, "plain\n" * 20_000 + "é", encoding="latin-1"), ["text"])
    cut = _write(tmp_path / "t.jsonl.gz", "x" * 99)
    cut.write_bytes(cut.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        read_columns(cut, ["text"])
    (tmp_path / "u.json.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path / "u.json.gz")
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "none.json")


def test_a_column_is_streamed_as_it_is_read(tmp_path):
    rows = [{"text": f"t {i}", "n": str(i)} if i != 2 else {"n": "2"} for i in range(5)]
    jsonl, table = tmp_path / "t.jsonl", tmp_path / "t.csv"
    jsonl.write_text("\n".join(map(json.dumps, rows)))
    table.write_text("n,text\n" + "\n".join(f'{i},"t, {i}"' for i in range(3)))
    lines = tmp_path / "t.txt"
    lines.write_bytes(b"one\r\n\ntwo\rmore\nlast")
    assert list(stream_column(jsonl, "text")) == read_columns(jsonl, ["text"])["text"]
    assert list(stream_column(table, "text")) == ["t, 0", "t, 1", "t, 2"]
    assert list(stream_column(lines, "text")) == ["one", "", "two\rmore", "last"]
    late = tmp_path / "late.jsonl"
    late.write_text('{"a": 1}\n{"text": "b"}\n')
    assert list(stream_column(late, "text")) == [None, "b"]
    for file, columns in ((jsonl, "text, n"), (table, "n, text")):
        with pytest.raises(DataError, match=f"there is no column 'body'; its columns are: {columns}"):
            list(stream_column(file, "body"))


@pytest.mark.parametrize(
    ("asked", "suggested"),
    [("lable", "; did you mean 'Label'?"), ("LABEL", "; did you mean 'Label'?"), ("date", "")],
)
def test_a_missing_column_suggests_the_most_similar_one(tmp_path, asked, suggested):
    table = tmp_path / "t.csv"
    table.write_text("text,Label\none,a\n")
    with pytest.raises(DataError) as raised:
        read_columns(table, ["text", asked])
    assert raised.value.message == f"{table}: there is no column {asked!r}; its columns are: text, Label{suggested}"
