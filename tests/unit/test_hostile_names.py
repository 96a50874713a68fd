"""Names written by somebody else, in a bucket, a journal, an index or a manifest, never lead out of their folder."""

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driven import run_without_ray, space_of
from finished import finished_study
from machines import On

from tlm_search.data.prepared import PreparedData
from tlm_search.errors import ExportError, StoreError
from tlm_search.export.folder import FORMAT, verified
from tlm_search.files import inside
from tlm_search.remote import bundle
from tlm_search.remote.remote import Listed, Remote
from tlm_search.store.local import Store
from tlm_search.store.shared import open_store
from tlm_search.study.location import find_study
from tlm_search.study.sync import known_studies

HOSTILE = ["/tmp/x", "../x", "a/../../x", "", ".", "..", "a//x", "a/", "./x", "a\0b"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not the name of a file in it"):
        inside(tmp_path, name)


@pytest.mark.parametrize("name", ["a", "a/b.json", ".hidden", "..a/b", "a b", "ü/…"])
def test_other_names_are_below_it(name: str, tmp_path: Path) -> None:
    assert inside(tmp_path, name).resolve().is_relative_to(tmp_path)


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that each listing of a URL has in addition to the true ones; objects of these names can be downloaded."""
    names: list[str] = []
    true_list, true_download = Remote.list, Remote.download

    def listed(self: Remote, prefix: str = "") -> dict[str, Listed]:
        return {**true_list(self, prefix), **dict.fromkeys(names, Listed(1, None))}

    def download(self: Remote, name: str, file: Path) -> bool:
        if name in names:
            file.write_bytes(b"hostile")
            return True
        return true_download(self, name, file)

    monkeypatch.setattr(Remote, "list", listed)
    monkeypatch.setattr(Remote, "download", download)
    return names


def outside(tmp_path: Path) -> set[str]:
    """Return what was written by somebody else."""
    return {str(file) for file in tmp_path.rglob("*") if file.is_file() and file.read_bytes() == b"hostile"}


@pytest.mark.parametrize("place", ["absolute", "../../x", "a/../../../x", "a//x"])
def test_a_study_at_a_url_writes_nothing_elsewhere(
    place: str, listing: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: On, url: str
) -> None:
    on("a")
    run_without_ray(tmp_path, monkeypatch)(space_of(budget={"trials": 1}), studies=url)
    on("b")
    listing.append(str(tmp_path / "x") if place == "absolute" else place)
    # Hidden files are not fetched; names that begin with dots count as hidden.
    refused = pytest.raises(StoreError, match=r"cannot be fetched: .* is not the name of a file in it")
    with nullcontext() if "." in place else refused:
        find_study("test", url)
    assert not outside(tmp_path)


@pytest.mark.parametrize("place", ["absolute", "../../x"])
def test_unfinished_work_at_a_url_is_written_nowhere_else(
    place: str, listing: list[str], tmp_path: Path, on: On
) -> None:
    store = open_store(on("a") / ".store")
    store.check_writable()
    listing.append(str(tmp_path / "x") if place == "absolute" else place)
    with pytest.raises(StoreError, match="cannot be fetched"):
        store.scratch("members", "0123abcd")
    assert not outside(tmp_path)


def test_folders_at_a_url_that_are_no_names_are_passed_over(monkeypatch: pytest.MonkeyPatch, on: On, url: str) -> None:
    studies = on("a")
    monkeypatch.setattr(Remote, "folders", lambda self, prefix="": ("..", "", ".x", "Members", "good"))
    assert known_studies(studies) == ("Members", "good")
    assert open_store(studies / ".store").kinds() == ()


@pytest.mark.parametrize("name", HOSTILE)
def test_an_index_of_a_bundle_with_such_a_name_is_broken(name: str) -> None:
    with pytest.raises(bundle.BrokenError, match="is not the name of a file in it"):
        bundle.files_of(bundle._index({name: ("0" * 64, 1)}))


@pytest.mark.parametrize("part", ["tokenizer", "corpus", "train", "validation", "test", "unlabelled"])
def test_a_journal_cannot_name_data_outside_of_the_store(part: str, tmp_path: Path) -> None:
    record = finished_study(tmp_path).record
    PreparedData.from_document(record.data, tmp_path)
    with pytest.raises(StoreError, match=rf"the study's {part} cannot be taken from the store"):
        PreparedData.from_document({**record.data, part: "../../secret"}, tmp_path)


def test_a_journal_cannot_name_members_outside_of_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / ".store")
    for name in (*HOSTILE, "A"):
        with pytest.raises(StoreError, match="not a name in the store"):
            store.read("members", name)


@pytest.mark.parametrize("name", HOSTILE)
def test_an_entry_with_such_a_file_is_damaged(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path / ".store")
    entry = store.write("members", "0123abcd", {"a": 1}, {"logits": {"x": np.zeros(1, np.float32)}})
    index = json.loads((entry.folder / "entry.json").read_text())
    index["entry"]["files"] = {name: ["0" * 64, 1]}
    text = json.dumps(index["entry"], sort_keys=True)
    whole = {"entry": index["entry"], "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (entry.folder / "entry.json").write_text(json.dumps(whole))
    (problem,) = store.verify()
    assert "is not the name of a file in it" in str(problem)
    assert store.read("members", "0123abcd") is None


@pytest.mark.parametrize("name", HOSTILE)
def test_a_manifest_with_such_a_name_is_damage(name: str, tmp_path: Path) -> None:
    files = dict.fromkeys(("config.json", "labels.json", "model.safetensors", "check.json", "tokenizer.json"), b"{}")
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    facts: dict[str, Any] = {f: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for f, d in files.items()}
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"format": FORMAT, "files": {**facts, name: facts["config.json"]}}))
    with pytest.raises(ExportError, match=r"damaged: manifest.json: .* is not the name of a file in it"):
        verified(tmp_path)
