"""``tlm-search report``: a study as one page, with its tables and figures beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    studies_dir: Annotated[Path, typer.Option(help="Folder of the studies.")] = Path("studies"),
) -> None:
    """Write report.html, tables/*.csv and figures/*.json into the study; also while it runs."""
    from tlm_search.members.store import Store
    from tlm_search.report.html import write_report
    from tlm_search.search.folder import find_study, read_study, store_root

    record = read_study(find_study(study, studies_dir))
    print(write_report(record, Store(store_root(record.folder.parent)), record.folder))
