"""``tlm-search dashboard``: Optuna Dashboard on a study, during a run or later."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlm_search.cli.options import STUDIES, StudiesDir

if TYPE_CHECKING:
    from tlm_search.study.record import StudyRecord

_FIGURES = ("frontier", "latency_ms")  # figures that Optuna Dashboard does not have


def dashboard(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65_535)] = 8080,
    studies_dir: StudiesDir = STUDIES,
    storage: Annotated[str | None, typer.Option(help="URL of the study's database, if it has moved.")] = None,
    writable: Annotated[
        bool, typer.Option("--writable", help="Allow the page to write notes, and to change or delete the study.")
    ] = False,
) -> None:
    """Serve Optuna Dashboard for a study on 127.0.0.1 until Ctrl-C."""
    from tlm_search.study.dashboard import serve
    from tlm_search.study.location import StudyLocation, find_study

    folder = find_study(study, studies_dir)
    serve(StudyLocation.of(folder, storage), port=port, draw=_draw, writable=writable, ready=_tell, problem=_warn)


def _draw(record: StudyRecord) -> tuple[Mapping[str, str], str]:
    from tlm_search.report.pages.html import write_report
    from tlm_search.store.shared import open_store
    from tlm_search.study.location import store_root

    # Use a temporary folder, so that the report that `report` or `run` wrote stays as it is.
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(record, open_store(store_root(record.folder.parent)), Path(folder))
        drawn = {file.stem: file for file in Path(folder).glob("figures/*.json")}
        figures = {name: _narrowed(drawn[name].read_text()) for name in _FIGURES if name in drawn}
        return figures, page.read_text()


def _narrowed(figure: str) -> str:
    """Fit a figure into half a page: shrink the legend, because the mouse shows the names too."""
    parts = json.loads(figure)
    legend = parts["layout"].setdefault("legend", {})
    parts["layout"]["legend"] = {**legend, "maxheight": 0.15, "font": {"size": 10}}
    return json.dumps(parts)


def _warn(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _tell(address: str) -> None:
    print(f"{address} (Ctrl-C ends it)", flush=True)
