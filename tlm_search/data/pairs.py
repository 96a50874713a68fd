"""The text of a row: one text, or a pair with one label, such as a premise and a hypothesis. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Pair(NamedTuple):
    """Two texts with one label; their order matters."""

    first: str
    second: str


class Line(Pair):
    """A line of a log with the lines before it.

    ``first`` holds the lines before, the oldest first, joined by line feeds. It is empty if no line comes before.
    """

    __slots__ = ()


TextOrPair = str | Pair


def segments_of(text: TextOrPair) -> tuple[str, ...]:
    """Return the single text, or both texts of a pair."""
    return (text,) if isinstance(text, str) else tuple(text)


def own_segments(text: TextOrPair) -> tuple[str, ...]:
    """Return the segments of a row without repeated context: the text, both texts of a pair, or the line alone."""
    return text[1:] if isinstance(text, Line) else segments_of(text)


def is_blank(text: TextOrPair) -> bool:
    """Return whether a text, or a text of a pair, is empty or white space. The context of a line may be blank."""
    return any(not part or part.isspace() for part in own_segments(text))


def characters_of(text: TextOrPair) -> int:
    """Count the characters of a text, or of both texts of a pair."""
    return sum(map(len, segments_of(text)))


def joined(columns: Sequence[list[str]]) -> list[str] | list[Pair]:
    """Return the texts of a single column, or combine two columns into pairs, row by row."""
    return columns[0] if len(columns) == 1 else [Pair(*both) for both in zip(*columns, strict=True)]
