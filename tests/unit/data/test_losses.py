"""Texts that differ stay different as tokens, or the user is told."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tlm_search.data.losses import losses
from tlm_search.data.prepare import prepare
from tlm_search.data.tokenizer import train_tokenizer
from tlm_search.errors import DataError
from tlm_search.space.schema import Space

DRAW = random.Random(0)
DNA = ["".join(DRAW.choices("ACGT", k=300)) for _ in range(100)]
SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}


def test_what_is_lost_is_said_or_refused() -> None:
    rows = [[2, 10 + number, 3] for number in range(100)]
    texts = [f"text {number}" for number in range(100)]

    def said(rows: Sequence[Sequence[int]], texts: Sequence[str] = texts) -> list[str]:
        return list(losses(texts, rows, SPECIAL, length=8, where="task t"))

    assert not said(rows)
    assert not said([rows[0]] * 100, ["Same  text", "same text"] * 50)  # letter case and white space
    cut = [[2, *range(10, 16), 3]] * 100
    assert not said(cut)  # they may differ behind the cut
    (warning,) = said([*rows[:98], rows[97], rows[97]])
    assert warning.startswith("warning: task t: 3 of 100 different texts have the same tokens as another, such as")
    (warning,) = said([*rows[:90], *([2, 200 + number, 1, 1, 3] for number in range(10))])
    assert warning.startswith("warning: task t: 20 of 120 tokens are unknown to the tokenizer")
    with pytest.raises(DataError, match="60 of 100 different texts have the same tokens") as caught:
        said([*rows[:40], *[rows[50]] * 60])
    assert "knows their script" in str(caught.value.hint)


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
