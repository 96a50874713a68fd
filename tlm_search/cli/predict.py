"""``tlm-search predict``: what an exported committee says about texts, and how often that is right."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tlm_search.data.pairs import Pair, TextOrPair, parts_of
from tlm_search.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from tlm_search.data.rows import Labelled
    from tlm_search.export.committee import Committee
    from tlm_search.export.score import Score
    from tlm_search.space.sections import ContextSection

CHUNK = 4096  # texts at once: enough to put those of like length together, little to hold
_READ_BYTES = 2**20
_HELD_BYTES = 2**24  # of a JSON document, before it goes to a temporary file
_SHOWN_CHARACTERS = 60
_SHOWN = 10  # confusions, and labels that the committee does not know
_PLAIN = ("text", "text_pair")  # columns, where none are named


def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that tlm-search export wrote.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT ...]", help="Texts; standard input, one a line, without any.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="F", help="A table of texts (.csv .jsonl .parquet ...), or .txt: one a line.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="The column of --file that holds the texts, twice for pairs; the study's when not given.",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column of --file that holds the true labels: print a score instead."),
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, once all texts are answered.")
    ] = False,
) -> None:
    """Print the label of each text, its probability, and the share of members that disagree, as the texts come.

    Where the committee reads pairs, two arguments are one, or a line with a tab between the two texts. Where it reads
    lines in context, two arguments are the context and the line; in a file or on standard input they are the lines.
    With --label: accuracy, macro F1, figures of each label and the largest confusions.
    """
    if texts and file is not None:
        raise UserError("texts are given both as arguments and with --file", hint="give one of the two")
    if file is None and label is not None:
        raise UserError("--label goes with --file", hint="name the table of texts and true labels with --file F")
    _require_folder(folder)
    import torch

    from tlm_search.export.committee import Committee
    from tlm_search.training.memory import keep_freed_memory

    torch.set_num_threads(1)  # the batches run side by side instead
    keep_freed_memory()
    committee = Committee.load(folder)
    committee.check()
    names = _names(committee, text or ())
    if file is not None and label is not None:
        _score(committee, file, names=names, label=label, json_=json_)
        return
    given: Iterable[Sequence[TextOrPair]]
    if committee.context is not None and not texts:
        given = _lines(committee.context, file, names[0], committee.columns)
    elif committee.pairs:
        given = _pairs(texts, file, names, committee.columns)
    else:
        column, known = names[0], committee.columns
        given = [texts] if texts else chunks_of_input() if file is None else chunks_of(file, column, known)
    if json_:
        _print_json(answer for chunk in given for answer in _found(committee, chunk))
    elif texts and sys.stdout.isatty():
        from rich.console import Console

        asked = [item for chunk in given for item in chunk]
        Console(highlight=False).print(_table(asked, list(_found(committee, asked))))
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


def _names(committee: Committee, given: Sequence[str]) -> Sequence[str]:
    """Return the columns of the texts: those that are ``given``, else those of the study; one, or two of pairs.

    Raises:
        UserError: as many are given as the committee does not read.
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


def _pairs(
    texts: Sequence[str] | None, file: Path | None, names: Sequence[str], columns: Mapping[str, Any]
) -> Iterator[list[Pair]]:
    """Yield pairs of texts: of two arguments each, of the lines of standard input or a text file, or of two columns.

    Raises:
        UserError: a text has no second one.
        DataError: the file is missing, damaged, or has no such column.
    """
    from tlm_search.data.sources.files import kind_of

    if texts:
        if len(texts) % 2:
            raise UserError(
                f"this committee reads pairs of texts, and an odd number of texts is given: {len(texts)}",
                hint='give two for each pair: tlm-search predict DIR "a text" "another text"',
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


def _lines(
    context: ContextSection, file: Path | None, name: str, columns: Mapping[str, Any]
) -> Iterator[Sequence[TextOrPair]]:
    """Yield the lines of a table, of a text file or of standard input, each in its ``context``, in their order there.

    Raises:
        UserError: the lines have no columns, and the context needs one.
        DataError: the file is missing, damaged, or lacks a column.
    """
    from tlm_search.data.context import LinesBefore
    from tlm_search.data.sources.files import kind_of

    if file is None or kind_of(file) == "text":
        if context.columns:
            raise UserError(
                f"{'standard input' if file is None else file} has no columns, and the study read the contexts of its "
                f"lines by {', '.join(map(repr, context.columns))}",
                hint="name a table with these columns: --file F",
            )
        before = LinesBefore(context.rows)
        for chunk in chunks_of_input() if file is None else chunks_of(file, name, columns):
            yield [before.followed_by(text) for text in chunk]
    else:
        lines = _read(file, [name], columns, context)[0]
        yield from (lines[begin : begin + CHUNK] for begin in range(0, len(lines), CHUNK))


def _pair(line: str, number: int) -> Pair:
    first, tab, second = line.partition("\t")
    if not tab:
        raise UserError(
            f"this committee reads pairs of texts, and line {number:,} has no tab between two",
            hint="write a tab between the two texts of a line, or name a table: --file F --text COLUMN --text COLUMN",
        )
    return Pair(first, second)


def _found(committee: Committee, texts: Sequence[TextOrPair]) -> Iterator[dict[str, Any]]:
    from tlm_search.cost.machine import available_cpus

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


def _print_json(answers: Iterable[Mapping[str, Any]], score: Callable[[], Score] | None = None) -> None:
    """Print one list, or an object with the list and what ``score`` returns once it is whole.

    Nothing is printed before the last text is answered, so that a wrong input leaves no half of a document.
    """
    with SpooledTemporaryFile(max_size=_HELD_BYTES, mode="w+", encoding="utf-8") as held:
        held.write("" if score is None else '{"answers": ')
        begun = False
        for answer in answers:
            item = "\n".join(f"  {line}" for line in json.dumps(answer, indent=2).splitlines())
            held.write(f"{',' if begun else '['}\n{item}")
            begun = True
        held.write("\n]" if begun else "[]")
        held.write("\n" if score is None else f',\n"score": {json.dumps(score().to_document(), indent=2)}}}\n')
        held.seek(0)
        shutil.copyfileobj(held, sys.stdout)


def _score(committee: Committee, file: Path, *, names: Sequence[str], label: str, json_: bool) -> None:
    """Answer the rows of a table and print how often that is right.

    Raises:
        DataError: the table is missing, damaged, empty, or lacks a column; text and label are one column.
    """
    from tlm_search.export.score import score

    rows = _labelled(file, names, label, committee.columns, committee.context)
    chunks = (rows.texts[begin : begin + CHUNK] for begin in range(0, len(rows.texts), CHUNK))
    answers = (answer for chunk in chunks for answer in _found(committee, chunk))
    predicted: list[str] = []

    def noted() -> Iterator[dict[str, Any]]:
        for answer in answers:
            predicted.append(answer["label"])
            yield answer

    def scored() -> Score:
        return score(committee.labels, rows.texts, rows.labels, predicted)

    if json_:
        _print_json(noted(), scored)
    else:
        deque(noted(), maxlen=0)
        _print_score(scored(), file)


def _labelled(
    file: Path, names: Sequence[str], label: str, columns: Mapping[str, Any], context: ContextSection | None
) -> Labelled:
    """Read texts and labels as a study reads them.

    Raises:
        DataError: as ``_score`` says.
    """
    from tlm_search.data.rows import Labelled
    from tlm_search.errors import DataError

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


def _read(
    file: Path,
    names: Sequence[str],
    columns: Mapping[str, Any],
    context: ContextSection | None,
    *,
    label: str | None = None,
) -> tuple[Sequence[TextOrPair], list[str]]:
    """Return the texts of a table as a study reads them, in their ``context`` where it has one, and their labels.

    Raises:
        DataError: the table is missing, damaged, or lacks a column.
    """
    from tlm_search.data.context import read_log
    from tlm_search.data.pairs import joined
    from tlm_search.data.sources.columns import NoColumnError, labels_of, texts_of
    from tlm_search.data.sources.files import read_columns
    from tlm_search.errors import DataError

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


def _text_column(file: Path, name: str) -> str:
    from tlm_search.data.sources.files import TEXT_COLUMN, kind_of

    return TEXT_COLUMN if kind_of(file) == "text" else name


def _columns_hint(columns: Mapping[str, Any], *roles: str) -> str:
    """Say how to name the columns of ``roles``, and what the study called them where that is known."""
    options = " and ".join(f"--{role} COLUMN" for role in roles)
    known = [f"{role} was {columns[role]!r}" for role in roles if role in columns]
    return f"name what it has with {options}" + (f"; in the study {', '.join(known)}" if known else "")


def _print_score(found: Score, file: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tlm_search.report.formatting import NONE, interval, percent, plural

    console = Console(highlight=False, soft_wrap=True)
    lacking = [
        *([f"{found.without_text:,} without a text are answered as empty ones"] if found.without_text else []),
        *([f"{found.without_label:,} without a label are left out"] if found.without_label else []),
    ]
    said = [
        f"rows      {'; '.join([f'{found.scored:,} of {found.rows:,} in {file} are scored', *lacking])}",
        f"accuracy  {percent(found.accuracy)} (95% interval over texts {interval(*found.accuracy_interval)}), "
        f"{found.right:,} are right",
        f"macro F1  {found.macro_f1:.3f}",
    ]
    if found.unknown_labels:
        names = [f"{_line(name)} {rows:,}" for name, rows in found.unknown_labels.items()]
        others = "" if len(names) <= _SHOWN else f" and {len(names) - _SHOWN} more"
        said.append(
            f"unknown   {plural(sum(found.unknown_labels.values()), 'row')} of labels that the committee does not know "
            f"count as wrong: {', '.join(names[:_SHOWN])}{others}; accuracy on the others "
            f"{percent(found.accuracy_of_known_labels)}"
        )
    for line in said:
        console.print(line, markup=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("label", overflow="fold")
    for title in ("rows", "precision", "recall", "F1"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in found.labels:
        figures = percent(row.precision), percent(row.recall), NONE if row.f1 is None else f"{row.f1:.3f}"
        table.add_row(Text(_line(row.label)), f"{row.rows:,}", *figures)
    console.print(table)
    if not found.confusions:
        return
    more = f", the largest {_SHOWN} of {len(found.confusions):,}" if len(found.confusions) > _SHOWN else ""
    confusions = Table(box=box.SIMPLE_HEAD, title=f"confusions{more}", title_justify="left")
    for title in ("label", "predicted"):
        confusions.add_column(title, overflow="fold")
    confusions.add_column("rows", justify="right", no_wrap=True)
    for pair in found.confusions[:_SHOWN]:
        confusions.add_row(Text(_line(pair.label)), Text(_line(pair.predicted)), f"{pair.rows:,}")
    console.print(confusions)


def chunks_of(file: Path, column: str, columns: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the texts of ``file`` in the order of its rows; missing ones are empty, so that rows and answers agree.

    ``columns`` are those of the study, which a message names.

    Raises:
        DataError: the file is missing, damaged, or has no such column.
    """
    from tlm_search.data.sources.columns import NoColumnError
    from tlm_search.data.sources.files import stream_column
    from tlm_search.errors import DataError

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


def _table(texts: Sequence[TextOrPair], found: Sequence[dict[str, Any]]) -> Table:
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
        shown = " / ".join(part[:_SHOWN_CHARACTERS] for part in parts_of(text))
        table.add_row(Text(_line(shown)), Text(_line(answer["label"])), *numbers)
    return table


def _line(text: str) -> str:
    """Return ``text`` without what would move a terminal's cursor or break a line."""
    return "".join(character if character.isprintable() else " " for character in text)
