"""``tlm-search predict``: what an exported committee says about texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlm_search.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN_CHARACTERS = 60


def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that tlm-search export wrote.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT ...]", help="Texts; standard input, one a line, without any.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="F", help="A table of texts (.csv .jsonl .parquet ...), or .txt: one a line.")
    ] = None,
    text: Annotated[str, typer.Option(metavar="COLUMN", help="The column of --file that holds the texts.")] = "text",
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print the label of each text, its probability, and the share of members that disagree."""
    if texts and file is not None:
        raise UserError("texts are given both as arguments and with --file", hint="give one of the two")
    from tlm_search.export.committee import Committee

    committee = Committee.load(folder)
    committee.check()
    given = texts or (_lines_of_input() if file is None else texts_of(file, text))
    answers = committee.answers(given)
    best = answers.probabilities.argmax(axis=-1)
    found: list[dict[str, Any]] = [
        {
            "label": committee.labels[label],
            "probability": float(row[label]),
            "probabilities": dict(zip(committee.labels, row.tolist(), strict=True)),
            "disagreement": float(disagreement),
        }
        for label, row, disagreement in zip(best, answers.probabilities, answers.disagreement, strict=True)
    ]
    if json_:
        print(json.dumps(found, indent=2))
    elif sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(_table(given, found))
    else:
        for answer in found:
            print(f"{_line(answer['label'])}\t{answer['probability']:.4f}\t{answer['disagreement']:.4f}")


def texts_of(file: Path, column: str) -> list[str]:
    """Return the texts of ``file`` in the order of its rows; missing ones are empty, so that rows and answers agree.

    Raises:
        DataError: the file is missing, damaged, or has no such column.
    """
    from tlm_search.data.files import NoColumnError, kind_of, read_columns
    from tlm_search.errors import DataError

    if kind_of(file) == "text" and file.suffix.lower() != ".gz":
        try:
            return _lines(file.read_bytes(), str(file))
        except OSError as error:
            raise DataError(f"{file}: it cannot be read: {error.strerror or error}") from error
    try:
        values = read_columns(file, [column])[column]
    except NoColumnError as error:
        raise DataError(error.message, hint="name the column of the texts with --text COLUMN") from error
    for row, value in enumerate(values, 1):
        if not isinstance(value, str | None):
            raise DataError(
                f"{file}: row {row}: column {column!r} holds {type(value).__name__}, not text",
                hint="name the column of the texts with --text COLUMN",
            )
    return [value or "" for value in values]


def _lines_of_input() -> list[str]:
    if sys.stdin.isatty():
        print("reading texts from standard input, one a line; Ctrl-D ends", file=sys.stderr)
    return _lines(sys.stdin.buffer.read(), "standard input")


def _lines(content: bytes, where: str) -> list[str]:
    """Split at line ends alone; an empty line is an empty text."""
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        from tlm_search.errors import DataError

        raise DataError(f"{where}: it is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from error
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _table(texts: Sequence[str], found: Sequence[dict[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("text", overflow="ellipsis", no_wrap=True)
    table.add_column("label")
    table.add_column("probability", justify="right")
    table.add_column("members that disagree", justify="right")
    for text, answer in zip(texts, found, strict=True):
        numbers = (f"{100 * answer['probability']:.1f}%", f"{100 * answer['disagreement']:.0f}%")
        table.add_row(Text(_line(text[:_SHOWN_CHARACTERS])), Text(_line(answer["label"])), *numbers)
    return table


def _line(text: str) -> str:
    """Return ``text`` without what would move a terminal's cursor or break a line."""
    return "".join(character if character.isprintable() else " " for character in text)
