"""Find near duplicates among texts by MinHash, so that training does not see copies of test texts."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[a-z]+")
_SHINGLE = 3  # words
_BANDS, _ROWS = 4, 3  # finds 41, 81, 99% of pairs that share 50, 70, 90% of their shingles
_LEAST_LIKENESS = 0.5
_CHUNK = 20_000  # texts at once, to bound the memory


def nearest_earlier(texts: Sequence[str]) -> Iterator[int]:
    """Yield for each text the position of an earlier accepted text that it nearly repeats, else its own position.

    Two texts nearly repeat each other if they share at least half of their three-word shingles. Letter case, digits and
    punctuation do not count. The result is the same on every platform.
    """
    known: dict[tuple[int, int], int] = {}
    for start in range(0, len(texts), _CHUNK):
        for position, row in enumerate(_bands(texts[start : start + _CHUNK]).tolist(), start):
            keys = list(enumerate(row))
            nearest = position
            for candidate in {known[key] for key in keys if key in known}:
                # Among many texts, a band can match by chance for texts that share only a common phrase.
                if _likeness(texts[candidate], texts[position]) >= _LEAST_LIKENESS:
                    nearest = min(nearest, candidate)
            if nearest == position:
                for key in keys:
                    known.setdefault(key, position)
            yield nearest


def _likeness(one: str, other: str) -> float:
    """Return the Jaccard similarity of the shingles of two texts."""
    first, second = _shingles(one), _shingles(other)
    return len(first & second) / len(first | second)


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return {tuple(words[i : i + _SHINGLE]) for i in range(max(len(words) - _SHINGLE + 1, 1))}


def _bands(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return the band keys (texts x bands) of ``texts``."""
    codes: dict[str, int] = {}
    flat: list[int] = []
    starts = np.zeros(len(texts), dtype=np.int64)
    for i, text in enumerate(texts):
        starts[i] = len(flat)
        words = _WORD.findall(text.lower())
        for word in words:
            if word not in codes:
                codes[word] = zlib.crc32(word.encode())
            flat.append(codes[word])
        # Every text has at least one shingle. A shingle that reaches into the next text contains the end marker.
        flat.extend([0] * _SHINGLE)
    words_flat = np.array(flat, dtype=np.uint64)
    shingles = np.zeros(max(len(words_flat) - _SHINGLE + 1, 0), dtype=np.uint64)
    for offset in range(_SHINGLE):
        shingles = _mixed(shingles + words_flat[offset : offset + len(shingles)], offset + 1)
    # The last shingle consists of the zeros at the end of the last text; it never starts a text.
    bands = np.zeros((len(texts), _BANDS), dtype=np.uint64)
    ends = np.append(starts[1:], len(words_flat))
    inside = np.ones(len(shingles), dtype=bool)
    for back in range(1, _SHINGLE + 1):
        tails = ends - back
        inside[tails[tails < len(shingles)]] = False
    short = ends - starts - _SHINGLE < _SHINGLE  # a text with fewer words than a shingle is represented by its start
    inside[starts[short]] = True
    top = np.uint64(np.iinfo(np.uint64).max)
    for band in range(_BANDS):
        for row in range(_ROWS):
            values = np.where(inside, _mixed(shingles, 101 + band * _ROWS + row), top)
            least = np.minimum.reduceat(values, starts) if len(texts) else values
            bands[:, band] = _mixed(bands[:, band] + least, row + 1)
    return bands


def _mixed(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Hash 64-bit values with the finaliser of splitmix64, differently for each seed."""
    mixed = values + np.uint64((seed * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
