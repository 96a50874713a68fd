"""The columns of a table, whatever its format: the wanted ones must be there, and classes have names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tlm_search.errors import DataError

DAMAGED = "check that the file is whole"


class NoColumnError(DataError):
    """A table has no column of the name that was given."""


def require_columns(present: Iterable[str], wanted: Iterable[str], where: str) -> None:
    """Refuse a table without the ``wanted`` columns.

    Raises:
        NoColumnError: which is missing, and which there are.
    """
    names = list(present)
    for column in wanted:
        if column not in names:
            raise NoColumnError(
                f"{where}: there is no column {column!r}; its columns are: {', '.join(map(str, names)) or 'none'}",
                hint="name the columns with text: and label: in the space",
            )


def named(values: list[Any], names: Sequence[str] | None) -> list[Any]:
    """Replace numbers of classes by their names, where there are names."""
    if names is None:
        return values
    known = range(len(names))
    return [names[value] if isinstance(value, int) and value in known else value for value in values]
