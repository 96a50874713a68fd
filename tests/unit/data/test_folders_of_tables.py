"""A folder is read by the rules of its files, whatever else lies in it: their rows and labels, or one message."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlm_search.data.corpora import load_corpus
from tlm_search.data.sources.files import read_columns
from tlm_search.data.sources.layout import layout_of
from tlm_search.data.sources.place import source_fingerprint
from tlm_search.data.sources.source import account_of_documents, account_of_task, load_labelled
from tlm_search.data.sources.tables import read_tables
from tlm_search.errors import DataError
from tlm_search.space.sections import CorpusSection
from tlm_search.space.task import TaskSection

Rows = Sequence[tuple[str, str]]
LABELS = ["007", "NA", "42", "None", "null", "1e3", "true", "2024-01-01", "é"]


def _separated(rows: Iterable[Iterable[str]], delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue().encode()


def _csv(rows: Rows, delimiter: str = ",") -> bytes:
    return _separated([("text", "label", "note"), *((*row, "n") for row in rows)], delimiter)


def _objects(rows: Rows) -> list[dict[str, object]]:
    # The note is an extra column that the task does not name; its type differs from row to row.
    return [{"text": t, "label": n, "note": [1, "a", None, {"b": 2}][i % 4]} for i, (t, n) in enumerate(rows)]


def _parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    columns = {"text": [t for t, _ in rows], "label": [n for _, n in rows], "note": list(range(len(rows)))}
    pq.write_table(pa.table(columns), sink, row_group_size=3)
    return sink.getvalue()


WRITE: dict[str, Callable[[Rows], bytes]] = {
    "csv": _csv,
    "tsv": lambda rows: _csv(rows, "\t"),
    "jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in _objects(rows)).encode(),
    "json": lambda rows: json.dumps(_objects(rows), indent=1).encode(),
    "parquet": _parquet,
}


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}
BYSTANDERS = {
    "readme.txt": b"what this is\n\nand more",
    "README.md": b"---\nconfigs:\n- config_name: default\n  data_files: nothing/*\n---\n",
    "LICENSE": b"text,label\nx,y\n",
    "dataset_info.json": b"{}",
    "picture.png": b"\x89PNG",
    ".hidden.csv": b"text,label\nx,y\n",
    ".git/config": b"[core]",
    "old.csv.bak": b"text,label\nx,y\n",
    "notes.docx": b"PK",
    "archive.zip": b"PK",
}
FOLDERS = ["d", "my [data]", "a*b", "what?", "{a,b}", "train", "test.csv", "d::e", "päth", "~d", "data"]


def _damaged(kind: str, data: bytes, damage: str) -> bytes | None:
    """Damage a table of at least six rows; return None if this kind of table cannot have this damage."""
    lines = data.split(b"\n")
    if damage == "cut" and kind == "parquet":
        return data[: len(data) // 2]
    if damage == "cut" and kind in ("json", "jsonl"):
        return data[: data.rindex(b'"label"') + 3]
    if kind in ("csv", "tsv"):
        mark = "," if kind == "csv" else "\t"
        if damage == "quote":
            lines[5] = b'"' + lines[5]
        elif damage in ("short row", "long row"):
            # A row may take several lines, so a line may be the middle of a text.
            rows = list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=mark))
            rows[5] = rows[5][:1] if damage == "short row" else [*rows[5], "x"]
            return _separated(rows, mark)
        elif damage == "name twice":
            lines[0] = lines[0].replace(b"note", b"label")
        elif damage == "no column":
            lines[0] = lines[0].replace(b"label", b"other")
        elif damage == "bytes":
            lines[5] = b"\xe9" + lines[5]
        else:
            return None
        return b"\n".join(lines)
    if kind == "jsonl" and damage == "name twice":
        lines[5] = lines[5].replace(b'"note"', b'"label"')
        return b"\n".join(lines)
    if kind in ("json", "jsonl") and damage == "bytes":
        return data.replace(b'"note"', b'"\xe9ote"')
    if damage == "name twice" and kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, names=["text", "label", "label"]), sink)
        return sink.getvalue()
    return None


DAMAGE = ["quote", "short row", "long row", "name twice", "no column", "bytes", "cut", "compression cut"]


@st.composite
def _rows(draw: st.DrawFn, name: str) -> Rows:
    texts = st.sampled_from(["a text", "one, two", 'a "quote"', "two\nlines", "tab\there", " x ", "ünï", "-", "1"])
    numbered = draw(st.lists(st.tuples(texts, st.sampled_from(LABELS)), min_size=6, max_size=9))
    return [(f"{name} {i} {text}", label) for i, (text, label) in enumerate(numbered)]


@st.composite
def _tables(draw: st.DrawFn) -> dict[str, tuple[str, str, Rows]]:
    """Return the files of a folder by their path, with their kind, compression and rows."""
    names = draw(
        st.sampled_from(
            [
                ["train", "test"],
                ["Train", "TEST"],
                ["train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"],
                ["data/train-00000-of-00001", "data/test-00000-of-00001", "data/unsupervised-00000-of-00001"],
                ["train/a", "train/b/c", "test/a"],
                ["ag_train", "ag_test"],
                ["training.set", "evaluation.set"],
                ["train_0", "train_1", "test_0"],
                ["only"],
                ["jan", "feb"],
            ]
        )
    )
    found = {}
    for name in names:
        kind = draw(st.sampled_from(sorted(WRITE)))
        packed = "" if kind == "parquet" else draw(st.sampled_from(sorted(COMPRESS)))
        found[f"{name}.{kind}{packed}"] = (kind, packed, draw(_rows(name)))
    return found


def _expected(tables: dict[str, tuple[str, str, Rows]], split: str) -> Rows | None:
    named = [path for path in sorted(tables) if "test" in path.lower() or "eval" in path]
    parts = {"test": named, "train": [p for p in sorted(tables) if p not in named and "unsupervised" not in p]}
    return [row for path in parts[split] for row in tables[path][2]] or None


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_rows_of_a_folder_are_those_of_its_files_or_there_is_one_message(data: st.DataObject) -> None:
    tables = data.draw(_tables(), "tables")
    around = data.draw(st.lists(st.sampled_from(sorted(BYSTANDERS)), unique=True), "bystanders")
    damage = data.draw(st.sampled_from([None, None, *DAMAGE]), "damage")
    hurt = data.draw(st.sampled_from(sorted(tables)), "hurt")
    root = Path(tempfile.mkdtemp())
    try:
        folder = root / data.draw(st.sampled_from(FOLDERS), "folder")
        done = False
        for path, (kind, packed, rows) in tables.items():
            raw = WRITE[kind](rows)
            if path == hurt and damage and (worse := _damaged(kind, raw, damage)) is not None:
                raw, done = worse, True
            raw = COMPRESS[packed](raw)
            if path == hurt and damage == "compression cut" and packed:
                raw, done = raw[: len(raw) // 2], True
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(raw)
        for path in around:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(BYSTANDERS[path])
        section = TaskSection(source=str(folder))
        try:
            train, test = load_labelled(section, root / "cache")
        except DataError as error:
            assert done, error
            assert str(folder / hurt) in error.message
            if damage in ("quote", "short row", "long row"):
                assert "line" in error.message
            return
        assert not done or "unsupervised" in hurt  # the task did not ask for this split
        assert list(zip(train.texts, train.labels, strict=True)) == _expected(tables, "train")
        found = None if test is None else list(zip(test.texts, test.labels, strict=True))
        assert found == _expected(tables, "test")
        (said,) = account_of_task(section)
        for path in around:
            assert path.split("/", maxsplit=1)[0] in said
        assert all(path in said for path in tables)
    finally:
        shutil.rmtree(root)


def _write(folder: Path, files: dict[str, str | bytes]) -> str:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


TABLE = "text,label\na,x\n"


@pytest.mark.parametrize(
    ("paths", "splits"),
    [
        (["a.csv", "b/c.jsonl"], {"train": ["a.csv", "b/c.jsonl"]}),
        (["train.csv", "dev.csv", "other.csv"], {"train": ["train.csv"], "validation": ["dev.csv"]}),
        (["part-00000-of-00002.csv", "part-1.csv"], {"train": ["part-00000-of-00002.csv", "part-1.csv"]}),
        (["data/extra-00000-of-00001.csv"], {"extra": ["data/extra-00000-of-00001.csv"]}),
        (["train-00000-of-00001-0123456789abcdef.csv"], {"train": ["train-00000-of-00001-0123456789abcdef.csv"]}),
        (["train/a-00000-of-00001.csv"], {"train": ["train/a-00000-of-00001.csv"]}),
        (["pen_test.csv"], {"train": ["pen_test.csv"]}),
        (["jan.csv", "pen_test.csv"], {"train": ["jan.csv", "pen_test.csv"]}),
        (["train_constraints.csv"], {"train": ["train_constraints.csv"]}),
        (["a.train.csv", "a.test.csv", "b.csv"], {"train": ["a.train.csv"], "test": ["a.test.csv"]}),
        (["train/train-00000-of-00001.csv"], {"train": ["train/train-00000-of-00001.csv"]}),
        (["d.csv", "dataset_infos.json", "state.json"], {"train": ["d.csv"]}),
    ],
)  # fmt: skip
def test_names_say_the_split_by_one_rule(tmp_path: Path, paths: list[str], splits: dict[str, list[str]]) -> None:
    _write(tmp_path, dict.fromkeys(paths, TABLE))
    found = layout_of(tmp_path, labelled=True).splits
    assert {
        split: [file.relative_to(tmp_path).as_posix() for file in files] for split, files in found.items()
    } == splits


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no table in this folder"),
        ({"a.txt": "text", "b.md": "text"}, "no table in this folder"),
        ({"train.csv": TABLE, "train.csv.gz": TABLE}, "train.csv.gz: the same folder has train.csv"),
        ({"a.csv": TABLE, "a.jsonl": TABLE}, "the same folder has a.csv, which differs only in its ending"),
        ({"test/train.csv": TABLE}, "its name and its folder name different splits: test and train"),
        (
            {"train_test.csv": TABLE, "dev_test.csv": TABLE, "train_dev.csv": TABLE},
            "its name and its folder name different splits",
        ),
        ({"a.csv": TABLE, "b.csv": "text,other\na,b\n"}, "b.csv: there is no column 'label'"),
        ({"a.csv": TABLE, "stats.json": "3"}, "stats.json: it holds neither a list of objects"),
    ],
)
def test_a_folder_that_cannot_be_read(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match=message) as caught:
        load_labelled(TaskSection(source=_write(tmp_path / "d", files)), tmp_path)
    assert caught.value.hint


def test_a_link_to_nothing_is_no_missing_shard(tmp_path: Path) -> None:
    _write(tmp_path, {"train.csv": TABLE})
    (tmp_path / "more.csv").symlink_to(tmp_path / "none")
    with pytest.raises(DataError, match=r"more\.csv: it is a link to a file that does not exist"):
        load_labelled(TaskSection(source=str(tmp_path)), tmp_path)


def test_a_folder_of_test_texts_alone_needs_no_name_of_a_split(tmp_path: Path) -> None:
    train, test = _write(tmp_path / "a", {"x.csv": TABLE}), _write(tmp_path / "b", {"y.csv": "text,label\nb,y\n"})
    section = TaskSection(source=train, test_source=test)
    found = load_labelled(section, tmp_path)
    assert [part.texts for part in found if part is not None] == [["a"], ["b"]]
    assert account_of_task(section) == [f"{train}: train is x.csv", f"{test}: train is y.csv"]


def test_the_message_names_what_is_read_and_what_is_not(tmp_path: Path) -> None:
    folder = _write(
        tmp_path / "d",
        {"train-00000-of-00003.csv": TABLE, "train-00002-of-00003.csv": TABLE, "dev.csv": TABLE, ".git/a": "", ".x": ""}
        | {f"{i:02}.png": "" for i in range(30)},
    )
    (said,) = account_of_task(TaskSection(source=folder))
    assert said.startswith(f"{folder}: train is train-00000-of-00003.csv, train-00002-of-00003.csv (2 of 3 shards); ")
    assert "; validation is dev.csv; not read: .git/, .x, 00.png, 01.png" in said
    assert said.endswith(" and 12 more")
    assert account_of_documents(CorpusSection(source=folder, split="dev"))[0].startswith(f"{folder}: dev is dev.csv; ")


def test_documents_are_tables_or_text_files(tmp_path: Path) -> None:
    tables = {"docs.jsonl": '{"text": "one"}\n{"text": ""}\n{"text": "two"}\n', "readme.txt": "r", "license.txt": "l"}
    section = CorpusSection(source=_write(tmp_path / "tables", tables), documents=2)
    assert load_corpus(section, tmp_path).documents == ["one", "two"]
    assert account_of_documents(section)[0].endswith("train is docs.jsonl; not read: license.txt, readme.txt")
    split = {"train.jsonl": '{"text": "one"}\n', "a.txt": "a", "b.txt": "b", "c.txt": "c"}
    assert load_corpus(CorpusSection(source=_write(tmp_path / "split", split)), tmp_path).documents == ["one"]
    texts = {"a.txt": "a", "b.txt.bz2": bz2.compress(b"b"), "t.csv": "text\nx\n"}
    section = CorpusSection(source=_write(tmp_path / "texts", texts))
    assert load_corpus(section, tmp_path).documents == ["a", "b"]
    assert account_of_documents(section)[0].endswith("the documents are a.txt, b.txt.bz2; not read: t.csv")


def test_a_config_is_a_subfolder(tmp_path: Path) -> None:
    folder = _write(tmp_path / "d", {"en/train.csv": TABLE, "fr/train.csv": "text,label\nc,x\n"})
    assert load_labelled(TaskSection(source=folder, config="fr"), tmp_path)[0].texts == ["c"]
    assert load_labelled(TaskSection(source=folder), tmp_path)[0].texts == ["a", "c"]


@pytest.mark.parametrize("kind", sorted(WRITE))
def test_a_name_that_stands_twice_is_refused_in_every_format(tmp_path: Path, kind: str) -> None:
    raw = WRITE[kind]([("a", "x")] * 6)
    if kind == "json":
        raw = raw.replace(b'"note"', b'"label"')
    file = tmp_path / f"t.{kind}"
    file.write_bytes(raw if kind == "json" else _damaged(kind, raw, "name twice") or b"")
    for columns in (["text", "label"], None):
        if columns or kind not in ("json", "jsonl"):
            with pytest.raises(DataError, match=r"columns 'label'|the key 'label' more than once"):
                read_columns(file, columns)
    assert read_columns(file, ["text"])["text"]  # the task did not ask for the other column


def test_columns_without_a_name_are_nobodys(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label,,\na,x,,\n")
    assert read_columns(tmp_path / "t.csv") == {"text": ["a"], "label": ["x"]}


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst"])
def test_every_stream_of_a_compressed_file_is_read_or_it_is_damaged(tmp_path: Path, packed: str) -> None:
    first, second = (COMPRESS[packed](f"{name}\n\n".encode()) for name in ("one", "two"))
    file = tmp_path / f"t.txt{packed}"
    file.write_bytes(first + second)
    assert read_columns(file, ["text"]) == {"text": ["one", "two"]}
    for worse in (first + b"?" + second[1:], first + second[:-4], b"?" + first):
        file.write_bytes(worse)
        with pytest.raises(DataError, match=r"t\.txt.*cannot be read"):
            read_columns(file, ["text"])


def test_the_lines_of_an_open_quote_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('text,label\na,x\n\n"b,x\nc,x\nd,x\n')
    with pytest.raises(DataError, match=r"t\.csv: lines 4 to 6: unexpected end of data") as caught:
        read_columns(tmp_path / "t.csv")
    assert caught.value.hint == "check the quotes of line 4"


def _shards(folder: Path, number: int) -> list[Path]:
    files = []
    folder.mkdir()
    for shard in range(number):
        files.append(folder / f"train-{shard:05}-of-{number:05}.parquet")
        rows = [f"{shard} {row}" for row in range(shard + 5)]
        pq.write_table(pa.table({"text": rows, "n": range(len(rows))}), files[-1], row_group_size=3)
    return files


@pytest.mark.parametrize("most", [None, 0, 1, 9, 10**6])
@pytest.mark.parametrize("seed", [None, 42])
def test_rows_come_in_the_order_in_which_datasets_gives_them(
    tmp_path: Path, seed: int | None, most: int | None
) -> None:
    import datasets

    files = _shards(tmp_path / "d", 7)
    (tmp_path / "d" / "train-00007-of-00008.csv").write_text("n,text\n0,7 0\n1,7 1\n")
    files.append(tmp_path / "d" / "train-00007-of-00008.csv")
    rows = [{"text": f"{shard} {row}"} for shard in range(7) for row in range(shard + 5)] + [
        {"text": "7 0"},
        {"text": "7 1"},
    ]
    plain = datasets.Dataset.from_list(rows)
    expected = (plain if seed is None else plain.shuffle(seed=seed))["text"][:most]
    assert read_tables(files, ["text"], seed=seed, most=most) == {"text": expected}


def test_only_what_is_asked_for_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = _shards(tmp_path / "d", 4)
    groups: list[int] = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, i, **k: groups.append(i) or real(self, i, **k))
    files[3].write_bytes(b"damaged")
    assert read_tables(files, ["text"], most=7)["text"] == [*(f"0 {i}" for i in range(5)), "1 0", "1 1"]
    assert groups == [0, 1, 0]
    with pytest.raises(DataError, match=r"train-00003-of-00004\.parquet: it cannot be read as Parquet"):
        read_tables(files, ["text"])


def test_damage_inside_a_shard_is_one_message(tmp_path: Path) -> None:
    (file,) = _shards(tmp_path / "d", 1)
    raw = file.read_bytes()
    file.write_bytes(raw[:4] + b"\xff" * 60 + raw[64:])
    for most in (None, 2):
        with pytest.raises(DataError, match="cannot be read"):
            read_tables([file], ["text"], seed=42, most=most)


def test_folders_that_were_read_well_keep_their_fingerprint(tmp_path: Path) -> None:
    parquet = {"README.md": "r", "data/train-00000-of-00001.parquet": "p", "data/test-00000-of-00001.parquet": "q"}
    texts = {"a.txt": "a", "b/c.txt": "b"}
    # The fingerprints of the commit before folders had a single reader.
    before = {
        "parquet": "ae6f42728a41b58c4479b84b5c10538a",
        "texts": "771d428412508e1f3ffca7d63598dd6c",
        "tables": "793c517750256b4cd9b9be2a7c3ce54a",
    }
    now = {
        name: source_fingerprint(_write(tmp_path / name, files), tmp_path / "cache")
        for name, files in (("parquet", parquet), ("texts", texts), ("tables", {"train.csv": TABLE}))
    }
    assert {name for name in now if now[name] == before[name]} == {"parquet", "texts"}
    # the same fingerprint when it is read from the cache
    assert now["tables"] == source_fingerprint(str(tmp_path / "tables"), tmp_path / "cache")
