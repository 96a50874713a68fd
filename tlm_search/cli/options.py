"""Options of several commands: copies of the data, and changes of a space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlm_search.errors import SpaceError

STUDIES = "studies"
StudiesDir = Annotated[
    str, typer.Option(metavar="DIR_OR_URL", help="Folder of the studies and of their store, or its URL (s3://...).")
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder with copies of the data that a space names.", envvar="TLM_SEARCH_DATA_DIR"),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the space: --set search.depth=2. Repeatable."),
]


def overrides_of(pairs: list[str] | None) -> dict[str, str]:
    """Return the values in YAML by dotted key.

    Raises:
        SpaceError: a pair is not KEY=VALUE.
    """
    overrides = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise SpaceError(f"--set {pair} is not of the form KEY=VALUE", hint="for example --set search.depth=2")
        overrides[key.strip()] = value
    return overrides
