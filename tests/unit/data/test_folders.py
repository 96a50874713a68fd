from __future__ import annotations

from pathlib import Path

import pytest

from tlm_search.data.folders import new_folder, write_text
from tlm_search.errors import StoreError


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b") as aside:
        (aside / "file").write_text("x")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "file").read_text() == "x"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "b") as aside:
        (aside / "file").write_text("x")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_the_first_writer_wins(tmp_path: Path) -> None:
    with new_folder(tmp_path / "b") as late:
        (late / "file").write_text("late")
        with new_folder(tmp_path / "b") as early:
            (early / "file").write_text("early")
    assert (tmp_path / "b" / "file").read_text() == "early"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write"), new_folder(tmp_path / "file" / "b"):
        pass
    with pytest.raises(StoreError, match="cannot write"):
        write_text(tmp_path / "file" / "c", "x")
