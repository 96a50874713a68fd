from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tlm_search.data.tokens import TokenArray
from tlm_search.errors import StoreError

TEXTS = [[2, 7, 3], [2, 3], [2, 9, 8, 7, 3]]


def test_texts_come_back(tmp_path: Path) -> None:
    array = TokenArray.write(tmp_path / "t", iter(TEXTS), vocabulary=10)
    assert [text.tolist() for text in array] == TEXTS
    assert len(array) == 3
    assert array[-1].tolist() == TEXTS[2]
    assert array.lengths().tolist() == [3, 2, 5]
    assert array.offsets.dtype == np.int64
    with pytest.raises(IndexError):
        array[3]


@pytest.mark.parametrize(("vocabulary", "dtype"), [(2**16 - 1, np.uint16), (2**16, np.int32)])
def test_the_vocabulary_decides_the_type(tmp_path: Path, vocabulary: int, dtype: type) -> None:
    array = TokenArray.write(tmp_path / "t", [[vocabulary - 1]], vocabulary=vocabulary)
    assert array.ids.dtype == dtype
    assert array[0].tolist() == [vocabulary - 1]


def test_the_fingerprint_of_a_prefix_is_that_of_its_texts(tmp_path: Path) -> None:
    whole = TokenArray.write(tmp_path / "whole", TEXTS, vocabulary=10)
    part = TokenArray.write(tmp_path / "part", TEXTS[:2], vocabulary=10)
    assert whole.prefix(2).fingerprint() == part.fingerprint()
    assert whole.prefix(3).fingerprint() == whole.fingerprint() != part.fingerprint()
    assert TokenArray.write(tmp_path / "cut", [[2, 7], [3, 2, 3]], vocabulary=10).fingerprint() != part.fingerprint()
    with pytest.raises(ValueError, match="4 texts asked for, but there are 3"):
        whole.prefix(4)


def test_no_texts(tmp_path: Path) -> None:
    array = TokenArray.write(tmp_path / "t", [], vocabulary=10)
    assert len(array) == 0
    assert array.fingerprint()


@pytest.mark.parametrize("name", ["ids.bin", "offsets.npy", "tokens.json"])
def test_half_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    TokenArray.write(tmp_path / "t", TEXTS, vocabulary=10)
    file = tmp_path / "t" / name
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(StoreError, match="tokens cannot be read"):
        TokenArray.open(tmp_path / "t")


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        TokenArray.open(tmp_path / "none")
