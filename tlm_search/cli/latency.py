"""``tlm-search latency``: measure the models of a study, or exported committees, on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlm_search.cli.options import STUDIES, StudiesDir

if TYPE_CHECKING:
    from rich.table import Table

    from tlm_search.export.latency import Row as ExportRow
    from tlm_search.report.tables.latency import Row

BATCHES = (1, 32)
SECONDS = 6.0  # for each section of the table; large models take longer
SECONDS_OF_EXPORTS = 4.0


def latency(
    study: Annotated[
        str, typer.Argument(metavar="STUDY_OR_DIR", help="A study's name or folder, or a folder that export wrote.")
    ],
    reference: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Another export to compare with, such as that of the reference.")
    ] = None,
    studies_dir: StudiesDir = STUDIES,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure the latency of reference, baseline and best committees on this machine's CPU, for 1 text and for 32.

    For a folder that export wrote, measure the committee in torch and, if the export has ONNX graphs, in ONNX Runtime.
    """
    from tlm_search.export.folder import is_export

    if is_export(Path(study)):
        _latency_of_exports(Path(study), reference, json_=json_)
        return
    if reference is not None:
        from tlm_search.errors import UserError

        raise UserError(
            "--reference needs a folder that tlm-search export wrote, not a study",
            hint="leave out --reference: a study has its own reference",
        )
    from tlm_search.cost.machine import available_cpus
    from tlm_search.model.latency import machine
    from tlm_search.report.tables.latency import (
        baseline_of,
        contenders_of,
        is_unsteady,
        measure,
        reading_of,
        with_readings,
    )
    from tlm_search.store.shared import open_store
    from tlm_search.study.location import find_study, read_study, store_root

    record = read_study(find_study(study, studies_dir))
    store = open_store(store_root(record.folder.parent))
    contenders = with_readings(contenders_of(record, store), record, store)
    reading = reading_of(record, store)
    baseline = None if reading is None else baseline_of(record, store)
    labels = len(record.labels)
    rows: list[Row] = []
    for threads in sorted({1, available_cpus()}):
        for texts in BATCHES:
            print(f"measuring: threads {threads}, texts {texts}", file=sys.stderr)
            part = measure(
                contenders,
                threads=threads,
                texts=texts,
                labels=labels,
                baseline=baseline,
                reading=reading,
                seconds=SECONDS,
            )
            if is_unsteady(part):
                print("other programs use the processor: measure again when it is free", file=sys.stderr)
            rows += part
    device = machine()["device"]
    if json_:
        document = {"study": record.name, "device": device, "rows": [vars(row) for row in rows]}
        print(json.dumps(document, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(table_of(rows))
    lengths = sorted({contender.architecture.positions for contender in contenders})
    tokens = f"{' or '.join(map(str, lengths))} tokens{', as each model reads them,' if lengths[1:] else ''}"
    console.print(f"Texts of {tokens} on {device}. Ratios are to the fastest form of the reference.", markup=False)
    if reading is not None:
        console.print(
            "text ms: from a text to its label, including tokenising; the other times are of the model alone."
        )


def table_of(rows: Sequence[Row]) -> Table:
    """Return the measurements as a table with a section for each number of threads and texts."""
    from itertools import groupby

    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("threads", "texts", "trial"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("model", min_width=12, max_width=36)
    from_text = any(row.text_p50_ms is not None for row in rows)
    for title in ("members", "p50 ms", "p95 ms", *(["text ms"] if from_text else []), "ratio"):
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
                "" if row.trial is None or row.trial < 0 or again else str(row.trial),
                row.form if row.form.startswith("transformers") else model,
                str(row.members),
                _milliseconds(row.p50_ms),
                _milliseconds(row.p95_ms),
                *(["" if row.text_p50_ms is None else _milliseconds(row.text_p50_ms)] if from_text else []),
                "" if row.ratio is None else f"{row.ratio:.2f}",
            ]
            table.add_row(*(Text(cell, style="bold" if row.trial is None or row.trial < 0 else "") for cell in cells))
        table.add_section()
    return table


def _latency_of_exports(folder: Path, reference: Path | None, *, json_: bool) -> None:
    """Measure exports, and print a table or one JSON document."""
    from tlm_search.cost.machine import available_cpus
    from tlm_search.export.latency import measure_exports
    from tlm_search.model.latency import machine

    folder, reference = folder.resolve(), None if reference is None else reference.resolve()
    folders = [folder] if reference is None else [reference, folder]
    rows: list[ExportRow] = []
    for threads in sorted({1, available_cpus()}):
        for texts in BATCHES:
            print(f"measuring: threads {threads}, texts {texts}", file=sys.stderr)
            rows += measure_exports(
                folders, threads=threads, texts=texts, reference=reference, seconds=SECONDS_OF_EXPORTS
            )
    device = machine()["device"]
    if json_:
        print(json.dumps({"device": device, "rows": [vars(row) for row in rows]}, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(table_of_exports(rows))
    ratios = "" if reference is None else f" Ratios are to the fastest form of {reference.name}."
    console.print(f"Texts of full length on {device}, without tokenising.{ratios}", markup=False)
    if not any(row.form != "torch" for row in rows):
        console.print("For ONNX Runtime, export with --onnx or --int8.")


def table_of_exports(rows: Sequence[ExportRow]) -> Table:
    """Return the measurements as a table with a section for each number of threads and texts."""
    from itertools import groupby

    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("threads", "texts"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("export", max_width=24, overflow="fold")
    table.add_column("form", no_wrap=True)
    for title in ("members", "p50 ms", "p95 ms", "ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    for (threads, texts), part in groupby(rows, key=lambda row: (row.threads, row.texts)):
        for row in part:
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            cells = [str(threads), str(texts), row.model, row.form, str(row.members)]
            table.add_row(*(Text(cell) for cell in [*cells, f"{row.p50_ms:.3g}", f"{row.p95_ms:.3g}", ratio]))
        table.add_section()
    return table


def _milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
