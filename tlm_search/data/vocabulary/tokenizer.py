"""Train or copy the tokenizer of a study, and turn texts into ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm_search.data.markers import MARKERS
from tlm_search.data.pairs import Line, Pair
from tlm_search.data.sources.place import local_place
from tlm_search.data.vocabulary import wordpiece
from tlm_search.data.vocabulary.byte_level import byte_tokenizer
from tlm_search.digest import DIGEST_LENGTH
from tlm_search.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH = 2000  # texts at once, which is enough for all cores and takes little memory
_ROLES = {"pad": ("pad",), "unk": ("unk",), "cls": ("cls", "bos"), "sep": ("sep", "eos"), "mask": ("mask",)}
_PAIRS = 250  # pairs at once; fewer than texts, because pairs are tokenised whole
_CUT = 8  # characters per token that usually suffice, see `encode`
_MOST = 64  # most characters per token that are read; no language needs more
# Control characters are no white space: BERT removes them and so joins the words around them.
_WHITE = r"[^\S\x0b\x0c\x1c-\x1f\x85]"
_FIRST_WHITE, _LAST_WHITE = re.compile(_WHITE), re.compile(f"(?s:.*)(?={_WHITE})")


def train_tokenizer(folder: Path, texts: Sequence[str], *, vocabulary: int, strip_accents: bool | None = None) -> None:
    """Train a WordPiece vocabulary on ``texts`` and write the tokenizer to ``folder``."""
    wordpiece.save(wordpiece.train_wordpiece(texts, vocabulary=vocabulary, strip_accents=strip_accents), folder)


def write_byte_tokenizer(folder: Path) -> None:
    """Write the byte tokenizer to ``folder``."""
    wordpiece.save(byte_tokenizer(), folder)


def copy_tokenizer(folder: Path, name: str) -> None:
    """Write the tokenizer ``name`` (a folder, or a Hugging Face id) to ``folder``.

    A folder that contains only ``vocab.txt`` means BERT's uncased WordPiece with that vocabulary.

    Raises:
        DataError: the tokenizer does not exist, has no fast form, or lacks a mask token.
    """
    place = local_place(name) or Path(name)
    if _has_only_vocabulary(place):
        try:
            tokens = (place / "vocab.txt").read_text(encoding="utf-8").split("\n")
            wordpiece.save(wordpiece.wordpiece(tokens[:-1] if tokens[-1] == "" else tokens), folder)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"tokenizer {name}: vocab.txt cannot be read: {error}") from error
        except KeyError as error:
            raise DataError(f"tokenizer {name}: vocab.txt has no token {error.args[0]}") from error
        return
    from tlm_search.data.sources.hub import load_hub_tokenizer

    loaded = load_hub_tokenizer(str(place))
    if not getattr(loaded, "is_fast", False):
        raise DataError(f"tokenizer {name}: it has no fast (Rust) form", hint="name another tokenizer")
    loaded.save_pretrained(str(folder))


def add_markers(folder: Path) -> None:
    """Add each entity marker as a single token to the end of the vocabulary of the tokenizer in ``folder``.

    The tokenizer finds markers in a text before it lower-cases the text or splits it into words.
    """
    from tokenizers import AddedToken

    tokenizer = open_tokenizer(folder)
    tokenizer.add_special_tokens([AddedToken(marker, normalized=False, special=True) for marker in MARKERS])
    tokenizer.save(str(folder / "tokenizer.json"))


def marker_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the ids of the markers by their texts; raises KeyError if ``add_markers`` did not add them."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return {marker: vocabulary[marker] for marker in MARKERS}


def _has_only_vocabulary(place: Path) -> bool:
    others = ("tokenizer.json", "tokenizer_config.json")
    return (place / "vocab.txt").is_file() and not any((place / name).is_file() for name in others)


def open_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer in ``folder`` of the store, without transformers."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def tokenizer_fingerprint(folder: Path) -> str:
    """Return a digest of everything that decides the ids."""
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()[:DIGEST_LENGTH]


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Return the number of ids, including gaps."""
    return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())


def special_ids(tokenizer: Tokenizer, config: Mapping[str, Any], name: str) -> dict[str, int]:
    """Return the ids of pad, unk, cls, sep and mask from the tokenizer and its ``tokenizer_config.json``.

    Raises:
        DataError: the tokenizer lacks a token that a masked language model needs, or does not begin texts with cls and
            end them with sep.
    """
    ids: dict[str, int] = {}
    for role, names in _ROLES.items():
        for entry in (config.get(f"{candidate}_token") for candidate in names):
            token = entry.get("content") if isinstance(entry, Mapping) else entry
            number = None if token is None else tokenizer.token_to_id(token)
            if number is not None:
                ids[role] = number
                break
        else:
            if role != "unk":
                raise DataError(
                    f"tokenizer {name}: it has no {role} token, which masked-language-model training needs",
                    hint="name a tokenizer of the BERT family, or give a vocabulary to train",
                )
    tokenizer.no_padding()  # a loaded tokenizer may pad and truncate, and so may one that `encode` used
    tokenizer.no_truncation()
    around = tokenizer.encode("a").ids
    if len(around) < 2 or (around[0], around[-1]) != (ids["cls"], ids["sep"]):
        # Pooling reads the first token, which would then be a word instead of [CLS].
        raise DataError(
            f"tokenizer {name}: it does not begin a text with its cls token and end it with its sep token",
            hint="name a tokenizer of the BERT family, or give a vocabulary to train",
        )
    return ids


def require_pairs(tokenizer: Tokenizer, name: str) -> None:
    """Require that the tokenizer writes a pair as BERT does: ``[CLS] a [SEP] b [SEP]``, in two segments.

    Raises:
        DataError: the tokenizer writes a pair differently.
    """
    tokenizer.no_padding()
    tokenizer.no_truncation()
    first, second, both = tokenizer.encode("a"), tokenizer.encode("b"), tokenizer.encode("a", "b")
    ids, types = [*first.ids, *second.ids[1:]], [0] * len(first.ids) + [1] * (len(second.ids) - 1)
    if (both.ids, both.type_ids) != (ids, types):
        raise DataError(
            f"tokenizer {name}: it does not write a pair of texts as BERT does, [CLS] a [SEP] b [SEP] with segments 0 "
            "and 1",
            hint="name a tokenizer of the BERT family, or give a vocabulary to train",
        )


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[Pair], *, length: int) -> Iterator[tuple[list[int], int]]:
    """Yield the ids of each pair, ``[CLS] a [SEP] b [SEP]``, and how many of them belong to ``[CLS] a [SEP]``.

    If a pair has more than ``length`` tokens, the longer text is cut until the pair fits, as in `transformers`
    (longest first). Both texts are tokenised whole, because their lengths decide which text is cut.
    """
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    remaining = iter(pairs)
    while batch := list(islice(remaining, _PAIRS)):
        for encoding in tokenizer.encode_batch_fast([tuple(pair) for pair in batch]):
            yield encoding.ids, encoding.type_ids.count(0)


def encode_lines(tokenizer: Tokenizer, lines: Sequence[Line], *, length: int) -> Iterator[tuple[list[int], int]]:
    """Yield the ids of each line after its context, as ``encode_pairs`` does.

    If line and context have more than ``length`` tokens, the oldest tokens of the context are dropped. A line that is
    too long by itself is cut at its end.
    """
    tokenizer.no_padding()
    tokenizer.no_truncation()
    remaining, most = iter(lines), _MOST * length
    while batch := list(islice(remaining, _PAIRS)):
        contexts = tokenizer.encode_batch_fast([line.first[-most:] for line in batch])
        alone = tokenizer.encode_batch_fast([_start(line.second, most, most) for line in batch])
        for before, line in zip(contexts, alone, strict=True):
            begin, *words, end = line.ids
            words = words[: length - 3]
            room = length - 3 - len(words)
            context = before.ids[1:-1][-room:] if room else []
            yield [begin, *context, end, *words, end], len(context) + 2


def encode(tokenizer: Tokenizer, texts: Sequence[str], *, length: int) -> Iterator[list[int]]:
    """Yield the ids of each text with its special tokens, cut to ``length`` tokens.

    Only the start of a long text is tokenised: a start that fills ``length`` tokens and ends at white space has the
    same first tokens as the whole text. At most ``_MOST`` characters per token are read. So a text with very few tokens
    for its size (a word of megabytes, a page of blanks) is cut there.
    """
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    remaining, most = iter(texts), _MOST * length
    while batch := list(islice(remaining, _BATCH)):
        starts = [_start(text, _CUT * length, most) for text in batch]
        encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(starts)]
        again = [i for i, ids in enumerate(encoded) if len(ids) < length and len(starts[i]) < min(len(batch[i]), most)]
        longer = tokenizer.encode_batch_fast([_start(batch[i], most, most) for i in again])
        for i, encoding in zip(again, longer, strict=True):
            encoded[i] = encoding.ids
        yield from encoded


def _start(text: str, characters: int, most: int) -> str:
    """Cut ``text`` at the last white space before ``characters``, else at the first white space after, or ``most``."""
    if len(text) <= characters:
        return text
    before = _LAST_WHITE.match(text, 0, characters)
    if before and before.end():
        return text[: before.end()]
    after = _FIRST_WHITE.search(text, characters, most)
    return text[: after.start() if after else most]
