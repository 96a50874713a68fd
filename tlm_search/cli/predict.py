"""``tlm-search predict``: the answers of an exported committee to texts, and their score."""

from __future__ import annotations

import json
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlm_search.data.pairs import TextOrPair, segments_of
from tlm_search.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from tlm_search.export.committee import Committee
    from tlm_search.export.score import Score

_HELD_BYTES = 2**24  # of a JSON document that stays in memory; a longer one goes to a temporary file
_SHOWN_CHARACTERS = 60
_SHOWN = 10  # confusions, and labels that are unknown to the committee


def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that tlm-search export wrote.")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT ...]", help="Texts; by default standard input, one text a line."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="F", help="Table of texts (.csv .jsonl .parquet ...), or .txt with one text a line."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of --file with the texts; give it twice for pairs. By default the study's column.",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of --file with the true labels: print a score instead of answers."),
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print one JSON document after all texts are answered.")
    ] = False,
) -> None:
    """Print the label of each text, its probability, and the share of members that disagree, as texts arrive.

    If the committee reads pairs, give a pair as two arguments, or as a line with a tab between the two texts. If it
    reads log lines with context, give context and line as two arguments, or the lines in a file or on standard input.
    With --label, print accuracy, macro F1, the figures of each label and the largest confusions.
    """
    if texts and file is not None:
        raise UserError("texts are given both as arguments and with --file", hint="give only one of the two")
    if file is None and label is not None:
        raise UserError("--label needs --file", hint="name the table of texts and true labels with --file F")
    _require_folder(folder)
    import torch

    from tlm_search.export.committee import Committee
    from tlm_search.export.texts import chunks_of, chunks_of_input, columns_of, lines, pairs
    from tlm_search.training.memory import keep_freed_memory

    torch.set_num_threads(1)  # batches run in parallel instead
    keep_freed_memory()
    committee = Committee.load(folder)
    committee.check()
    names = columns_of(committee, text or ())
    if file is not None and label is not None:
        _score(committee, file, names=names, label=label, json_=json_)
        return
    given: Iterable[Sequence[TextOrPair]]
    if committee.context is not None and not texts:
        given = lines(committee.context, file, names[0], committee.columns)
    elif committee.pairs:
        given = pairs(texts, file, names, committee.columns)
    else:
        column, known = names[0], committee.columns
        given = [texts] if texts else chunks_of_input() if file is None else chunks_of(file, column, known)
    if json_:
        _print_json(answer for chunk in given for answer in _answers(committee, chunk))
    elif texts and sys.stdout.isatty():
        from rich.console import Console

        asked = [item for chunk in given for item in chunk]
        Console(highlight=False).print(_table(asked, list(_answers(committee, asked))))
    else:
        for chunk in given:
            for answer in _answers(committee, chunk):
                line = f"{_line(answer['label'])}\t{answer['probability']:.4f}\t{answer['disagreement']:.4f}"
                sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def _require_folder(folder: Path) -> None:
    try:
        there = folder.is_dir()
    except OSError:  # a text that cannot be the name of a folder
        there = False
    if not there:
        raise UserError(
            f"{_line(str(folder))}: there is no such folder",
            hint="the first argument is the folder that tlm-search export wrote: tlm-search predict DIR [TEXT ...]",
        )


def _answers(committee: Committee, texts: Sequence[TextOrPair]) -> Iterator[dict[str, Any]]:
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
    """Print one list, or an object with the list and the result of ``score`` once the list is complete.

    Nothing is printed before the last text is answered, so that a wrong input leaves no partial document.
    """
    with SpooledTemporaryFile(max_size=_HELD_BYTES, mode="w+", encoding="utf-8") as document:
        document.write("" if score is None else '{"answers": ')
        begun = False
        for answer in answers:
            item = "\n".join(f"  {line}" for line in json.dumps(answer, indent=2).splitlines())
            document.write(f"{',' if begun else '['}\n{item}")
            begun = True
        document.write("\n]" if begun else "[]")
        document.write("\n" if score is None else f',\n"score": {json.dumps(score().to_document(), indent=2)}}}\n')
        document.seek(0)
        shutil.copyfileobj(document, sys.stdout)


def _score(committee: Committee, file: Path, *, names: Sequence[str], label: str, json_: bool) -> None:
    """Answer the rows of a table and print the score of the answers.

    Raises:
        DataError: the table is missing, damaged, empty, or lacks a column; or text and label are the same column.
    """
    from tlm_search.export.score import score
    from tlm_search.export.texts import CHUNK, labelled

    rows = labelled(file, names, label, committee.columns, committee.context)
    chunks = (rows.texts[begin : begin + CHUNK] for begin in range(0, len(rows.texts), CHUNK))
    answers = (answer for chunk in chunks for answer in _answers(committee, chunk))
    predicted: list[str] = []

    def answers_noted() -> Iterator[dict[str, Any]]:
        for answer in answers:
            predicted.append(answer["label"])
            yield answer

    def scored() -> Score:
        return score(committee.labels, rows.texts, rows.labels, predicted)

    if json_:
        _print_json(answers_noted(), scored)
    else:
        deque(answers_noted(), maxlen=0)
        _print_score(scored(), file)


def _print_score(found: Score, file: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tlm_search.report.formatting import NONE, interval, percent, plural

    console = Console(highlight=False, soft_wrap=True)
    lacking = [
        *([f"{found.without_text:,} without a text are answered as empty texts"] if found.without_text else []),
        *([f"{found.without_label:,} without a label are left out"] if found.without_label else []),
    ]
    lines = [
        f"rows      {'; '.join([f'{found.scored:,} of {found.rows:,} in {file} are scored', *lacking])}",
        f"accuracy  {percent(found.accuracy)} (95% interval over texts {interval(*found.accuracy_interval)}), "
        f"{found.right:,} are right",
        f"macro F1  {found.macro_f1:.3f}",
    ]
    if found.unknown_labels:
        names = [f"{_line(name)} {rows:,}" for name, rows in found.unknown_labels.items()]
        others = "" if len(names) <= _SHOWN else f" and {len(names) - _SHOWN} more"
        lines.append(
            f"unknown   {plural(sum(found.unknown_labels.values()), 'row')} of labels that the committee does not know "
            f"count as wrong: {', '.join(names[:_SHOWN])}{others}; accuracy on the others "
            f"{percent(found.accuracy_of_known_labels)}"
        )
    for line in lines:
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
        shown = " / ".join(part[:_SHOWN_CHARACTERS] for part in segments_of(text))
        table.add_row(Text(_line(shown)), Text(_line(answer["label"])), *numbers)
    return table


def _line(text: str) -> str:
    """Return ``text`` with blanks for characters that move a terminal's cursor or break a line."""
    return "".join(character if character.isprintable() else " " for character in text)
