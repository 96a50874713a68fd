"""Warn about what a tokenizer loses: unknown words, and different texts with the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.data.pairs import TextOrPair, segments_of
from tlm_search.data.rows import likeness
from tlm_search.errors import DataError

_UNKNOWN, _ALIKE, _TOO_MANY = 0.05, 0.01, 0.5  # shares: warn above the first two, refuse alike texts above the last
_SHOWN = 60  # characters of a text in a message
_REMEDY = (
    "train a vocabulary on such texts, with strip_accents: false, which keeps accents and vowel marks and cuts up long "
    "words (tokenizer: {vocabulary: 4096, strip_accents: false}), or name a tokenizer that knows their script"
)


def losses(
    texts: Sequence[TextOrPair], rows: Sequence[Sequence[int]], special: Mapping[str, int], *, length: int, where: str
) -> Iterator[str]:
    """Warn if many tokens of ``rows`` are unknown, or if many different ``texts`` have the same tokens.

    Letter case and white space do not count. Texts that fill ``length`` tokens do not count, because they may differ
    after the cut.

    Raises:
        DataError: more than half of the texts have the same tokens as another text.
    """
    yield from unknown_tokens(np.concatenate([np.asarray(row) for row in rows] or [np.zeros(0)]), special, where=where)
    texts_of: dict[tuple[int, ...], dict[str, TextOrPair]] = {}
    for text, row in zip(texts, rows, strict=True):
        if len(row) < length:
            texts_of.setdefault(tuple(row), {}).setdefault(likeness(text), text)
    alike = [list(same.values()) for same in texts_of.values() if len(same) > 1]
    count, of = sum(map(len, alike)), len(set(map(likeness, texts)))
    if count <= _ALIKE * of:
        return
    one, other = (_start(text) for text in max(alike, key=len)[:2])
    said = f"{where}: {count:,} of {of:,} different texts have the same tokens as another, such as {one} and {other}"
    if count > _TOO_MANY * of:
        raise DataError(said, hint=_REMEDY)
    yield f"warning: {said}; {_REMEDY}"


def unknown_tokens(ids: NDArray[Any], special: Mapping[str, int], *, where: str) -> Iterator[str]:
    """Warn if many of the ``ids`` are unknown. Special tokens do not count."""
    if "unk" not in special:
        return
    around = [number for role, number in special.items() if role != "unk"]
    unknown = int(np.count_nonzero(ids == special["unk"]))
    words = len(ids) - int(np.count_nonzero(np.isin(ids, around)))
    if unknown > _UNKNOWN * words:
        yield f"warning: {where}: {unknown:,} of {words:,} tokens are unknown to the tokenizer; {_REMEDY}"


def _start(text: TextOrPair) -> str:
    parts = [part if len(part) <= _SHOWN else f"{part[:_SHOWN]}..." for part in segments_of(text)]
    return " with ".join(map(repr, parts))
