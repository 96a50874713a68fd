"""Find out which tokens of a vocabulary begin a word, and the characters of each token. No torch here.

WordPiece marks tokens that continue a word with ``##``. Byte-level BPE marks the beginning of a word with ``Ġ``, a
space, and SentencePiece with ``▁``. In a vocabulary without such marks each token is a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTES_SPACE, _SENTENCE_SPACE = "Ġ", "▁"


@dataclass(frozen=True)
class Pieces:
    """The tokens by id: ``texts`` in lower case without marks, and whether each token ``begins`` a word.

    Only tokens that begin with a letter or digit belong to words. All other tokens, special tokens among them, have an
    empty text.
    """

    texts: tuple[str, ...]
    begins: NDArray[np.bool_]


def pieces_of(tokenizer: Tokenizer, *, special: Iterable[int]) -> Pieces:
    """Read the vocabulary of ``tokenizer``. The ids in ``special`` and all added tokens are no words."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    tokens = [""] * (1 + max(vocabulary.values()))
    for token, number in vocabulary.items():
        tokens[number] = token
    for number in {*special, *tokenizer.get_added_tokens_decoder()}:
        tokens[number] = ""
    described = json.loads(tokenizer.to_str())
    if described["model"]["type"] == "WordPiece":
        prefix = described["model"]["continuing_subword_prefix"]
        begins = [not token.startswith(prefix) for token in tokens]
        texts = [token.removeprefix(prefix) for token in tokens]
    elif _has(described, "ByteLevel"):
        begins = [token.startswith(_BYTES_SPACE) for token in tokens]
        texts = [_from_bytes(token).strip() for token in tokens]
    elif _has(described, "Metaspace"):
        begins = [token.startswith(_SENTENCE_SPACE) for token in tokens]
        texts = [token.removeprefix(_SENTENCE_SPACE) for token in tokens]
    else:
        begins, texts = [True] * len(tokens), tokens
    lower = (text.lower() for text in texts)
    return Pieces(tuple(text if text[:1].isalnum() else "" for text in lower), np.array(begins))


def _has(described: object, kind: str) -> bool:
    """Return whether a tokenizer's description contains a step of this ``kind``."""
    if isinstance(described, list):
        return any(_has(part, kind) for part in described)
    if not isinstance(described, dict):
        return False
    return described.get("type") == kind or any(_has(part, kind) for key, part in described.items() if key != "model")


def _from_bytes(token: str) -> str:
    """Return the text of a byte-level BPE token; a part of a character counts as a letter."""
    values = [BYTE_OF.get(character) for character in token]
    if any(value is None for value in values):
        return token
    text = bytes(value for value in values if value is not None).decode("utf-8", errors="surrogateescape")
    # Each byte of an incomplete character becomes a letter.
    return "".join(chr(ord(c) - 0xDC00 + 0xAC00) if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def _byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of byte-level BPE stands for.

    Source: ``bytes_to_unicode`` of GPT-2 (Radford et al. 2019): printable bytes stand for themselves, the others for
    the characters from 256 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = [*map(chr, printable), *(chr(256 + place) for place in range(len(others)))]
    return dict(zip(characters, [*printable, *others], strict=True))


BYTE_OF = _byte_alphabet()
