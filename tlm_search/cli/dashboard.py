"""``tlm-search dashboard``: Optuna Dashboard on a study, while it runs or later."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def dashboard(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65_535)] = 8080,
    studies_dir: Annotated[Path, typer.Option(help="Folder of the studies.")] = Path("studies"),
    storage: Annotated[
        str | None, typer.Option(help="Database of the study by URL.", envvar="TLM_SEARCH_STORAGE")
    ] = None,
) -> None:
    """Serve Optuna Dashboard for a study on 127.0.0.1 until Ctrl-C."""
    from tlm_search.search.dashboard import serve
    from tlm_search.search.folder import find_study, storage_url

    folder = find_study(study, studies_dir)
    serve(folder, storage_url(folder, storage), port=port, ready=_tell)


def _tell(address: str) -> None:
    print(f"{address} (Ctrl-C ends it)", flush=True)
