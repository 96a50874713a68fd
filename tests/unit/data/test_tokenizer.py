from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tlm_search.data.markers import MARKERS
from tlm_search.data.vocabulary import wordpiece
from tlm_search.data.vocabulary.pruning import prune_tokenizer
from tlm_search.data.vocabulary.tokenizer import (
    add_markers,
    copy_tokenizer,
    encode,
    marker_ids,
    open_tokenizer,
    special_ids,
    tokenizer_fingerprint,
    train_tokenizer,
    vocabulary_size,
)
from tlm_search.errors import DataError

TEXTS = [f"The quick brown fox number {i} jumps over the lazy dog's café, and so on." for i in range(60)] + ["漢字"]
PRINT = """
import json, sys
from tlm_search.data.vocabulary.wordpiece import train_wordpiece
print(train_wordpiece(json.load(sys.stdin), vocabulary=120).to_str())
"""


def test_special_tokens_come_first() -> None:
    vocabulary = wordpiece.train_wordpiece(TEXTS, vocabulary=120).get_vocab()
    assert [vocabulary[token] for token in wordpiece.SPECIAL] == [0, 1, 2, 3, 4]
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert 80 < len(vocabulary) <= 120


def test_another_process_trains_the_same_vocabulary() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINT], input=json.dumps(TEXTS), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == wordpiece.train_wordpiece(TEXTS, vocabulary=120).to_str()


def test_large_corpora_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordpiece, "_MOST_CHARACTERS", 10)
    assert "b" not in wordpiece.train_wordpiece(["aaaa", "bbbb"] * 10, vocabulary=50).get_vocab()


def test_texts_are_cut_with_their_ends_in_place(tmp_path: Path) -> None:
    train_tokenizer(tmp_path, TEXTS, vocabulary=120)
    tokenizer = open_tokenizer(tmp_path)
    whole, cut = (next(encode(tokenizer, TEXTS[:1], length=length)) for length in (512, 8))
    assert (whole[0], whole[-1], cut[-1], len(cut)) == (2, 3, 3, 8)
    assert cut[:-1] == whole[:7]
    assert tokenizer.decode(whole) == TEXTS[0].lower().replace("é", "e").replace("'s", " ' s")


@pytest.mark.parametrize(
    "text",
    [
        "a " * 500,
        "word " * 40 + "x" * 300,
        "x" * 2000,
        " " * 300 + "at the end",
        "",
        "the\nlazy\n" * 300,
        "the\u3000lazy\u00a0" * 300,
        "lazy\x1cdog\x85s\x0bthe" * 300,  # control characters that BERT drops, because they are not white space to it
        "q" * 90 + "-the-" + "fox" * 60 + " the dog" * 40,
        "x" * 300 + " the lazy dog" * 40,
        "\u6f22" * 3000,
        "the,dog." * 400,
    ],
)
def test_reading_only_the_start_changes_nothing(tmp_path: Path, text: str) -> None:
    train_tokenizer(tmp_path, TEXTS, vocabulary=120)
    tokenizer = open_tokenizer(tmp_path)
    ids = list(encode(tokenizer, [text, "the dog"], length=16))
    tokenizer.enable_truncation(16)
    assert ids == [tokenizer.encode(text).ids, tokenizer.encode("the dog").ids]


def test_a_long_text_is_read_no_further_than_its_tokens_can_reach(tmp_path: Path) -> None:
    """A line feed ends the part that is read, as a space does; a text without white space has a limit."""

    class Watched:
        def __init__(self) -> None:
            self.read: list[str] = []

        def __getattr__(self, name: str) -> object:
            return getattr(tokenizer, name)

        def encode_batch_fast(self, texts: list[str]) -> list[object]:
            self.read += texts
            return tokenizer.encode_batch_fast(texts)

    train_tokenizer(tmp_path, TEXTS, vocabulary=120)
    tokenizer = open_tokenizer(tmp_path)
    for text, most in (("the lazy dog\n" * 9999, 128), ("x" * 99_999, 1024), (" " * 99_999, 1024)):
        watched = Watched()
        list(encode(watched, [text], length=16))  # type: ignore[arg-type]
        assert max(map(len, watched.read)) <= most


def test_many_batches_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_tokenizer(tmp_path, TEXTS, vocabulary=120)
    tokenizer = open_tokenizer(tmp_path)
    once = list(encode(tokenizer, TEXTS, length=30))
    monkeypatch.setattr("tlm_search.data.vocabulary.tokenizer._BATCH", 7)
    assert list(encode(tokenizer, TEXTS, length=30)) == once


def test_transformers_loads_the_files(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    train_tokenizer(tmp_path, TEXTS, vocabulary=120)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(TEXTS[0])["input_ids"] == next(encode(open_tokenizer(tmp_path), TEXTS[:1], length=100))
    assert loaded.mask_token_id == 4
    assert loaded.pad_token_id == 0


def test_a_tokenizer_of_transformers_is_taken_with_its_own_tokens(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    train_tokenizer(tmp_path / "a", TEXTS, vocabulary=120)
    copy_tokenizer(tmp_path / "b", str(tmp_path / "a"))
    config = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())
    ids = special_ids(open_tokenizer(tmp_path / "b"), config, "b")
    assert ids == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    texts = [list(encode(open_tokenizer(tmp_path / name), TEXTS, length=20)) for name in "ab"]
    assert texts[0] == texts[1]


def test_a_bare_vocabulary_is_berts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "vocab").mkdir()
    (tmp_path / "vocab" / "vocab.txt").write_text("[PAD]\n[UNK]\nfox\n##es\n[CLS]\n[SEP]\n[MASK]\n")
    copy_tokenizer(tmp_path / "a", str(tmp_path / "vocab"))
    tokenizer = open_tokenizer(tmp_path / "a")
    assert list(encode(tokenizer, ["Foxes run"], length=9)) == [[4, 2, 3, 1, 5]]
    assert vocabulary_size(tokenizer) == 7
    assert tokenizer_fingerprint(tmp_path / "a")


def test_tokenizers_that_cannot_serve(tmp_path: Path) -> None:
    (tmp_path / "vocab").mkdir()
    (tmp_path / "vocab" / "vocab.txt").write_text("[PAD]\n[UNK]\nfox\n")
    with pytest.raises(DataError, match=r"no token \[CLS\]"):
        copy_tokenizer(tmp_path, str(tmp_path / "vocab"))
    tokenizer = wordpiece.train_wordpiece(TEXTS, vocabulary=120)
    with pytest.raises(DataError, match="no mask token"):
        special_ids(tokenizer, {"pad_token": "[PAD]", "bos_token": "[CLS]", "eos_token": {"content": "[SEP]"}}, "gpt")


@pytest.mark.parametrize("template", ["$A [SEP] [CLS]", "$A [SEP]", "$A"])
def test_a_tokenizer_that_does_not_begin_with_cls_is_refused(tmp_path: Path, template: str) -> None:
    from tokenizers import processors

    train_tokenizer(tmp_path, TEXTS, vocabulary=120)
    tokenizer = open_tokenizer(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert special_ids(tokenizer, config, "mine")["cls"] == 2
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    with pytest.raises(DataError, match="tokenizer mine: it does not begin a text with its cls token"):
        special_ids(tokenizer, config, "mine")


def test_a_tokenizer_that_pads_and_cuts_by_itself_is_taken(tmp_path: Path) -> None:
    train_tokenizer(tmp_path, TEXTS, vocabulary=120)
    tokenizer = open_tokenizer(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    tokenizer.enable_padding(length=8)
    assert tokenizer.encode("a").ids[-1] == 0
    assert special_ids(tokenizer, config, "mine")["sep"] == 3
    tokenizer.enable_padding(length=8, direction="left")
    tokenizer.enable_truncation(1)
    assert special_ids(tokenizer, config, "mine")["cls"] == 2


def test_a_vocabulary_beside_a_tokenizer_is_not_taken_for_it(tmp_path: Path) -> None:
    from tokenizers import normalizers

    (tmp_path / "cased").mkdir()
    cased = wordpiece.wordpiece([*wordpiece.SPECIAL, "Dog", "dog"])
    cased.normalizer = normalizers.BertNormalizer(lowercase=False)
    cased.save(str(tmp_path / "cased" / "tokenizer.json"))
    (tmp_path / "cased" / "vocab.txt").write_text("\n".join([*wordpiece.SPECIAL, "Dog", "dog"]) + "\n")
    (tmp_path / "out").mkdir()
    copy_tokenizer(tmp_path / "out", str(tmp_path / "cased"))
    assert open_tokenizer(tmp_path / "out").encode("Dog").ids == [2, 5, 3]


def test_ideographs_fill_a_vocabulary_of_their_own_texts() -> None:
    chances = np.random.default_rng(0)
    texts = ["".join(chr(0x4E00 + int(i)) for i in chances.integers(0, 500, 60)) for _ in range(100)]
    tokenizer = wordpiece.train_wordpiece(texts, vocabulary=800)
    assert all(1 not in ids for ids in encode(tokenizer, texts, length=64))
    few = wordpiece.train_wordpiece([*texts, *["plain words and other plain words " * 40] * 400], vocabulary=800)
    assert sum("\u4e00" <= token <= "\u9fff" for token in few.get_vocab()) < 100


def _trained(folder: Path) -> None:
    train_tokenizer(folder, TEXTS, vocabulary=120)


def _bare(folder: Path) -> None:
    vocabulary = folder.parent / "vocabulary"
    vocabulary.mkdir()
    pieces = [*wordpiece.SPECIAL, "fox", "dog", "[", "]", "/", "e", "##1", "##2", "lazy", "[E1]"]
    (vocabulary / "vocab.txt").write_text("\n".join(pieces) + "\n")
    copy_tokenizer(folder, str(vocabulary))


def _of_a_class(folder: Path) -> None:
    from transformers import BertTokenizerFast

    _bare(folder)
    saved = folder.parent / "saved"
    BertTokenizerFast(str(folder.parent / "vocabulary" / "vocab.txt")).save_pretrained(str(saved))
    for file in folder.iterdir():
        file.unlink()
    copy_tokenizer(folder, str(saved))


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("make", [_trained, _bare, _of_a_class])
def test_markers_are_single_tokens_in_texts_of_any_case(
    tmp_path: Path, make: Callable[[Path], None], pruned: bool
) -> None:
    from transformers import AutoTokenizer

    folder, text = tmp_path / "made", "Lazy [E1] FOX [/E1], and[E2]Dog[/E2]."
    folder.mkdir()
    make(folder)
    before = vocabulary_size(open_tokenizer(folder))
    unmarked = next(encode(open_tokenizer(folder), ["Lazy FOX dog [e1]"], length=30))
    add_markers(folder)
    if pruned:
        prune_tokenizer(folder, [["fox dog lazy"], [text]], length=30, min_count=1)
    tokenizer = open_tokenizer(folder)
    ids = marker_ids(tokenizer)
    found = next(encode(tokenizer, [text], length=30))
    assert list(ids) == list(MARKERS)
    assert [token for token in found if token in ids.values()] == list(ids.values())
    words = [tokenizer.id_to_token(token) for token in found]
    assert words[words.index("[E2]") + 1] == "dog" or make is _trained
    assert AutoTokenizer.from_pretrained(folder)(text)["input_ids"] == found
    if not pruned:
        assert next(encode(tokenizer, ["Lazy FOX dog [e1]"], length=30)) == unmarked
        # the other vocabulary contains [E1]
        assert vocabulary_size(tokenizer) == before + (4 if make is _trained else 3)
    special = special_ids(tokenizer, json.loads((folder / "tokenizer_config.json").read_text()), "marked")
    assert not set(special.values()) & set(ids.values())
