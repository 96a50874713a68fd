"""Columns of the user's own files: Parquet, JSON Lines, JSON, CSV, TSV and text, plain or (but Parquet) gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tlm_search.data.columns import DAMAGED, require_columns
from tlm_search.data.parquet import read_parquet, stream_parquet
from tlm_search.errors import DataError

_KINDS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
}
_BLANK_LINES = re.compile(r"\n[ \t\r]*\n\s*")
TEXT_COLUMN = "text"
_ROWS_HELD = 1000  # JSON rows in which a column must turn up


def kind_of(file: Path) -> str | None:
    """Return the format of ``file`` by the ending of its name; None for others."""
    suffixes = file.suffixes[-2:] if file.suffix.lower() == ".gz" else file.suffixes[-1:]
    return _KINDS.get(suffixes[0].lower()) if suffixes else None


def files_below(place: Path) -> list[Path]:
    """Return the files of a folder and its subfolders, sorted, links followed; a file alone is itself.

    What begins with a dot is left out, as a shell does.
    """
    if not place.is_dir():
        return [place]
    files: list[Path] = []
    entered = set()
    for folder, names, found in os.walk(place, followlinks=True):
        real = os.path.realpath(folder)
        # A link to a folder above would go round for ever.
        names[:] = [] if real in entered else [name for name in names if not name.startswith(".")]
        files += [Path(folder, name) for name in found if real not in entered and not name.startswith(".")]
        entered.add(real)
    return sorted(file for file in files if file.is_file())


def read_columns(file: Path, columns: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Return the named columns of a table, or all, in the order of its rows; what is missing in a row is None.

    A text file has one column, ``text``, with a row for each paragraph (paragraphs end at blank lines).

    Raises:
        DataError: the file is missing, damaged, of an unknown format, or has no such column.
    """
    kind = kind_of(file)
    if kind is None:
        raise DataError(
            f"{file}: unknown format",
            hint="allowed: .parquet, .jsonl, .json, .csv, .tsv, .txt, and .gz of all but Parquet",
        )
    with _in_words(file):
        if kind == "parquet":
            return read_parquet(file, columns)
        with _open(file) as stream:
            if kind == "text":
                require_columns([TEXT_COLUMN], columns or (), str(file))
                paragraphs = [part.strip() for part in _BLANK_LINES.split(stream.read())]
                return {TEXT_COLUMN: [part for part in paragraphs if part]}
            if kind in ("csv", "tsv"):
                return _separated(file, stream, columns, delimiter="," if kind == "csv" else "\t")
            rows = _json_lines(file, stream) if kind == "jsonl" else _json_rows(file, stream)
            return _transposed(file, rows, columns)


def stream_column(file: Path, column: str) -> Iterator[Any]:
    """Yield the values of one column of a table, row by row, without holding the file; None where a row has none.

    A text file has a row for each of its lines, the empty ones too. JSON that is one list is read whole.

    Raises:
        DataError: as ``read_columns``; what is damaged further down is noticed when it is reached.
    """
    kind = kind_of(file)
    if kind in (None, "json"):
        yield from read_columns(file, [column])[column]
        return
    with _in_words(file):
        if kind == "parquet":
            yield from stream_parquet(file, column)
            return
        # A line of text ends with a line feed alone; the other formats have their own rules.
        with _open(file, newline="\n" if kind == "text" else "") as stream:
            if kind == "text":
                require_columns([TEXT_COLUMN], [column], str(file))
                yield from (line.removesuffix("\n").removesuffix("\r") for line in stream)
            elif kind in ("csv", "tsv"):
                rows = _rows(file, stream, [column], delimiter="," if kind == "csv" else "\t")
                yield from (values[0] for values in rows)
            else:
                yield from _json_column(file, stream, column)


def read_json(file: Path) -> Any:
    """Return the JSON value in ``file``, which may be gzipped.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        with _open(file) as stream:
            return json.load(stream)
    except FileNotFoundError as error:
        raise _no_file(file) from error
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise DataError(f"{file}: it cannot be read as JSON: {error}", hint=DAMAGED) from error


def json_of(file: Path) -> Any:
    """Return the JSON value in ``file`` if its name says that it holds one and it does, else None."""
    if kind_of(file) != "json":
        return None
    try:
        with _in_words(file), _open(file) as stream:
            return json.load(stream)
    except (ValueError, RecursionError):
        return None


@contextmanager
def _in_words(file: Path) -> Iterator[None]:
    """Say what is wrong with ``file`` where reading it fails."""
    try:
        yield
    except FileNotFoundError as error:
        raise _no_file(file) from error
    except UnicodeDecodeError as error:
        byte, line = error.object[error.start], _line_that_is_not_utf8(file)
        raise DataError(f"{file}: line {line}: byte 0x{byte:02x} is not UTF-8 text", hint="save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: it cannot be read: {error}", hint=DAMAGED) from error


def _no_file(file: Path) -> DataError:
    return DataError(f"{file}: there is no such file", hint=f"the path is relative to {Path.cwd()}")


def _open(file: Path, *, newline: str = "") -> io.TextIOBase:
    # utf-8-sig: spreadsheets put a mark before the first column's name
    if file.suffix.lower() == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig", newline=newline)
    return file.open(encoding="utf-8-sig", newline=newline)


def _line_that_is_not_utf8(file: Path) -> int:
    with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _json_column(file: Path, stream: Iterable[str], column: str) -> Iterator[Any]:
    """Yield the column; a name that none of the first rows has is taken for a wrong one."""
    present: dict[str, None] = {}
    missing, known = 0, False
    for number, row in enumerate(_json_lines(file, stream), 1):
        if not isinstance(row, dict):
            raise DataError(f"{file}: row {number} is not an object", hint='write rows as {"text": ..., "label": ...}')
        known = known or column in row
        if known:
            yield from [None] * missing
            missing = 0
            yield row.get(column)
        else:
            present.update(dict.fromkeys(row))
            missing += 1
            if missing == _ROWS_HELD:
                break
    if not known:
        require_columns(present, [column], str(file))


def _separated(
    file: Path, stream: io.TextIOBase, columns: Sequence[str] | None, *, delimiter: str
) -> dict[str, list[Any]]:
    read = list(_rows(file, stream, columns, delimiter=delimiter, with_header=True))
    return {name: [row[place] for row in read[1:]] for place, name in enumerate(read[0])}


def _rows(
    file: Path,
    stream: io.TextIOBase,
    columns: Sequence[str] | None,
    *,
    delimiter: str,
    with_header: bool = False,
) -> Iterator[Sequence[str]]:
    """Yield the fields of each row in the order of ``columns`` (all, when None), their names first on demand."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(stream, delimiter=delimiter, strict=True)
    try:
        header = next(rows, [])
        columns = list(dict.fromkeys(columns or header))
        require_columns(header, columns, str(file))
        if with_header:
            yield columns
        places = [header.index(name) for name in columns]
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{file}: line {rows.line_num}: {len(row)} fields, but the first line names {len(header)} columns",
                    hint='put texts that hold the separator in "double quotes"',
                )
            yield [row[place] for place in places]
    except csv.Error as error:
        raise DataError(f"{file}: line {rows.line_num}: {error}", hint="check the quotes of that line") from error


def _json_lines(file: Path, stream: Iterable[str]) -> Iterator[Any]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}: line {number} is not JSON: {error}", hint="each line holds one object") from error


def _json_rows(file: Path, stream: io.TextIOBase) -> Iterable[Any]:
    """Read a list of objects; many programs write JSON Lines under this ending too."""
    text = stream.read()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "\n" in text.strip():
            return _json_lines(file, text.split("\n"))  # a text may hold other ends of lines
        raise DataError(f"{file}: it cannot be read as JSON: {error}", hint=DAMAGED) from error
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise DataError(f"{file}: it holds neither a list of objects nor one object a line")
    return value


def _transposed(file: Path, rows: Iterable[Any], columns: Sequence[str] | None) -> dict[str, list[Any]]:
    if columns is None:
        rows = list(rows)
        columns = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))
    read: dict[str, list[Any]] = {name: [] for name in columns}
    present: dict[str, None] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{file}: row {number} is not an object", hint='write rows as {"text": ..., "label": ...}')
        present.update(dict.fromkeys(row))
        for name in columns:
            read[name].append(row.get(name))
    require_columns(present, columns, str(file))
    return read
