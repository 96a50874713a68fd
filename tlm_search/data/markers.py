"""The four tokens that mark the two entities of a text: ``[E1] head [/E1]`` and ``[E2] tail [/E2]``.

Source: Baldini Soares et al. 2019, "Matching the Blanks" (arXiv 1906.03158), entity markers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

HEAD, TAIL = ("[E1]", "[/E1]"), ("[E2]", "[/E2]")
MARKERS = (*HEAD, *TAIL)
EXAMPLE = "The [E1] cat [/E1] sat on the [E2] mat [/E2]."


def is_marked(text: str) -> bool:
    """Return whether ``text`` has each marker exactly once, and opens each entity before it closes it."""
    return all(text.count(marker) == 1 for marker in MARKERS) and all(
        text.index(begin) < text.index(end) for begin, end in (HEAD, TAIL)
    )


class Markers(NamedTuple):
    """The ids of the markers: ``[E1]``, ``[/E1]``, ``[E2]`` and ``[/E2]``."""

    head: int
    head_end: int
    tail: int
    tail_end: int

    @classmethod
    def of(cls, special: Mapping[str, int]) -> Markers | None:
        """Read the ids of the markers from ``special``, by their texts. Return None if it has no markers."""
        return cls(*(special[marker] for marker in MARKERS)) if set(MARKERS) <= set(special) else None
