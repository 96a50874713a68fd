"""What was prepared and changed since is found, whatever `prepare` still takes for whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tlm_search.data.damage import damaged_data
from tlm_search.data.prepare import prepare
from tlm_search.space.schema import Space

SpaceOf = Callable[..., Space]


def flipped(raw: bytes) -> bytes:
    return raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:]


@pytest.mark.parametrize("harm", [flipped, lambda raw: raw[:-9], lambda _: b""])
@pytest.mark.parametrize(
    ("part", "name", "kind"),
    [
        ("tokenizer", "tokenizer.json", "tokenizers"),
        ("corpus", "ids.bin", "corpora"),
        ("corpus", "offsets.npy", "corpora"),
        ("validation", "ids.bin", "tasks"),
        ("test", "labels.npy", "tasks"),
    ],
)
def test_a_changed_file_is_told_once(
    tmp_path: Path, space_of: SpaceOf, part: str, name: str, kind: str, harm: Callable[[bytes], bytes]
) -> None:
    data = prepare(space_of(), tmp_path)
    prepare(space_of(corpus={"source": space_of().corpus.source, "documents": 45}), tmp_path)
    assert damaged_data(tmp_path) == {}
    file = data.folder(part) / name
    file.write_bytes(harm(file.read_bytes()))
    assert [folder.parent.name for folder in damaged_data(tmp_path)] == [kind]
    assert next(iter(damaged_data(tmp_path))) in file.parents


def test_a_record_that_cannot_be_read_is_told_and_what_is_missing_is_not(tmp_path: Path, space_of: SpaceOf) -> None:
    assert damaged_data(tmp_path) == {}
    data = prepare(space_of(), tmp_path)
    for file in data.folder("tokenizer").iterdir():
        file.unlink()
    data.folder("tokenizer").rmdir()
    assert damaged_data(tmp_path) == {}
    (record,) = (tmp_path / "data" / "prepared").iterdir()
    record.write_text("{}")
    assert list(damaged_data(tmp_path)) == [record]
