"""``tlm-search latency DIR``: an exported committee, and beside it the deep reference exported in the same way."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from tlm_search.export.latency import Row

BATCHES = (1, 32)
SECONDS = 4.0  # for one part of the table; large models take longer


def latency_of_exports(folder: Path, reference: Path | None, *, json_: bool) -> None:
    """Measure, and print a table or one JSON document."""
    from tlm_search.cli.latency import torch_threads
    from tlm_search.export.latency import measure_exports
    from tlm_search.model.latency import machine
    from tlm_search.search.machine import available_cpus

    folder, reference = folder.resolve(), None if reference is None else reference.resolve()
    folders = [folder] if reference is None else [reference, folder]
    rows: list[Row] = []
    for threads in sorted({1, available_cpus()}):
        with torch_threads(threads):
            for texts in BATCHES:
                print(f"measuring: threads {threads}, texts {texts}", file=sys.stderr)
                rows += measure_exports(folders, threads=threads, texts=texts, reference=reference, seconds=SECONDS)
    device = machine()["device"]
    if json_:
        print(json.dumps({"device": device, "rows": [vars(row) for row in rows]}, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(table_of(rows))
    ratios = "" if reference is None else f" Ratios are to the fastest form of {reference.name}."
    console.print(f"Texts of full length on {device}, without tokenising.{ratios}", markup=False)
    if not any(row.form != "torch" for row in rows):
        console.print("For ONNX Runtime, export with --onnx or --int8.")


def table_of(rows: Sequence[Row]) -> Table:
    """Lay out the measurements, one part for each number of threads and texts."""
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
