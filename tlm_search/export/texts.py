"""Read the texts for a committee from arguments, files and standard input, in chunks and in order."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, cast

from tlm_search.data.context import LinesBefore, read_log
from tlm_search.data.pairs import Pair, TextOrPair, joined
from tlm_search.data.rows import Labelled
from tlm_search.data.sources.columns import NoColumnError, labels_of, texts_of
from tlm_search.data.sources.files import TEXT_COLUMN, kind_of, read_columns, stream_column
from tlm_search.errors import DataError, UserError
from tlm_search.export.committee import Committee
from tlm_search.space.task import ContextSection

CHUNK = 4096  # texts: enough for batches of similar length, and few enough for the memory
_READ_BYTES = 2**20
_PLAIN = ("text", "text_pair")  # the columns if the study names none


def columns_of(committee: Committee, given: Sequence[str]) -> Sequence[str]:
    """Return the columns that hold the texts: the ``given`` ones, otherwise those of the study.

    A committee of pairs reads two columns, any other committee one.

    Raises:
        UserError: the number of given columns is wrong.
    """
    two = committee.pairs and committee.context is None
    reads, wanted, usual = ("pairs of", 2, list(_PLAIN)) if two else ("single", 1, _PLAIN[0])
    if given and len(given) != wanted:
        raise UserError(
            f"this committee reads {reads} texts, and --text names {len(given)} column{'s' * (len(given) > 1)}",
            hint="name one with --text COLUMN"
            if wanted == 1
            else "name two, in the order of the study: --text COLUMN --text COLUMN",
        )
    known = committee.columns.get("text", usual)
    return given or ([known] if isinstance(known, str) else known)


def pairs(
    texts: Sequence[str] | None, file: Path | None, names: Sequence[str], columns: Mapping[str, Any]
) -> Iterator[list[Pair]]:
    """Yield pairs of texts in chunks.

    Two arguments make a pair. A line of standard input or of a text file holds both texts, with a tab between them. A
    table holds them in two columns.

    Raises:
        UserError: the second text of a pair is missing.
        DataError: the file is missing, damaged, or has no such column.
    """
    if texts:
        if len(texts) % 2:
            raise UserError(
                f"this committee reads pairs of texts, but the number of texts is odd: {len(texts)}",
                hint='give two texts for each pair: tlm-search predict DIR "a text" "another text"',
            )
        yield [Pair(*both) for both in zip(texts[::2], texts[1::2], strict=True)]
    elif file is None or kind_of(file) == "text":
        lines = count(1)
        for chunk in chunks_of_input() if file is None else chunks_of(file, names[0], columns):
            yield [_pair(line, number) for line, number in zip(chunk, lines, strict=False)]
    else:
        first, second = (chunks_of(file, name, columns) for name in names)
        for chunks in zip(first, second, strict=True):
            yield [Pair(*both) for both in zip(*chunks, strict=True)]


def lines(
    context: ContextSection, file: Path | None, name: str, columns: Mapping[str, Any]
) -> Iterator[Sequence[TextOrPair]]:
    """Yield log lines with their ``context`` in chunks, in the order of the table, text file or standard input.

    Raises:
        UserError: the context needs a column, and the input is not a table.
        DataError: the file is missing, damaged, or lacks a column.
    """
    if file is None or kind_of(file) == "text":
        if context.columns:
            raise UserError(
                f"{'standard input' if file is None else file} has no columns, but the contexts of lines need those of "
                f"the study: {', '.join(map(repr, context.columns))}",
                hint="name a table with these columns: --file F",
            )
        before = LinesBefore(context.rows)
        for chunk in chunks_of_input() if file is None else chunks_of(file, name, columns):
            yield [before.followed_by(text) for text in chunk]
    else:
        lines = _read(file, [name], columns, context)[0]
        yield from (lines[begin : begin + CHUNK] for begin in range(0, len(lines), CHUNK))


def labelled(
    file: Path, names: Sequence[str], label: str, columns: Mapping[str, Any], context: ContextSection | None
) -> Labelled:
    """Read texts and labels as a study reads them.

    Raises:
        DataError: the file is missing, damaged, or lacks a column; text and label are one column; no row
            has a label.
    """
    names = [_text_column(file, name) for name in names]
    if label in names:
        raise DataError(
            f"{file}: column {label!r} is given as the text and as the label",
            hint="name two columns with --text COLUMN and --label COLUMN",
        )
    texts, labels = _read(file, names, columns, context, label=label)
    rows = Labelled(texts, labels)
    if not any(rows.labels):
        lack = f"column {label!r} has no label in any of {len(rows.texts):,} rows" if rows.texts else "it has no rows"
        raise DataError(f"{file}: {lack}", hint="a score needs texts and their true labels")
    return rows


def chunks_of(file: Path, column: str, columns: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the texts of ``file`` in chunks, in the order of its rows. A missing text becomes an empty one.

    So every row gets an answer. Error messages name the ``columns`` of the study.

    Raises:
        DataError: the file is missing, damaged, or has no such column.
    """
    column = _text_column(file, column)
    try:
        values = stream_column(file, column)
        rows = count(1)
        while chunk := list(islice(values, CHUNK)):
            for value, row in zip(chunk, rows, strict=False):
                if not isinstance(value, str | None):
                    raise DataError(
                        f"{file}: row {row}: column {column!r} holds {type(value).__name__}, not text",
                        hint="name the column of the texts with --text COLUMN",
                    )
            yield [value or "" for value in chunk]
    except NoColumnError as error:
        raise DataError(error.message, hint=_columns_hint(columns, "text")) from error


def chunks_of_input() -> Iterator[list[str]]:
    """Yield the lines of standard input as they arrive. An empty line is an empty text.

    Raises:
        UserError: standard input is closed.
        DataError: standard input is not UTF-8.
    """
    if sys.stdin is None:
        raise UserError(
            "there are no texts, and standard input is closed", hint="give texts as arguments or with --file"
        )
    if sys.stdin.isatty():
        print("reading texts from standard input, one a line; Ctrl-D ends", file=sys.stderr)
    unfinished, place = b"", 0
    source = cast(io.BufferedReader, sys.stdin.buffer)
    while part := source.read1(_READ_BYTES):
        *lines, unfinished = (unfinished + part).split(b"\n")
        if lines:
            yield [_decoded(line, place) for line in lines]
        place += sum(len(line) + 1 for line in lines)
    if unfinished:
        yield [_decoded(unfinished, place)]


def _read(
    file: Path,
    names: Sequence[str],
    columns: Mapping[str, Any],
    context: ContextSection | None,
    *,
    label: str | None = None,
) -> tuple[Sequence[TextOrPair], list[str]]:
    """Return the texts of a table as a study reads them, with their ``context`` if it has one, and the labels.

    Raises:
        DataError: the table is missing, damaged, or lacks a column.
    """
    of_context = () if context is None else context.columns
    wanted = [*names, *of_context, *([] if label is None else [label])]
    try:
        read = read_columns(file, list(dict.fromkeys(wanted)))
    except NoColumnError as error:
        hint = _columns_hint(columns, "text", *([] if label is None else ["label"]))
        if of_context:
            hint += f"; a line's context needs the columns {', '.join(map(repr, of_context))} of the study"
        raise DataError(error.message, hint=hint) from error
    of_columns = [texts_of(read[name], name, str(file)) for name in names]
    labels = [] if label is None else labels_of(read[label], label, str(file))
    if context is None:
        return joined(of_columns), labels
    return read_log(context, of_columns[0], read, str(file)).lines, labels


def _pair(line: str, number: int) -> Pair:
    first, tab, second = line.partition("\t")
    if not tab:
        raise UserError(
            f"this committee reads pairs of texts, but line {number:,} has no tab between two texts",
            hint="write a tab between the two texts of a line, or name a table: --file F --text COLUMN --text COLUMN",
        )
    return Pair(first, second)


def _text_column(file: Path, name: str) -> str:
    return TEXT_COLUMN if kind_of(file) == "text" else name


def _columns_hint(columns: Mapping[str, Any], *roles: str) -> str:
    """Say how to name the columns of ``roles``, and how the study called them if that is known."""
    options = " and ".join(f"--{role} COLUMN" for role in roles)
    known = [f"{role} was {columns[role]!r}" for role in roles if role in columns]
    return f"name the columns of the file with {options}" + (f"; in the study {', '.join(known)}" if known else "")


def _decoded(line: bytes, place: int) -> str:
    try:
        # Some programs write a byte order mark before the first line. It is not text.
        return line.decode("utf-8-sig" if place == 0 else "utf-8").removesuffix("\r")
    except UnicodeDecodeError as error:
        where = f"near byte {place + error.start}"
        raise DataError(f"standard input is not UTF-8 text ({where})", hint="convert it to UTF-8") from error
