"""One text, or two that are judged together, such as a premise and a hypothesis. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Pair(NamedTuple):
    """Two texts with one label; their order counts."""

    first: str
    second: str


TextOrPair = str | Pair


def parts_of(text: TextOrPair) -> tuple[str, ...]:
    """Return the one text, or the two of a pair."""
    return (text,) if isinstance(text, str) else tuple(text)


def is_blank(text: TextOrPair) -> bool:
    """Say whether nothing but white space is in a text, or in one of a pair."""
    return any(not part or part.isspace() for part in parts_of(text))


def characters_of(text: TextOrPair) -> int:
    """Count the characters of a text, or of both of a pair."""
    return sum(map(len, parts_of(text)))


def joined(columns: Sequence[list[str]]) -> list[str] | list[Pair]:
    """Return the texts of one column, or the pairs that two columns give row by row."""
    return columns[0] if len(columns) == 1 else [Pair(*both) for both in zip(*columns, strict=True)]
