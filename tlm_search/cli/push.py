"""``tlm-search push``: upload an exported committee to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that tlm-search export wrote.")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The repository; created if it does not exist.")
    ],
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public; by default it is private.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the export, list its files, send nothing.")] = False,
) -> None:
    """Upload an exported committee to the Hugging Face hub. First complete licence and limits in its README.md."""
    from tlm_search.export.push import files_of
    from tlm_search.export.push import push as upload

    if dry_run:
        files = files_of(folder)
        for name, size in files.items():
            print(f"{size:>12,}  {name}")
        print(f"{sum(files.values()):>12,}  bytes in {len(files)} files would go to {repository}; nothing was sent")
        return
    print(upload(folder, repository, public=public))
