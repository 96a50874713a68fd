"""Lines of a log, each with the earlier lines of its group as context. No torch here."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from tlm_search.data.pairs import Line
from tlm_search.data.sources.columns import labels_of
from tlm_search.errors import DataError

if TYPE_CHECKING:
    from tlm_search.data.rows import Labelled
    from tlm_search.space.task import ContextSection, TaskSection


class LinesBefore:
    """Holds the last ``rows`` lines of each group."""

    def __init__(self, rows: int) -> None:
        self._of_group: dict[str, deque[str]] = defaultdict(partial(deque, maxlen=rows))

    def followed_by(self, text: str, group: str = "") -> Line:
        """Return the next line of ``group`` with the lines before it, and remember the line."""
        before = self._of_group[group]
        line = Line("\n".join(before), text)
        before.append(text)
        return line


@dataclass(frozen=True)
class Log:
    """The rows of a table in file order, with their ``groups`` if it has groups. ``order`` is the rows by time."""

    lines: Sequence[Line]
    groups: Sequence[str]
    order: Sequence[int]


def read_log(context: ContextSection, texts: Sequence[str], read: Mapping[str, Sequence[Any]], where: str) -> Log:
    """Combine each text of a table with the ``context.rows`` texts before it.

    ``read`` holds the columns that ``context`` names.

    Raises:
        DataError: a row has no group or no time, or the times cannot be sorted.
    """
    groups = () if context.group is None else _groups(read[context.group], context.group, where)
    order = range(len(texts)) if context.time is None else _by_time(read[context.time], context.time, where)
    before, lines = LinesBefore(context.rows), [Line("", "")] * len(texts)
    for row in order:
        lines[row] = before.followed_by(texts[row], groups[row] if groups else "")
    return Log(lines, groups, order)


def divide_by_time(
    section: TaskSection, reach: int, data: Labelled, rows: Sequence[int], wanted: Mapping[str, int]
) -> dict[str, Sequence[int]]:
    """Divide ``rows``, which are sorted by time, into train and the last ``wanted`` rows of each split.

    The ``reach`` lines before a split belong to no split, so that no context contains a line of another split.

    Raises:
        DataError: a split asks for more lines than are left.
    """
    time_of = {row: time for time, row in enumerate(data.order)}
    divided: dict[str, Sequence[int]] = {}
    for part, number in wanted.items():
        if number >= len(rows):
            between = f" before the {reach} lines of its contexts" if divided else ""
            raise DataError(
                f"task {section.source}: {part} asks for {number:,} lines, but {len(rows):,} are left{between}, and "
                "train needs at least one",
                hint=f"ask for fewer with {part}: ROWS_OR_SHARE, or give more lines",
            )
        rows, divided[part] = rows[:-number], rows[-number:]
        border = time_of[divided[part][0]] - reach
        rows = [row for row in rows if time_of[row] < border]
    return {**divided, "train": rows}


def divide_by_group(
    section: TaskSection, reach: int, data: Labelled, rows: Sequence[int], wanted: Mapping[str, int]
) -> dict[str, Sequence[int]]:
    """Divide ``rows`` into train and about the last ``wanted`` rows of each split, without dividing a group.

    Groups come in the order of their first lines.

    Raises:
        DataError: the rows have fewer groups than splits.
    """
    of_group: dict[str, list[int]] = {}
    for row in rows:
        of_group.setdefault(data.groups[row], []).append(row)
    left = list(of_group)
    if len(left) <= len(wanted):
        assert section.context is not None
        raise DataError(
            f"task {section.source}: column {section.context.group!r} has {len(left)} groups with lines to use, but "
            f"each of {', '.join(('train', *wanted))} needs its own group",
            hint="leave group out of the context, so that time alone divides the lines, or name files with test_source "
            "and validation_source",
        )
    divided: dict[str, Sequence[int]] = {}
    for others, (part, number) in zip(range(len(wanted), 0, -1), wanted.items(), strict=True):
        chosen: list[int] = []
        while len(left) > others and (not chosen or 2 * (number - len(chosen)) >= len(of_group[left[-1]])):
            chosen += of_group[left.pop()]
        divided[part] = chosen
    return {**divided, "train": [row for group in left for row in of_group[group]]}


def _groups(values: Sequence[Any], column: str, where: str) -> list[str]:
    groups = labels_of(values, column, where)
    if "" in groups:
        lacking = groups.index("")
        raise DataError(
            f"{where}: {groups.count(''):,} of {len(groups):,} rows have no group in column {column!r}, the first is "
            f"row {lacking + 1:,}",
            hint="write a group into each row, or leave group out of the context",
        )
    return groups


def _by_time(values: Sequence[Any], column: str, where: str) -> list[int]:
    """Return the rows sorted by time. Rows of equal time keep the order of the file."""
    moments = [_moment(value) for value in values]
    for row, (kind, _) in enumerate(moments):
        if not kind or kind != moments[0][0]:
            wrong = f"a {kind}, but row 1 has a {moments[0][0]}" if kind else "neither a number nor an ISO time"
            raise DataError(
                f"{where}: row {row + 1:,}: column {column!r} holds {values[row]!r}: {wrong}",
                hint="write all times in one way, such as 2026-11-30T18:00:00; or leave time out of the context, if "
                "the rows are sorted by time",
            )
    return sorted(range(len(moments)), key=lambda row: moments[row][1])


def _moment(value: Any) -> tuple[str, Any]:
    """Return the kind of time of a value (empty if it is no time), and a key that sorts times of this kind."""
    if isinstance(value, str):
        value = _number_or_time(value.strip())
    if isinstance(value, int) and not isinstance(value, bool):
        return "number", value
    if isinstance(value, float | Decimal):
        return ("number", value) if math.isfinite(value) else ("", None)
    if isinstance(value, datetime):
        return ("time without a zone" if value.tzinfo is None else "time with a zone"), value
    return ("date", value) if isinstance(value, date) else ("", None)


def _number_or_time(text: str) -> Any:
    for read in (int, float, datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            pass
    return None
