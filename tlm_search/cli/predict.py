"""``tlm-search predict``: what an exported committee says about texts."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tlm_search.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from tlm_search.export.committee import Committee

CHUNK = 4096  # texts at once: enough to put those of like length together, little to hold
_READ_BYTES = 2**20
_HELD_BYTES = 2**24  # of a JSON document, before it goes to a temporary file
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
    json_: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, once all texts are answered.")
    ] = False,
) -> None:
    """Print the label of each text, its probability, and the share of members that disagree, as the texts come."""
    if texts and file is not None:
        raise UserError("texts are given both as arguments and with --file", hint="give one of the two")
    _require_folder(folder)
    import torch

    from tlm_search.export.committee import Committee
    from tlm_search.training.memory import keep_freed_memory

    torch.set_num_threads(1)  # the batches run side by side instead
    keep_freed_memory()
    committee = Committee.load(folder)
    committee.check()
    given = [texts] if texts else chunks_of_input() if file is None else chunks_of(file, text)
    if json_:
        _print_json(committee, given)
    elif texts and sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(_table(texts, list(_found(committee, texts))))
    else:
        for chunk in given:
            for answer in _found(committee, chunk):
                line = f"{_line(answer['label'])}\t{answer['probability']:.4f}\t{answer['disagreement']:.4f}"
                sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def _require_folder(folder: Path) -> None:
    try:
        there = folder.is_dir()
    except OSError:  # a text, which is no name that a folder can have
        there = False
    if not there:
        raise UserError(
            f"{_line(str(folder))}: there is no such folder",
            hint="the first argument is the folder that tlm-search export wrote: tlm-search predict DIR [TEXT ...]",
        )


def _found(committee: Committee, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    from tlm_search.search.machine import available_cpus

    answers = committee.answers(texts, threads=available_cpus())
    best = answers.probabilities.argmax(axis=-1).tolist()
    rows, disagreement = answers.probabilities.tolist(), answers.disagreement.tolist()
    for label, row, share in zip(best, rows, disagreement, strict=True):
        yield {
            "label": committee.labels[label],
            "probability": row[label],
            "probabilities": dict(zip(committee.labels, row, strict=True)),
            "disagreement": share,
        }


def _print_json(committee: Committee, chunks: Iterable[Sequence[str]]) -> None:
    """Print one list; nothing before the last text is answered, so that a wrong input leaves no half of a document."""
    with SpooledTemporaryFile(max_size=_HELD_BYTES, mode="w+", encoding="utf-8") as held:
        begun = False
        for chunk in chunks:
            for answer in _found(committee, chunk):
                item = "\n".join(f"  {line}" for line in json.dumps(answer, indent=2).splitlines())
                held.write(f"{',' if begun else '['}\n{item}")
                begun = True
        held.write("\n]\n" if begun else "[]\n")
        held.seek(0)
        shutil.copyfileobj(held, sys.stdout)


def chunks_of(file: Path, column: str) -> Iterator[list[str]]:
    """Yield the texts of ``file`` in the order of its rows; missing ones are empty, so that rows and answers agree.

    Raises:
        DataError: the file is missing, damaged, or has no such column.
    """
    from tlm_search.data.columns import NoColumnError
    from tlm_search.data.files import TEXT_COLUMN, kind_of, stream_column
    from tlm_search.errors import DataError

    try:
        values = stream_column(file, TEXT_COLUMN if kind_of(file) == "text" else column)
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
        raise DataError(error.message, hint="name the column of the texts with --text COLUMN") from error


def chunks_of_input() -> Iterator[list[str]]:
    """Yield the lines of standard input as they come, an empty line as an empty text.

    Raises:
        UserError: it is closed.
        DataError: it is not UTF-8.
    """
    if sys.stdin is None:
        raise UserError("there are no texts: standard input is closed", hint="give texts as arguments or with --file")
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


def _decoded(line: bytes, place: int) -> str:
    try:
        # A mark before the first line, as some programs write it, is no part of the text.
        return line.decode("utf-8-sig" if place == 0 else "utf-8").removesuffix("\r")
    except UnicodeDecodeError as error:
        from tlm_search.errors import DataError

        where = f"near byte {place + error.start}"
        raise DataError(f"standard input: it is not UTF-8 text ({where})", hint="save it as UTF-8") from error


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
