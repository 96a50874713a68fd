"""Check and convert the columns of a table in any format."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from tlm_search.errors import DataError

DAMAGED = "check that the file is complete"
_NAMED_IN_SPACE = "name the columns with text: and label: in the space; all files of a task need these columns"


class NoColumnError(DataError):
    """A table lacks a column of the given name."""


def require_columns(present: Iterable[str], wanted: Iterable[str], where: str, *, hint: str = _NAMED_IN_SPACE) -> None:
    """Refuse a table without the ``wanted`` columns; the error has ``hint``.

    Raises:
        NoColumnError: a column is missing; the message suggests the most similar column and lists all.
    """
    names = list(present)
    for column in wanted:
        if column not in names:
            folded = {str(name).casefold(): name for name in names}  # LABEL and label differ in all letters
            near = difflib.get_close_matches(column.casefold(), folded, n=1, cutoff=0.6)
            meant = f"; did you mean {folded[near[0]]!r}?" if near else ""
            listed = ", ".join(map(str, names)) or "none"
            raise NoColumnError(f"{where}: there is no column {column!r}; its columns are: {listed}{meant}", hint=hint)


def require_one(present: Sequence[str], wanted: Iterable[str], where: str) -> None:
    """Refuse a table in which two columns have the same ``wanted`` name.

    Raises:
        DataError: a name occurs twice; the message names it.
    """
    for column in wanted:
        if (count := present.count(column)) > 1:
            raise DataError(f"{where}: there are {count} columns {column!r}", hint="rename all but one of them")


def named(values: list[Any], names: Sequence[str] | None) -> list[Any]:
    """Replace class numbers by class names, if ``names`` has any; -1 means no label, as in `datasets`."""
    if names is None:
        return values
    by_number = {-1: None, **dict(enumerate(names))}
    return [by_number.get(value, value) if isinstance(value, int) else value for value in values]


def texts_of(values: Sequence[Any], column: str, where: str) -> list[str]:
    """Return the ``values`` of a column as texts; missing and blank values become empty texts.

    Raises:
        DataError: a value is not a text.
    """
    for value in values:
        if value is not None and not isinstance(value, str):
            raise _not(value, "text", column, where)
    return ["" if value is None or value.isspace() else valid_unicode(value) for value in values]


def labels_of(values: Sequence[Any], column: str, where: str) -> list[str]:
    """Return the ``values`` of a column as labels in the user's spelling; missing values and NaN become empty labels.

    Raises:
        DataError: a value is neither text nor a number.
    """
    return ["" if value is None else _label(value, column, where) for value in values]


def valid_unicode(text: str) -> str:
    """Replace half a surrogate pair, which a cut JSON escape leaves, by a question mark: UTF-8 cannot encode it."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _label(value: Any, column: str, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return valid_unicode(value).strip()
    if not isinstance(value, int | float | Decimal):
        raise _not(value, "a label", column, where)
    if math.isnan(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _not(value: Any, wanted: str, column: str, where: str) -> DataError:
    return DataError(f"{where}: column {column!r} holds {type(value).__name__}, not {wanted}")
