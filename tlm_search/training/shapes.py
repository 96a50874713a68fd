"""Choose a few shapes to pad batches to, so that few CUDA graphs compute all batches.

A graph is recorded for a shape when padding its batches to another shape has cost as much time as recording takes. So a
shape costs at most twice as much as if all batches were known in advance (Karlin et al. 1988, Algorithmica 3).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace

from tlm_search.model.rows import even

_RECORDING = 10.0  # recording a graph takes about as long as this many updates
_CLOSE = 0.04  # a shape with at most this excess is close enough to a batch
_MORE_ROWS, _MORE_QUERIES, _MORE_DEVIATIONS = 1 / 8, 1 / 4, 2.0  # extra room of a new shape


@dataclass(frozen=True)
class Shape:
    """The sizes of a batch: rows, queries of a row, hidden states to read, and candidates of a sampled softmax.

    ``full`` is as in ``Tokens``. Without a sampled softmax ``candidates`` is 0.
    """

    full: bool
    rows: int
    queries: int
    reads: int
    candidates: int = 0

    def holds(self, other: Shape) -> bool:
        """Return whether ``other`` can be padded to this shape."""
        return (
            self.full <= other.full
            and self.rows >= other.rows
            and self.queries >= other.queries
            and self.reads >= other.reads
            and self.candidates >= other.candidates
        )

    def excess(self, other: Shape) -> float:
        """Estimate how much longer an update of this shape takes than an update of ``other``, as a share."""
        queries = math.sqrt(math.sqrt(self.queries / other.queries))  # they affect the time little
        candidates = self.candidates / max(1, other.candidates)
        return max(self.rows / other.rows, self.reads / other.reads, queries, candidates) - 1

    def roomy(self, most_rows: int | None) -> Shape:
        """Return a larger shape that also holds other batches with the same number of texts."""
        rows = self.rows if most_rows is None else min(most_rows, self.rows + math.ceil(self.rows * _MORE_ROWS))
        queries = math.ceil(self.queries * (1 + _MORE_QUERIES))
        reads = math.ceil(self.reads + _MORE_DEVIATIONS * math.sqrt(self.reads))
        candidates = math.ceil(self.candidates + _MORE_DEVIATIONS * math.sqrt(self.candidates))
        return replace(
            self,
            rows=rows,
            queries=even(queries, steps=4),
            reads=even(reads, steps=16),
            candidates=even(candidates, steps=16) if candidates else 0,
        )


class Shapes:
    """Chooses the shape that each batch is padded to, from at most ``most`` shapes.

    Rows are added up to ``most_rows``, or not at all if it is None.
    """

    def __init__(self, most: int, *, most_rows: int | None) -> None:
        self.most, self.most_rows = most, most_rows
        self._known: list[Shape] = []
        self._owed: defaultdict[Shape, float] = defaultdict(float)

    def choose(self, shape: Shape) -> Shape:
        """Return a known shape that holds ``shape``, else a new shape; after ``most`` shapes ``shape`` itself."""
        holding = [known for known in self._known if known.holds(shape) and self._may_have(known.rows, shape)]
        if holding:
            best = min(holding, key=lambda known: (known.excess(shape), known.queries, not known.full))
            excess = best.excess(shape)
            self._owed[shape] += excess
            if excess <= _CLOSE or self._owed[shape] < _RECORDING or len(self._known) >= self.most:
                return best
            chosen = shape
        elif len(self._known) >= self.most:
            return shape
        else:
            chosen = shape.roomy(self.most_rows)
        self._known.append(chosen)
        return chosen

    def _may_have(self, rows: int, shape: Shape) -> bool:
        return rows == shape.rows or (self.most_rows is not None and rows <= self.most_rows)
