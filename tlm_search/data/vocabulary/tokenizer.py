"""The tokenizer of a study, trained on its corpus or an existing one, and the way from texts to ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm_search.data.markers import MARKERS
from tlm_search.data.pairs import Line, Pair
from tlm_search.data.sources.source import local_place
from tlm_search.data.vocabulary import wordpiece
from tlm_search.data.vocabulary.byte_level import byte_tokenizer
from tlm_search.digest import DIGEST_LENGTH
from tlm_search.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH = 2000  # texts at once, which is enough for all cores and takes little memory
_ROLES = {"pad": ("pad",), "unk": ("unk",), "cls": ("cls", "bos"), "sep": ("sep", "eos"), "mask": ("mask",)}
_PAIRS = 250  # pairs at once, because they are tokenised whole
_CUT = 8  # characters per token that are mostly enough, see `encode`
_MOST = 64  # characters per token that are read at most: beyond it lies what no words of a language need
# Controls are no white space to BERT, which drops them: the words around them are one.
_WHITE = r"[^\S\x0b\x0c\x1c-\x1f\x85]"
_FIRST_WHITE, _LAST_WHITE = re.compile(_WHITE), re.compile(f"(?s:.*)(?={_WHITE})")


def train_tokenizer(folder: Path, texts: Sequence[str], *, vocabulary: int, strip_accents: bool | None = None) -> None:
    """Train a WordPiece vocabulary on ``texts`` and write the tokenizer to ``folder``."""
    wordpiece.save(wordpiece.train_wordpiece(texts, vocabulary=vocabulary, strip_accents=strip_accents), folder)


def write_byte_tokenizer(folder: Path) -> None:
    """Write the tokenizer of bytes to ``folder``."""
    wordpiece.save(byte_tokenizer(), folder)


def copy_tokenizer(folder: Path, name: str) -> None:
    """Write the tokenizer that ``name`` (a folder, or a Hugging Face id) gives to ``folder``.

    A folder with nothing but ``vocab.txt`` is BERT's uncased WordPiece over that vocabulary.

    Raises:
        DataError: there is no such tokenizer, it has no fast form, or no token for the masks.
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
    """Make the markers of entities single tokens of the tokenizer in ``folder``, behind those that it has.

    They are found in a text before it is lower-cased or cut into words.
    """
    from tokenizers import AddedToken

    tokenizer = open_tokenizer(folder)
    tokenizer.add_special_tokens([AddedToken(marker, normalized=False, special=True) for marker in MARKERS])
    tokenizer.save(str(folder / "tokenizer.json"))


def marker_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the ids of the markers by their texts; raises KeyError where ``add_markers`` did not add them."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return {marker: vocabulary[marker] for marker in MARKERS}


def _has_only_vocabulary(place: Path) -> bool:
    others = ("tokenizer.json", "tokenizer_config.json")
    return (place / "vocab.txt").is_file() and not any((place / name).is_file() for name in others)


def open_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer that lies in ``folder`` of the store, without transformers."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def tokenizer_fingerprint(folder: Path) -> str:
    """Return a digest of all that decides the ids."""
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()[:DIGEST_LENGTH]


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Return the number of ids, including gaps."""
    return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())


def special_ids(tokenizer: Tokenizer, config: Mapping[str, Any], name: str) -> dict[str, int]:
    """Return the ids of pad, unk, cls, sep and mask from the tokenizer and its ``tokenizer_config.json``.

    Raises:
        DataError: it has none of a kind that a masked language model needs, or does not begin texts with cls and end
            them with sep.
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
    tokenizer.no_padding()  # which some bring along, as a length to cut to; so does `encode`
    tokenizer.no_truncation()
    around = tokenizer.encode("a").ids
    if len(around) < 2 or (around[0], around[-1]) != (ids["cls"], ids["sep"]):
        # What reads an answer off the first token would read it off a word.
        raise DataError(
            f"tokenizer {name}: it does not begin a text with its cls token and end it with its sep token",
            hint="name a tokenizer of the BERT family, or give a vocabulary to train",
        )
    return ids


def require_pairs(tokenizer: Tokenizer, name: str) -> None:
    """Refuse a tokenizer that does not write a pair as BERT does: ``[CLS] a [SEP] b [SEP]``, in two segments.

    Raises:
        DataError: it writes something else.
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

    If a pair has more than ``length`` tokens, its longer text is cut until both fit, as in `transformers` (longest
    first). Both texts are tokenised whole, because the lengths of both decide which one is cut.
    """
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    remaining = iter(pairs)
    while batch := list(islice(remaining, _PAIRS)):
        for encoding in tokenizer.encode_batch_fast([tuple(pair) for pair in batch]):
            yield encoding.ids, encoding.type_ids.count(0)


def encode_lines(tokenizer: Tokenizer, lines: Sequence[Line], *, length: int) -> Iterator[tuple[list[int], int]]:
    """Yield the ids of each line after its context, as ``encode_pairs`` does.

    If there are more than ``length`` tokens, the oldest tokens of the context are dropped. A line that does not fit
    alone is cut at its end.
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
    """Yield the ids of each text with the special tokens in place, cut to ``length`` tokens.

    Only the necessary start of a long text is tokenised: a start that fills ``length`` tokens and ends at white space
    has the same first tokens as the whole. At most ``_MOST`` characters for each token are read, so a text that fills
    them with hardly any tokens (one word of megabytes, a page of blanks) ends there.
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
    """Cut ``text`` at the last white space before ``characters``, else at the next one, else at ``most``."""
    if len(text) <= characters:
        return text
    before = _LAST_WHITE.match(text, 0, characters)
    if before and before.end():
        return text[: before.end()]
    after = _FIRST_WHITE.search(text, characters, most)
    return text[: after.start() if after else most]
