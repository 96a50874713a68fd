"""Texts that differ stay different as tokens, in every script, or the user is told."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from tlm_search.data.prepare import prepare
from tlm_search.data.vocabulary import wordpiece
from tlm_search.data.vocabulary.losses import losses
from tlm_search.data.vocabulary.tokenizer import encode, open_tokenizer, train_tokenizer
from tlm_search.errors import DataError
from tlm_search.space.schema import Space
from tlm_search.space.sections import TokenizerSection

DRAW = random.Random(0)
DNA = ["".join(DRAW.choices("ACGT", k=300)) for _ in range(100)]
THAI = ["".join(DRAW.choices("กขคงจชซดตนบปพมรลวสหอะาิีึืุูเแโไ่้", k=150)) for _ in range(100)]
# The words of each pair differ only by vowels or accents. The marks of SPACING take up their own space, so they are not
# accents.
SPACING = [("कि", "की"), ("कल", "काल"), ("ปา", "ปะ")]
MARKS = [("ปี", "ปู"), ("はは", "ばば"), ("カス", "ガス"), ("סֵפֶר", "סָפָר"), ("كَتَبَ", "كُتُب"), ("año", "ano")]
PAIRS = [*SPACING, *MARKS]
SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}


def _rows(folder: Path, texts: Sequence[str], *, length: int = 512, **settings: bool | None) -> list[list[int]]:
    folder.mkdir(exist_ok=True)
    train_tokenizer(folder, texts, vocabulary=600, **settings)
    return list(encode(open_tokenizer(folder), texts, length=length))


@pytest.mark.parametrize("texts", [DNA, THAI, ["x" * 99 + "y" * i for i in range(1, 60)]])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_words_of_any_length_are_told_apart(tmp_path: Path, texts: list[str], strip_accents: bool) -> None:
    rows = _rows(tmp_path / "now", texts, strip_accents=strip_accents)
    assert SPECIAL["unk"] not in {number for row in rows for number in row}
    if not strip_accents:
        assert len(set(map(tuple, rows))) == len(texts)
    before = _rows(tmp_path / "before", texts)  # the tokenizer of BERT
    assert len(set(map(tuple, before))) <= 3


@pytest.mark.parametrize("pair", PAIRS)
def test_marks_are_kept_where_they_are_wanted(tmp_path: Path, pair: tuple[str, str]) -> None:
    kept, stripped = (_rows(tmp_path / str(strip), pair, strip_accents=strip) for strip in (False, True))
    assert kept[0] != kept[1]
    assert SPECIAL["unk"] not in {*kept[0], *kept[1]}
    assert (stripped[0] == stripped[1]) is (pair in MARKS)


def test_a_letter_and_its_mark_are_one_text_in_one_character_and_in_two(tmp_path: Path) -> None:
    one, two = _rows(tmp_path, ["caf\u00e9", "cafe\u0301"], strip_accents=False)
    assert one == two


def test_transformers_and_a_cut_start_give_the_same_tokens(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    texts = [*DNA, *THAI, *(word for pair in PAIRS for word in pair), "A" * 5000 + "?" + "漢" * 300]
    rows = _rows(tmp_path, texts, length=16, strip_accents=False)
    loaded = AutoTokenizer.from_pretrained(str(tmp_path))
    assert loaded(texts, truncation=True, max_length=16)["input_ids"] == rows


def test_a_word_of_megabytes_takes_no_time(tmp_path: Path) -> None:
    train_tokenizer(tmp_path, DNA, vocabulary=600, strip_accents=False)
    assert len(open_tokenizer(tmp_path).encode("ACGT" * 100_000).ids) > 1000


def test_a_vocabulary_of_before_is_as_it_was() -> None:
    before = json.loads(wordpiece.train_wordpiece(DNA[:3], vocabulary=60).to_str())
    assert before["normalizer"]["strip_accents"] is None
    assert before["pre_tokenizer"] == {"type": "BertPreTokenizer"}
    assert before["model"]["max_input_chars_per_word"] == 100


def test_the_setting_is_there_only_where_it_is_given() -> None:
    assert "strip_accents" not in TokenizerSection().model_dump()
    assert TokenizerSection(strip_accents=False).model_dump()["strip_accents"] is False
    with pytest.raises(ValidationError, match="allowed: only with vocabulary"):
        Space.from_document({"tokenizer": {"name": "x", "strip_accents": False}})


def test_what_is_lost_is_said_or_refused() -> None:
    rows = [[2, 10 + number, 3] for number in range(100)]
    texts = [f"text {number}" for number in range(100)]

    def said(rows: Sequence[Sequence[int]], texts: Sequence[str] = texts) -> list[str]:
        return list(losses(texts, rows, SPECIAL, length=8, where="task t"))

    assert not said(rows)
    assert not said([rows[0]] * 100, ["Same  text", "same text"] * 50)  # letter case and white space do not count
    cut = [[2, *range(10, 16), 3]] * 100
    assert not said(cut)  # the texts may differ after the cut
    (warning,) = said([*rows[:98], rows[97], rows[97]])
    assert warning.startswith("warning: task t: 3 of 100 different texts have the same tokens as another, such as")
    assert "strip_accents: false" in warning
    (warning,) = said([*rows[:90], *([2, 200 + number, 1, 1, 3] for number in range(10))])
    assert warning.startswith("warning: task t: 20 of 120 tokens are unknown to the tokenizer")
    with pytest.raises(DataError, match="60 of 100 different texts have the same tokens") as caught:
        said([*rows[:40], *[rows[50]] * 60])
    assert "strip_accents: false" in str(caught.value.hint)


def test_data_of_one_token_sequence_are_refused_when_they_are_prepared(
    tmp_path: Path, space_of: Callable[..., Space]
) -> None:
    file = tmp_path / "dna.csv"
    file.write_text("text,label\n" + "".join(f"{text},{i % 2}\n" for i, text in enumerate(DNA)))
    sections = {"corpus": str(file), "task": {"source": str(file)}}
    (tmp_path / "bert").mkdir()
    train_tokenizer(tmp_path / "bert", DNA, vocabulary=200)
    for tokenizer in ({"vocabulary": 200}, {"name": str(tmp_path / "bert")}):
        with pytest.raises(DataError, match="different texts have the same tokens as another"):
            prepare(space_of(tokenizer={**tokenizer, "length": 512}, **sections), tmp_path / "store")
    kept = {"vocabulary": 200, "length": 512, "strip_accents": False}
    assert prepare(space_of(tokenizer=kept, **sections), tmp_path / "store").rows["train"] == 12
