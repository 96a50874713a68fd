"""``tlm-search overlap``: how much of the task's vocabulary the corpus contains."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlm_search.cli.options import STUDIES, DataDir, Overrides, StudiesDir, overrides_of

if TYPE_CHECKING:
    from rich.table import Table

    from tlm_search.data.overlap import Overlap

_SPLITS = ("train", "validation", "test")


def overlap(
    space: Annotated[Path, typer.Argument(metavar="SPACE", help="The YAML file of a space.")],
    studies_dir: StudiesDir = STUDIES,
    data_dir: DataDir = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    set_: Overrides = None,
) -> None:
    """Show how much of the task's vocabulary the corpus contains, plain and weighted by frequency, by corpus size."""
    from tlm_search.data.overlap import overlap_curve
    from tlm_search.data.prepare import prepare
    from tlm_search.data.sources.place import use_data_dir
    from tlm_search.data.tokens import TokenArray
    from tlm_search.remote.mount import studies_folder
    from tlm_search.space.schema import load_space
    from tlm_search.study.location import store_root

    if data_dir is not None:
        use_data_dir(data_dir)
    loaded = load_space(space, overrides=overrides_of(set_))
    data = prepare(loaded, store_root(studies_folder(studies_dir)), progress=lambda step: print(step, file=sys.stderr))
    curve = overlap_curve(
        [TokenArray.open(data.folder(split)) for split in _SPLITS],
        TokenArray.open(data.folder("corpus")),
        vocabulary=data.vocabulary,
        special=data.special,
    )
    if json_:
        document = {"corpus": data.corpus_name, "task": data.task_name, "vocabulary": data.vocabulary}
        print(json.dumps({**document, "curve": [asdict(point) for point in curve]}, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(table_of(curve))
    console.print(
        f"Corpus {data.corpus_name}, task {data.task_name} (all its splits), vocabulary of {data.vocabulary:,} tokens. "
        "size: tokens of the corpus's first documents; types 10+: percent of the task's token types that occur in "
        "these documents 10 times or more; tokens 10+: the same, weighted by frequency in the task (words outside of "
        "the vocabulary count as tokens that occur nowhere); bits: Jensen-Shannon divergence between the tokens of "
        "these documents and those of the task, 0 if they are equal, 1 if they have nothing in common.",
        markup=False,
    )


def table_of(curve: tuple[Overlap, ...]) -> Table:
    """Return the curve as a table with a row for each number of first documents of the corpus."""
    from rich import box
    from rich.table import Table

    from tlm_search.data.overlap import LEAST
    from tlm_search.report.formatting import compact

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shares = [f"{kind}\n{least}+" for kind in ("types", "tokens") for least in LEAST]
    for title in ("documents", "size", *shares, "bits"):
        table.add_column(title, justify="right", no_wrap=True)
    for point in curve:
        found = [100 * share[least] for share in (point.types, point.weighted) for least in LEAST]
        cells = [f"{share:.1f}" for share in found]
        table.add_row(f"{point.documents:,}", compact(point.tokens), *cells, f"{point.divergence:.3f}")
    return table
