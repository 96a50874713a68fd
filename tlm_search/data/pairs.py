"""One text, or two that are judged together, such as a premise and a hypothesis. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Pair(NamedTuple):
    """Two texts with one label; their order matters."""

    first: str
    second: str


class Line(Pair):
    """A line of a log with the lines before it.

    ``first`` holds these, the oldest first, with a line feed between two; it is empty where none is before.
    """

    __slots__ = ()


TextOrPair = str | Pair


def segments_of(text: TextOrPair) -> tuple[str, ...]:
    """Return the one text, or the two of a pair."""
    return (text,) if isinstance(text, str) else tuple(text)


def own_segments(text: TextOrPair) -> tuple[str, ...]:
    """Return the segments that a row adds to a task: the text, both of a pair, or a line without its context."""
    return text[1:] if isinstance(text, Line) else segments_of(text)


def is_blank(text: TextOrPair) -> bool:
    """Return whether a text, or one of a pair, is only white space. The context of a line may be empty."""
    return any(not part or part.isspace() for part in own_segments(text))


def characters_of(text: TextOrPair) -> int:
    """Count the characters of a text, or of both of a pair."""
    return sum(map(len, segments_of(text)))


def joined(columns: Sequence[list[str]]) -> list[str] | list[Pair]:
    """Return the texts of one column, or the pairs that two columns give row by row."""
    return columns[0] if len(columns) == 1 else [Pair(*both) for both in zip(*columns, strict=True)]
