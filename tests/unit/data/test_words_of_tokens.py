"""Which tokens make up words, for the three families of tokenizers."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tlm_search.data.vocabulary import wordpiece
from tlm_search.data.vocabulary.words import pieces_of

TEXTS = ["It was well-known: naïve Zürich 日本 talks, 2 hats!", "ü", "the hats talk"] * 3


def by_token(tokenizer: Tokenizer, special: tuple[int, ...] = ()) -> dict[str, tuple[str, bool]]:
    pieces = pieces_of(tokenizer, special=special)
    tokens = tokenizer.get_vocab(with_added_tokens=True)
    return {token: (pieces.texts[number], bool(pieces.begins[number])) for token, number in tokens.items()}


def bpe(before: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = before
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=400, show_progress=False))
    return tokenizer


def test_wordpiece_marks_what_goes_on() -> None:
    tokenizer = wordpiece.wordpiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hat", "##s", "##-", "-", "2"])
    found = by_token(tokenizer, special=range(5))
    assert found["hat"] == ("hat", True)
    assert found["##s"] == ("s", False)
    assert found["2"] == ("2", True)
    assert {found[token][0] for token in ("[PAD]", "[UNK]", "[MASK]", "##-", "-")} == {""}


def test_bytes_mark_a_beginning_by_a_space_and_stand_for_characters() -> None:
    tokenizer = bpe(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.decoder = decoders.ByteLevel()
    found = by_token(tokenizer)
    assert found["Ġhats"] == ("hats", True)
    assert found["s"] == ("s", False)
    assert found["Z"] == ("z", False)
    assert found["Ã¼"] == ("ü", False)
    assert len(found["Ã"][0]) == 1, "half a character counts as a letter"
    assert found["Ġ"][0] == found[","][0] == ""


def test_sentencepiece_marks_a_beginning() -> None:
    found = by_token(bpe(pre_tokenizers.Metaspace()))
    assert found["▁hats"] == ("hats", True)
    assert found["s"] == ("s", False)
    assert found["▁"][0] == ""


def test_added_tokens_are_no_words() -> None:
    tokenizer = bpe(pre_tokenizers.Metaspace())
    tokenizer.add_tokens(["marker"])
    assert by_token(tokenizer)["marker"][0] == ""


def test_tokens_without_marks_are_words() -> None:
    tokenizer = Tokenizer(models.WordLevel({"hat": 0, "s": 1, "-": 2}, unk_token="hat"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert by_token(tokenizer) == {"hat": ("hat", True), "s": ("s", True), "-": ("", True)}
