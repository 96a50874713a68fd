import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tlm_search.errors import StoreError
from tlm_search.remote.mount import CACHE_VARIABLE, at_hand, mount, remote_at, shown, studies_folder
from tlm_search.remote.remote import Remote


@pytest.fixture(params=["memory", "file"])
def remote(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> Remote:
    return Remote(url if request.param == "memory" else f"file://{tmp_path}/there/studies")


def test_objects_are_read_as_they_were_written(remote: Remote) -> None:
    assert remote.read("a/b") is None
    assert remote.list() == {}
    assert remote.folders() == ()
    remote.write("a/b", b"one")
    remote.write("a/b", b"two")
    remote.write("c", b"")
    assert remote.read("a/b") == b"two"
    assert {name: listed.size for name, listed in remote.list().items()} == {"a/b": 3, "c": 0}
    assert {name: listed.size for name, listed in remote.list("a").items()} == {"a/b": 3}
    assert remote.list()["a/b"].modified is not None
    assert remote.folders() == ("a",)
    assert remote.read_many(["a/b", "c", "d"]) == {"a/b": b"two", "c": b""}
    assert remote.below("a").read("b") == b"two"
    assert str(remote.below("a")) == f"{remote}/a"
    remote.copy("a/b", "e/f")
    remote.remove("a/b", "a/b", "never")
    assert set(remote.list()) == {"c", "e/f"}


def test_files_go_there_and_back(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"bytes")
    remote.upload(tmp_path / "here", "a/there")
    assert remote.download("a/there", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"bytes"
    assert not remote.download("a/nothing", tmp_path / "none")


def test_an_object_is_created_once(remote: Remote) -> None:
    assert remote.create("a/b", b"first")
    assert not remote.create("a/b", b"second")
    assert remote.create("a/b", b"first")  # the answer to the first request may have been lost
    assert remote.read("a/b") == b"first"


def test_of_many_creators_one_wins(url: str) -> None:
    won, barrier = [], threading.Barrier(8)

    def create(number: int) -> None:
        barrier.wait()
        if Remote(url).create("a", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Remote(url).read("a") == str(won[-1]).encode()


class Broken:
    """A file system on which every call raises the same error."""

    protocol = "s3"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*arguments: Any, **options: Any) -> None:
            raise self._error

        return fail


class NoCredentialsError(Exception):
    """The error's name in botocore."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError("Access Denied for s3cret"), ["Access Denied", "AWS_ACCESS_KEY_ID", "every machine"]),
        (NoCredentialsError("Unable to locate credentials"), ["credentials", "AWS_SECRET_ACCESS_KEY"]),
        (ConnectionError("no route"), ["no route", "FSSPEC_S3_ENDPOINT_URL"]),
    ],
)
def test_what_is_wrong_is_said_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: list[str]
) -> None:
    monkeypatch.setattr(fsspec, "url_to_fs", lambda url: (Broken(error), "bucket/studies"))
    remote = Remote("s3://me:s3cret@bucket/studies")
    for act in (
        lambda: remote.read("a"),
        lambda: remote.list(),
        lambda: remote.write("a", b""),
        lambda: remote.create("a", b""),
        lambda: remote.remove("a"),
        lambda: remote.upload(Path("a"), "a"),
    ):
        with pytest.raises(StoreError, match="s3://me:") as raised:
            act()
        for word in words:
            assert word in str(raised.value)
        assert "s3cret" not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__


def test_a_missing_bucket_is_an_error_of_the_writer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    error = FileNotFoundError("The specified bucket does not exist")
    monkeypatch.setattr(fsspec, "url_to_fs", lambda url: (Broken(error), "bucket/studies"))
    remote = Remote("s3://bucket/studies")
    assert remote.read("a") is None
    assert remote.list() == {}
    with pytest.raises(StoreError, match="bucket does not exist") as raised:
        remote.write("a", b"")
    assert "create the bucket" in str(raised.value.hint)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> None:
        raise ImportError("Install s3fs to access S3")  # the words of fsspec

    monkeypatch.setattr(fsspec, "url_to_fs", refuse)
    with pytest.raises(StoreError, match="Install s3fs") as raised:
        Remote("s3://bucket/studies")
    assert "pip install 'tlm-search[s3]'" in str(raised.value.hint)


def test_an_unknown_protocol_is_said_clearly() -> None:
    with pytest.raises(StoreError, match="nosuch://"):
        Remote("nosuch://me:secret@host/studies")


def test_a_url_is_mounted_on_a_folder_of_the_cache(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    folder = mount(url)
    assert folder.parent == tmp_path / "cache"
    assert studies_folder(url) == folder
    remote = remote_at(folder / "study" / "logs")
    assert str(remote) == f"{url}/study/logs"
    assert shown(folder / "study") == f"{url}/study"
    assert remote_at(tmp_path / "elsewhere") is None
    assert shown(tmp_path) == str(tmp_path)
    assert at_hand(folder / "nothing") == folder / "nothing"
    assert at_hand(tmp_path / "nothing") == tmp_path / "nothing"


def test_a_folder_stays_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert studies_folder("studies") == studies_folder(Path("studies")) == tmp_path / "studies"
    assert studies_folder(f"file://{tmp_path}/x%20y") == tmp_path / "x y"
    with pytest.raises(StoreError, match="give the URL as text"):
        studies_folder(Path("s3://bucket/studies"))


def test_a_cache_that_cannot_be_written_is_said_clearly(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(StoreError, match="cannot be written") as raised:
        mount(url)
    assert CACHE_VARIABLE in str(raised.value.hint)
