"""Read columns of files: Parquet, JSON Lines, JSON, CSV, TSV and text, plain or (except Parquet) compressed."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from tlm_search.data.sources.columns import DAMAGED, require_columns, require_one
from tlm_search.data.sources.parquet import read_parquet, stream_parquet
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
_ROWS_HELD = 1000  # JSON rows that are searched for a requested column
_BYTES_READ = 1 << 16  # of a compressed file, read at once
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def kind_of(file: Path) -> str | None:
    """Return the format of ``file`` by the ending of its name; None if it is unknown."""
    suffixes = file.suffixes[-2:] if file.suffix.lower() in COMPRESSED else file.suffixes[-1:]
    return _KINDS.get(suffixes[0].lower()) if suffixes else None


def stem_of(file: Path) -> str:
    """Return the name of ``file`` without the endings for format and compression."""
    name = file.stem if file.suffix.lower() in COMPRESSED else file.name
    return Path(name).stem


def files_below(place: Path) -> list[Path]:
    """Return the files of a folder and its subfolders, sorted; for a file, the file itself. Links are followed.

    Names that begin with a dot are left out, as in a shell.

    Raises:
        DataError: a subfolder cannot be listed, or a file in a known format is a broken link.
    """
    return all_below(place)[0]


def all_below(place: Path) -> tuple[list[Path], list[Path]]:
    """Return ``files_below`` the ``place``, and the paths that it leaves out: hidden names and broken links.

    Raises:
        DataError: as ``files_below``.
    """
    if not place.is_dir():
        return [place], []
    found: list[Path] = []
    left_out: list[Path] = []
    entered = set()
    for folder, folders, names in os.walk(place, followlinks=True, onerror=_unlisted):
        real = os.path.realpath(folder)
        if real in entered:  # A link to a parent folder would loop for ever.
            folders.clear()
            continue
        entered.add(real)
        left_out += [Path(folder, name) for name in (*folders, *names) if name.startswith(".")]
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    files = [file for file in found if file.is_file()]
    others = set(found).difference(files)
    lost = sorted(file for file in others if kind_of(file) and file.is_symlink())
    if lost:
        raise DataError(
            f"{lost[0]}: it is a link to a file that does not exist", hint="fetch the file or remove the link"
        )
    return sorted(files), sorted([*left_out, *others])


def _unlisted(error: OSError) -> None:
    raise DataError(f"{error.filename}: it cannot be read: {error.strerror or error}", hint="make the folder readable")


def read_columns(file: Path, columns: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Return the named columns of a table, or all, in the order of its rows; missing values are None.

    A text file has one column, ``text``, with a row for each paragraph (paragraphs end at blank lines).

    Raises:
        DataError: the file is missing, damaged, of an unknown format, or has no such column.
    """
    kind = kind_of(file)
    if kind is None:
        raise DataError(
            f"{file}: unknown format",
            hint="allowed: .parquet, .jsonl, .json, .csv, .tsv, .txt, and .gz, .bz2, .xz, .zst of all but Parquet",
        )
    with reading(file):
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
    """Yield the values of a column of a table row by row, None for a missing value, without loading the whole file.

    A text file has a row for each line, also for an empty line. A JSON list is loaded whole.

    Raises:
        DataError: as ``read_columns``. Damage further down raises when it is reached.
    """
    kind = kind_of(file)
    if kind in (None, "json"):
        yield from read_columns(file, [column])[column]
        return
    with reading(file):
        if kind == "parquet":
            yield from stream_parquet(file, column)
            return
        # A line of a text file ends only with a line feed; the other formats have their own rules.
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
    """Return the JSON value in ``file``, which may be compressed.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with _open(file) as stream:
            return json.load(stream)
    except FileNotFoundError as error:
        raise _no_file(file) from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: it cannot be read as JSON: {error}", hint=DAMAGED) from error


def json_of(file: Path) -> Any:
    """Return the JSON value in ``file``, or None if the name or the content is not JSON."""
    if kind_of(file) != "json":
        return None
    try:
        with reading(file), _open(file) as stream:
            return json.load(stream)
    except (ValueError, RecursionError):
        return None


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn errors of the block into a ``DataError`` that says what is wrong with ``file``."""
    try:
        yield
    except FileNotFoundError as error:
        raise _no_file(file) from error
    except UnicodeDecodeError as error:
        byte, line = error.object[error.start], _line_that_is_not_utf8(file)
        raise DataError(f"{file}: line {line}: byte 0x{byte:02x} is not UTF-8 text", hint="save it as UTF-8") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{file}: it cannot be read: {error}", hint=DAMAGED) from error


def _no_file(file: Path) -> DataError:
    return DataError(f"{file}: there is no such file", hint=f"the path is relative to {Path.cwd()}")


def _open(file: Path, *, newline: str = "") -> io.TextIOBase:
    # utf-8-sig: spreadsheets write a byte-order mark before the name of the first column
    return io.TextIOWrapper(_open_bytes(file), encoding="utf-8-sig", newline=newline)


def _open_bytes(file: Path) -> BinaryIO:
    match file.suffix.lower():
        case ".gz":
            return cast(BinaryIO, gzip.open(file))
        case ".bz2":
            return cast(BinaryIO, io.BufferedReader(_Decompressed(file, bz2.BZ2Decompressor)))
        case ".xz":
            return cast(BinaryIO, io.BufferedReader(_Decompressed(file, lzma.LZMADecompressor)))
        case ".zst":
            import pyarrow as pa

            stream: Any = pa.CompressedInputStream(file.open("rb"), "zstd")
            return cast(BinaryIO, io.BufferedReader(stream))
    return file.open("rb")


class _Decompressed(io.RawIOBase):
    """The decompressed bytes of a file with one or more compressed streams.

    ``bz2.open`` and ``lzma.open`` treat a damaged second stream as the end of the file. Here it raises.
    """

    def __init__(self, file: Path, new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> None:
        self._file = file.open("rb")
        self._new = new
        self._stream = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data:
            if self._stream.eof:
                # An xz stream may be padded with zeros.
                held = self._stream.unused_data.lstrip(b"\0") or self._file.read(_BYTES_READ).lstrip(b"\0")
                if not held:
                    return 0
                self._stream = self._new()
            else:
                held = self._file.read(_BYTES_READ) if self._stream.needs_input else b""
                if self._stream.needs_input and not held:
                    raise EOFError("it is cut off before its end")
            data = self._stream.decompress(held, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _line_that_is_not_utf8(file: Path) -> int:
    with _open_bytes(file) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _json_column(file: Path, stream: Iterable[str], column: str) -> Iterator[Any]:
    """Yield the column. If none of the first rows has it, its name counts as wrong."""
    present: dict[str, None] = {}
    missing, known = 0, False
    for number, row in enumerate(_json_lines(file, stream), 1):
        if not isinstance(row, dict):
            raise DataError(f"{file}: row {number} is not an object", hint='write rows as {"text": ..., "label": ...}')
        _require_single(file, number, row, [column])
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
    """Yield the fields of each row in the order of ``columns`` (None: all); ``with_header`` yields the names first."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(stream, delimiter=delimiter, strict=True)
    ended = 0  # last line of the previous row
    try:
        header = next(rows, [])
        ended = rows.line_num
        # Columns without a name are ignored, because spreadsheets write separators after the last column.
        columns = list(dict.fromkeys(columns or filter(None, header)))
        require_columns(header, columns, str(file))
        require_one(header, columns, str(file))
        if with_header:
            yield columns
        places = [header.index(name) for name in columns]
        for row in rows:
            ended = rows.line_num
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{file}: line {rows.line_num}: {len(row)} fields, but the first line names {len(header)} columns",
                    hint='put texts that hold the separator in "double quotes"',
                )
            yield [row[place] for place in places]
    except csv.Error as error:
        begun = ended + 1
        lines = f"line {begun}" if begun == rows.line_num else f"lines {begun} to {rows.line_num}"
        raise DataError(f"{file}: {lines}: {error}", hint=f"check the quotes of line {begun}") from error


def _json_lines(file: Path, stream: Iterable[str]) -> Iterator[Any]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{file}: line {number} is not JSON: {error}", hint="each line must be one JSON object"
            ) from error


def _json_rows(file: Path, stream: io.TextIOBase) -> Iterable[Any]:
    """Read a list of objects, or JSON Lines, because many programs write them with the ending .json."""
    text = stream.read()
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "\n" in text.strip():
            return _json_lines(file, text.split("\n"))  # not splitlines: a text may contain other line ends
        raise DataError(f"{file}: it cannot be read as JSON: {error}", hint=DAMAGED) from error
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise DataError(
            f"{file}: it holds neither a list of objects nor one object a line",
            hint='write rows as {"text": ..., "label": ...}; move files that are not tables elsewhere',
        )
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
        _require_single(file, number, row, columns)
        present.update(dict.fromkeys(row))
        for name in columns:
            read[name].append(row.get(name))
    require_columns(present, columns, str(file))
    return read


class _Repeating(dict[str, Any]):
    """A JSON object that contains a key more than once."""

    twice: frozenset[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object from its keys and values; ``_Repeating`` remembers the repeated keys."""
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    repeating = _Repeating(plain)
    names = [name for name, _ in pairs]
    repeating.twice = frozenset(name for name in plain if names.count(name) > 1)
    return repeating


def _require_single(file: Path, number: int, row: Mapping[str, Any], columns: Sequence[str]) -> None:
    twice = row.twice.intersection(columns) if isinstance(row, _Repeating) else ()
    if twice:
        raise DataError(f"{file}: row {number} has the key {min(twice)!r} more than once", hint="rename one of them")
