"""``tlm-search latency``: the deep reference against the committees of the best configurations, measured now."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlm_search.cli.options import STUDIES, StudiesDir

if TYPE_CHECKING:
    from rich.table import Table

    from tlm_search.model.architecture import Architecture
    from tlm_search.model.latency import Answer
    from tlm_search.search.record import StudyRecord, TrialRecord

CONFIGURATIONS = 3  # of the best, those whose architectures differ
BATCHES = (1, 32)
SECONDS = 6.0  # for one part of the table; large models take longer
STACKED, ONE_BY_ONE = "stacked", "one by one"
UNSTEADY = 3.0  # p95 / p50 above which something else had the processor


@dataclass(frozen=True)
class Contender:
    """A model whose latency is measured: committees of one architecture, of each of ``sizes``.

    ``trial`` is None for the reference.
    """

    words: str
    trial: int | None
    architecture: Architecture
    pooling: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One measurement. ``ratio`` is its median over that of the fastest form of the reference in the same conditions.

    ``form`` is how it was computed: one model; a committee ``stacked`` or ``one by one``, whichever is faster here; or
    plain ``transformers`` with one of its attentions.
    """

    threads: int
    texts: int
    model: str
    trial: int | None
    form: str
    members: int
    p50_ms: float
    p95_ms: float
    ratio: float | None


def latency(
    study: Annotated[
        str, typer.Argument(metavar="STUDY_OR_DIR", help="A study's name or folder, or one that export wrote.")
    ],
    reference: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Another export to compare an export with: the deep reference.")
    ] = None,
    studies_dir: StudiesDir = STUDIES,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure on this machine's CPU what the reference and the best committees take for 1 text and for 32.

    Of a folder that export wrote: what it takes in torch and, where it has the graphs, in ONNX Runtime.
    """
    from tlm_search.export.folder import is_export

    if is_export(Path(study)):
        from tlm_search.cli.latency_of_exports import latency_of_exports

        latency_of_exports(Path(study), reference, json_=json_)
        return
    if reference is not None:
        from tlm_search.errors import UserError

        raise UserError(
            "--reference goes with a folder that tlm-search export wrote", hint="a study has its own reference"
        )
    from tlm_search.model.latency import machine
    from tlm_search.search.folder import find_study, read_study
    from tlm_search.search.machine import available_cpus

    record = read_study(find_study(study, studies_dir))
    contenders = contenders_of(record)
    rows: list[Row] = []
    for threads in sorted({1, available_cpus()}):
        with torch_threads(threads):
            for texts in BATCHES:
                print(f"measuring: threads {threads}, texts {texts}", file=sys.stderr)
                part = measure(contenders, threads=threads, texts=texts, labels=len(record.labels))
                if is_unsteady(part):
                    print("unsteady: other programs use the processor; measure again when it is free", file=sys.stderr)
                rows += part
    device = machine()["device"]
    if json_:
        document = {"study": record.name, "device": device, "rows": [vars(row) for row in rows]}
        print(json.dumps(document, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(table_of(rows))
    length = record.space.tokenizer.length
    console.print(
        f"Texts of {length} tokens on {device}. Ratios are to the fastest form of the reference.", markup=False
    )


def contenders_of(record: StudyRecord) -> list[Contender]:
    """Return the reference, if it has a result, and the best configurations whose architectures differ.

    Those of which a committee keeps to the study's constraints.

    Raises:
        StudyError: no trial is complete, or none keeps to them.
    """
    from tlm_search.committee.select import select
    from tlm_search.errors import StudyError
    from tlm_search.report.tables import configuration_words
    from tlm_search.search.record import TrialRecord
    from tlm_search.search.trial import rungs

    found: dict[tuple[Architecture, str], Contender] = {}
    constraints = record.space.constraints
    selection = select(record.trials, record.reference, constraints=constraints, top=len(record.trials) or 1)
    for choice in selection.choices:
        trial = choice.candidate.trial
        assert isinstance(trial, TrialRecord)
        shape = _shape(record, trial)
        if shape not in found and len(found) < CONFIGURATIONS:
            words = configuration_words(record, trial)
            found[shape] = Contender(words, trial.number, *shape, tuple(rungs(len(trial.frontier))))
    if not found and record.in_state("complete"):
        raise StudyError(
            f"no committee of the study {record.name} keeps to its constraints ({', '.join(map(str, constraints))}), "
            "so there is none to measure",
            hint="tlm-search latency DIR measures what tlm-search export --trial N wrote",
        )
    if not found:
        raise StudyError(
            f"the study {record.name} has no complete trial yet, so there is no committee to measure",
            hint="tlm-search status shows how far it is",
        )
    deep = record.reference
    if deep is None or deep.error is not None or not deep.frontier:
        return list(found.values())
    words = f"reference: {configuration_words(record, deep)}"
    return [Contender(words, None, *_shape(record, deep), (len(deep.frontier),)), *found.values()]


def measure(
    contenders: Sequence[Contender], *, threads: int, texts: int, labels: int, seconds: float = SECONDS
) -> list[Row]:
    """Race the contenders over ``texts`` texts; the reference runs in three forms, and the fastest counts."""
    from tlm_search.model.latency import race

    forms = [(c, *form) for c in contenders for form in _forms(c, texts=texts, labels=labels)]
    measured = race({str(i): answer for i, (_, _, _, answer) in enumerate(forms)}, seconds=seconds)
    rows: dict[tuple[Contender, int, str], Row] = {}
    for i, (contender, members, form, _) in enumerate(forms):
        time = measured[str(i)]
        row = Row(threads, texts, contender.words, contender.trial, form, members, time.p50_ms, time.p95_ms, None)
        # A committee is as fast as its faster form; transformers' forms stand beside.
        key = (contender, members, form if form.startswith("transformers") else "")
        if key not in rows or row.p50_ms < rows[key].p50_ms:
            rows[key] = row
    base = min((row.p50_ms for row in rows.values() if row.trial is None), default=None)
    return [replace(row, ratio=None if base is None else row.p50_ms / base) for row in rows.values()]


def is_unsteady(rows: Sequence[Row]) -> bool:
    """Tell whether other programs had the processor: many calls took far longer than most."""
    return sum(row.p95_ms > UNSTEADY * row.p50_ms for row in rows) > len(rows) / 2


def table_of(rows: Sequence[Row]) -> Table:
    """Lay out the measurements, one part for each number of threads and texts."""
    from itertools import groupby

    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("threads", "texts", "trial"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("model", min_width=12, max_width=36)
    for title in ("members", "p50 ms", "p95 ms", "ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    for (threads, texts), part in groupby(rows, key=lambda row: (row.threads, row.texts)):
        above = None
        for row in part:
            again = above == (row.trial, row.model)
            above = (row.trial, row.model)
            model = "" if again else row.model
            cells = [
                str(threads),
                str(texts),
                "" if row.trial is None or again else str(row.trial),
                row.form if row.form.startswith("transformers") else model,
                str(row.members),
                _milliseconds(row.p50_ms),
                _milliseconds(row.p95_ms),
                "" if row.ratio is None else f"{row.ratio:.2f}",
            ]
            table.add_row(*(Text(cell, style="bold" if row.trial is None else "") for cell in cells))
        table.add_section()
    return table


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _forms(contender: Contender, *, texts: int, labels: int) -> Iterator[tuple[int, str, Answer]]:
    from tlm_search.model.latency import committee_answer, transformers_answer

    shape = contender.architecture
    for members in contender.sizes:
        for form in (STACKED, ONE_BY_ONE) if members > 1 else ("",):
            stacked = form != ONE_BY_ONE
            answer = committee_answer(
                shape, members=members, labels=labels, pooling=contender.pooling, texts=texts, stacked=stacked
            )
            yield members, form or "one model", answer
    # As others would serve the deep model; a reference of several members has no such form.
    if contender.trial is None and contender.sizes == (1,) and shape.is_bert:
        yield 1, "transformers eager", transformers_answer(shape, labels=labels, attention="eager", texts=texts)
        yield 1, "transformers sdpa", transformers_answer(shape, labels=labels, attention="sdpa", texts=texts)


def _milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _shape(record: StudyRecord, trial: TrialRecord) -> tuple[Architecture, str]:
    from tlm_search.model.architecture import Architecture

    facts: Mapping[str, Any] = record.data
    vocabulary, positions = int(facts["vocabulary"]), int(facts["length"])
    return Architecture.of(trial.settings, vocabulary=vocabulary, positions=positions), str(trial.settings["pooling"])
