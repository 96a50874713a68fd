"""Measure how much of a task's vocabulary a corpus contains, by token counts. No torch here.

A *type* is a token id that is not special. A *token* is one occurrence of a type. The unknown token counts as a type
that only the task contains, because no member can learn what it stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlm_search.data.tokens import TokenArray

Counts = NDArray[np.int64]

LEAST = (1, 10, 100)  # a type is known if the corpus has at least this many occurrences
PREFIXES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of the corpus's documents
_BLOCK = 1 << 20  # ids at once, because bincount copies them to int64


@dataclass(frozen=True)
class Overlap:
    """The overlap of a task with the first ``documents`` documents of a corpus, which contain ``tokens`` tokens.

    ``types`` and ``weighted`` hold the ``type_share`` and ``token_share`` for each minimum of ``LEAST``.
    ``divergence`` is the Jensen-Shannon divergence of the two distributions, in bits.
    """

    documents: int
    tokens: int
    types: dict[int, float]
    weighted: dict[int, float]
    divergence: float


def count_tokens(ids: NDArray[np.integer], *, vocabulary: int, special: Iterable[int]) -> Counts:
    """Count each id below ``vocabulary``: int64 ``(vocabulary,)``. ``special`` ids count 0."""
    counts = np.zeros(vocabulary, dtype=np.int64)
    for start in range(0, len(ids), _BLOCK):
        counts += np.bincount(ids[start : start + _BLOCK], minlength=vocabulary)
    counts[list(special)] = 0
    return counts


def count_task(splits: Iterable[TokenArray], *, vocabulary: int, special: Mapping[str, int]) -> Counts:
    """Count each id in all splits of a task; ``special`` are the ids by role.

    The unknown token (role ``unk``) counts here, but not in a corpus.
    """
    left_out = [number for role, number in special.items() if role != "unk"]
    counts = np.zeros(vocabulary, dtype=np.int64)
    for split in splits:
        counts += count_tokens(split.ids, vocabulary=vocabulary, special=left_out)
    return counts


def type_share(task: Counts, corpus: Counts, *, least: int = 1) -> float:
    """Return the share of the task's types that occur at least ``least`` times in the corpus; 0 without types."""
    present = task > 0
    return float((corpus[present] >= least).mean()) if present.any() else 0.0


def token_share(task: Counts, corpus: Counts, *, least: int = 1) -> float:
    """Return the share of the task's tokens whose type occurs at least ``least`` times in the corpus.

    It is ``type_share`` with each type weighted by its frequency in the task; 0 without tokens.
    """
    total = int(task.sum())
    return float(task[corpus >= least].sum() / total) if total else 0.0


def jensen_shannon(first: Counts, second: Counts) -> float:
    """Return the Jensen-Shannon divergence of two unigram distributions in bits: 0 if equal, 1 without common types.

    It is the mean of the Kullback-Leibler divergences of both from their mean distribution (Lin 1991). If one has no
    tokens, it is 1.
    """
    if not first.sum() or not second.sum():
        return 1.0
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2
    return float((_to_middle(p, middle) + _to_middle(q, middle)) / 2)


def overlap_curve(
    task: Sequence[TokenArray], corpus: TokenArray, *, vocabulary: int, special: Mapping[str, int]
) -> tuple[Overlap, ...]:
    """Return the overlap of the ``task``'s splits with growing prefixes of the corpus, up to the whole corpus.

    Each array is read once. A small corpus has fewer prefixes. Each prefix has at least one document.
    """
    of_task = count_task(task, vocabulary=vocabulary, special=special)
    seen = np.zeros(vocabulary, dtype=np.int64)
    start = 0
    curve = []
    for documents in sorted({max(1, round(share * len(corpus))) for share in PREFIXES}):
        end = int(corpus.offsets[documents])
        seen += count_tokens(corpus.ids[start:end], vocabulary=vocabulary, special=special.values())
        start = end
        curve.append(
            Overlap(
                documents=documents,
                tokens=int(seen.sum()),
                types={least: type_share(of_task, seen, least=least) for least in LEAST},
                weighted={least: token_share(of_task, seen, least=least) for least in LEAST},
                divergence=jensen_shannon(of_task, seen),
            )
        )
    return tuple(curve)


def _to_middle(p: NDArray[np.float64], middle: NDArray[np.float64]) -> float:
    present = p > 0
    return float((p[present] * np.log2(p[present] / middle[present])).sum())
