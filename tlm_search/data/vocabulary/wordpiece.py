"""Train a WordPiece vocabulary on a corpus. Equal texts give equal vocabularies, bit for bit."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MOST_CHARACTERS = 32_000_000  # larger corpora are sampled evenly; more text changes few tokens
LONGEST = 64  # characters; longer words are split, so that the time stays linear
_ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


def train_wordpiece(texts: Sequence[str], *, vocabulary: int, strip_accents: bool | None = None) -> Tokenizer:
    """Train a lower-case tokenizer like BERT's with at most ``vocabulary`` tokens on ``texts``.

    ``strip_accents`` decides whether letters lose their marks, which include the vowels of many scripts. If it is not
    None, words longer than ``LONGEST`` characters are split. None means BERT's rules: marks are removed, and words of
    more than 100 characters become [UNK].

    The special tokens are 0 to 4. Only the most frequent characters enter the vocabulary. With their forms inside words
    they take at most an eighth of a large vocabulary; words with other characters become [UNK]. Ideographs, which are
    single words, take the same share of the remaining tokens as of the texts.
    """
    from tokenizers import Tokenizer, models, trainers

    texts = texts[:: max(1, math.ceil(sum(map(len, texts)) / _MOST_CHARACTERS))]
    most = min(max(vocabulary // 16, 64), vocabulary // 3)
    counts = _characters(texts, strip_accents)
    alone = _ideographs(counts, room=vocabulary - len(SPECIAL) - 2 * most)
    alphabet = _alphabet({character: count for character, count in counts.items() if character not in alone}, most=most)
    # The trainer would number the "##" forms in the order of a hash table, which differs from run to run and decides
    # ties between merges. As special tokens they have fixed numbers.
    inside = [f"##{character}" for character in alphabet]
    learner = Tokenizer(models.WordPiece(unk_token=SPECIAL[1]))
    _dress(learner, strip_accents)
    learner.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocabulary,
            special_tokens=[*SPECIAL, *inside],
            initial_alphabet=sorted([*alphabet, *alone]),
            limit_alphabet=len(alphabet) + len(alone),
            show_progress=False,
        ),
        length=len(texts),
    )
    tokens = learner.get_vocab(with_added_tokens=False)
    return wordpiece(sorted(tokens, key=tokens.__getitem__), strip_accents=strip_accents)


def wordpiece(tokens: Iterable[str], *, strip_accents: bool | None = None) -> Tokenizer:
    """Return BERT's uncased tokenizer with ``tokens`` in the order of their ids; ``strip_accents`` as in training.

    Raises:
        KeyError: a special token is missing.
    """
    from tokenizers import Tokenizer, decoders, models

    ids = {token: i for i, token in enumerate(tokens)}
    for token in SPECIAL:
        ids[token]
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=SPECIAL[1]))
    _dress(tokenizer, strip_accents)
    tokenizer.decoder = decoders.WordPiece()
    add_ends(tokenizer)
    return tokenizer


def add_ends(tokenizer: Tokenizer) -> None:
    """Make ``tokenizer`` put the special tokens around texts and pairs as BERT does."""
    from tokenizers import processors

    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files that ``transformers.AutoTokenizer`` loads."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(_ROLES, SPECIAL, strict=True)),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _dress(tokenizer: Tokenizer, strip_accents: bool | None) -> None:
    from tokenizers import Regex, pre_tokenizers

    tokenizer.normalizer = _normalizer(strip_accents)
    words: PreTokenizer = pre_tokenizers.BertPreTokenizer()
    if strip_accents is not None:
        parts = pre_tokenizers.Split(Regex(f".{{1,{LONGEST}}}"), behavior="isolated")
        words = pre_tokenizers.Sequence([words, parts])
    tokenizer.pre_tokenizer = words


def _normalizer(strip_accents: bool | None) -> Normalizer:
    from tokenizers import normalizers

    if strip_accents is None:
        return normalizers.BertNormalizer(lowercase=True)
    # NFC, because a letter with a mark can be written as a single character or as two.
    return normalizers.Sequence(
        [normalizers.NFC(), normalizers.BertNormalizer(lowercase=True, strip_accents=strip_accents)]
    )


def _characters(texts: Sequence[str], strip_accents: bool | None) -> Counter[str]:
    """Count the characters of the normalised texts."""
    normalizer = _normalizer(strip_accents)
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    for character, count in raw.items():
        for normal in normalizer.normalize_str(character):
            if not normal.isspace():
                counts[normal] += count
    return counts


def _ideographs(counts: Counter[str], *, room: int) -> set[str]:
    """Return the most frequent characters that the normaliser puts between spaces, within their share of ``room``."""
    from tokenizers import normalizers

    normalizer = normalizers.BertNormalizer(lowercase=True)
    apart = {c: n for c, n in counts.items() if normalizer.normalize_str(c) == f" {c} "}
    share = sum(apart.values()) / max(1, counts.total())
    return set(sorted(apart, key=lambda character: (-apart[character], character))[: int(share * room)])


def _alphabet(counts: Mapping[str, int], *, most: int) -> list[str]:
    """Return the most frequent characters, sorted."""
    least = math.ceil(1e-6 * sum(counts.values()))
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    return sorted(character for character in ranked[:most] if counts[character] >= least)
