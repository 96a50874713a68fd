"""A tokenizer whose tokens are the UTF-8 bytes of a text. It needs no training and has no unknown tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlm_search.data.vocabulary.wordpiece import SPECIAL, add_ends
from tlm_search.data.vocabulary.words import BYTE_OF

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BYTE_TOKENS = len(SPECIAL) + len(BYTE_OF)


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer with the special tokens as ids 0 to 4 and the 256 bytes after them. It changes no text.

    It is byte-level BPE without merges, so ``transformers`` can load it.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    bytes_ = sorted(BYTE_OF, key=BYTE_OF.__getitem__)
    ids = {token: number for number, token in enumerate([*SPECIAL, *bytes_])}
    tokenizer = Tokenizer(models.BPE(ids, merges=[], unk_token=SPECIAL[1]))
    # No splitting into words: without merges it changes nothing, and it takes time.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    add_ends(tokenizer)
    return tokenizer
