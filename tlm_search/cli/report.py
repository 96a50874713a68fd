"""``tlm-search report``: a study as one page with its tables and figures; or several studies on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlm_search.cli.options import STUDIES, StudiesDir

if TYPE_CHECKING:
    from tlm_search.store.local import Store
    from tlm_search.study.record import StudyRecord


def report(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Names or folders of one or more studies.")],
    format_: Annotated[
        str,
        typer.Option("--format", help="What to write: html, csv, tex, md; png and svg need tlm-search[figures]."),
    ] = "html,csv,tex,md",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write into; by default the study's, or for several studies a new one in the first's."
        ),
    ] = None,
    studies_dir: StudiesDir = STUDIES,
) -> None:
    """Write report.html, report.md, tables/* and figures/* into the study's folder, also during a run.

    For several studies, write one page that compares them.
    """
    from tlm_search.report.pages.compare import write_comparison
    from tlm_search.report.pages.files import read_formats
    from tlm_search.report.pages.html import write_report
    from tlm_search.study.location import find_study, read_study
    from tlm_search.study.sync import StudyCopy

    formats = read_formats(format_)
    records = [read_study(find_study(study, studies_dir)) for study in dict.fromkeys(studies)]
    first, *others = records
    if not others:
        print(write_report(first, _store_of(first), out or first.folder, formats=formats))
        StudyCopy(first.folder).send_reports()
        return
    own = first.folder / f"beside-{'-'.join(record.folder.name for record in others)}"
    print(write_comparison(records, _store_of, out or own, formats=formats))
    StudyCopy(first.folder).send_reports()


def _store_of(record: StudyRecord) -> Store:
    from tlm_search.store.shared import open_store
    from tlm_search.study.location import store_root

    return open_store(store_root(record.folder.parent))
