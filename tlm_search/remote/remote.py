"""Read, write and exclusively create objects at an fsspec URL (``s3://bucket/studies``), with our errors.

fsspec finds endpoints and credentials in its configuration (``FSSPEC_S3_ENDPOINT_URL``) and in the variables of the
object store (``AWS_ACCESS_KEY_ID``). A URL may contain a secret, so it is shown masked and never stored.

On S3 and Google Cloud Storage ``create`` is atomic and exclusive, because the server checks the condition. On other
file systems fsspec looks first and then writes, so two processes that create at the same instant may both succeed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tlm_search.errors import StoreError
from tlm_search.files import beside, inside, put
from tlm_search.passwords import masked, masked_words

_EXTRAS = {"s3": "pip install 'tlm-search[s3]'", "s3a": "pip install 'tlm-search[s3]'"}
_FLAT = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"}  # file systems without folders
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")  # names in listings of file systems
_TRIES = 3
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Listed:
    """An object in a listing. ``modified`` is in seconds since 1970 by the server's clock, or None if unknown."""

    size: int
    modified: float | None


class Remote:
    """The objects below ``url``. Names are relative to it, with slashes.

    Every method raises ``StoreError`` when the URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        import fsspec  # here, because it takes a tenth of a second

        self._url = url.rstrip("/")
        try:
            self._fs, root = fsspec.url_to_fs(self._url)
        except ImportError as error:
            protocol = url.partition("://")[0]
            raise StoreError(
                f"{url} needs a Python package that is not installed: {error}",
                hint=f"{_EXTRAS.get(protocol, f'install fsspec with its package for {protocol}://')}, on every machine",
            ) from error
        except Exception as error:  # each file system raises its own errors for a wrong URL or configuration
            raise _failure(self._url, "used", error) from None
        self._root = root.rstrip("/")

    def __str__(self) -> str:
        return masked(self._url)

    @property
    def url(self) -> str:
        """The URL with its secrets, to pass to another process. Never show or store it."""
        return self._url

    @property
    def endpoint(self) -> str | None:
        """The address of the server, if the URL does not contain it."""
        endpoint = getattr(self._fs, "endpoint_url", None)
        return None if endpoint is None else str(endpoint)

    def below(self, name: str) -> Remote:
        """Return the objects below ``name``."""
        below = object.__new__(Remote)
        below._url, below._fs, below._root = f"{self._url}/{name}", self._fs, f"{self._root}/{name}"
        return below

    def read(self, name: str) -> bytes | None:
        """Return an object's bytes, or None if it does not exist."""
        with self._told("read"), suppress(FileNotFoundError, IsADirectoryError):
            data: bytes = self._fs.cat_file(self._path(name))
            return data
        return None

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the bytes of the existing objects among ``names``, read in parallel if the file system can."""
        if not names:
            return {}
        with self._told("read"):
            paths = {self._path(name): name for name in names}
            found = self._fs.cat(list(paths), on_error="return")
            for error in found.values():
                if isinstance(error, Exception) and not isinstance(error, FileNotFoundError | KeyError):
                    raise error
            stripped = {self._fs._strip_protocol(path): name for path, name in paths.items()}
            return {stripped[path]: data for path, data in found.items() if isinstance(data, bytes)}

    def list(self, prefix: str = "") -> dict[str, Listed]:
        """Return all objects below the folder ``prefix`` by their names, sorted."""
        with self._told("read"), suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            found: Mapping[str, Mapping[str, Any]] = self._fs.find(self._path(prefix).rstrip("/"), detail=True)
            start = len(self._fs._strip_protocol(self._root)) + 1
            return {
                path[start:]: Listed(int(facts["size"] or 0), _modified(facts))
                for path, facts in sorted(found.items())
                if facts["type"] == "file" and len(path) > start
            }
        return {}

    def folders(self, prefix: str = "") -> tuple[str, ...]:
        """Return the names directly below ``prefix`` that have objects below them."""
        with self._told("read"), suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            listed = self._fs.ls(self._path(prefix).rstrip("/"), detail=True)
            return tuple(sorted(f["name"].rstrip("/").rpartition("/")[2] for f in listed if f["type"] == "directory"))
        return ()

    def write(self, name: str, data: bytes) -> None:
        """Write or replace an object."""
        with self._told("written"), self._parent(name) as path:
            self._fs.pipe_file(path, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a new object. Return False if it exists with other bytes."""
        for attempt in range(_TRIES):
            try:
                with self._told("written"), self._parent(name) as path:
                    self._fs.pipe_file(path, data, mode="create")
                    return True
            except (StoreError, FileExistsError):
                # Servers report the conflict differently, and the answer to a successful request may have been lost.
                # So read the object to decide.
                found = self.read(name)
                if found is not None:
                    return found == data
                if attempt == _TRIES - 1:
                    raise
                time.sleep(_PAUSE_SECONDS)
        raise AssertionError("unreachable")

    def remove(self, *names: str) -> None:
        """Remove objects. Missing objects are ignored."""
        for name in names:
            with self._told("written"), suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name))

    def upload(self, file: Path, name: str) -> None:
        """Write a local file as an object."""
        with self._told("written"), self._parent(name) as path:
            self._fs.put_file(str(file), path)

    def download(self, name: str, file: Path) -> bool:
        """Write an object to the local ``file``. Return False if the object does not exist.

        Raises:
            OSError: the file cannot be written.
        """
        with self._told("read"), suppress(FileNotFoundError):
            self._fs.get_file(self._path(name), str(file))
            return True
        return False

    def fetch(self, name: str, folder: Path) -> None:
        """Write the listed object ``name`` to the local ``folder``, whole or not at all. A missing object is ignored.

        Raises:
            StoreError: the name could lead out of the folder.
            OSError: the file cannot be written.
        """
        try:
            file = inside(folder, name)
        except ValueError as error:
            hint = "somebody who may write to the URL created it; remove the object there"
            raise StoreError(f"{self} cannot be fetched: {error}", hint=hint) from error
        file.parent.mkdir(parents=True, exist_ok=True)
        with beside(file) as unfinished:
            if self.download(name, unfinished):
                put(unfinished, file)

    def copy(self, name: str, other: str) -> None:
        """Copy an object to another name."""
        with self._told("written"), self._parent(other) as path:
            self._fs.cp_file(self._path(name), path)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _parent(self, name: str) -> Iterator[str]:
        """Return the path to write to. A missing folder is created; a missing bucket is an error."""
        protocol = self._fs.protocol
        if not _FLAT & {protocol, *(protocol if isinstance(protocol, tuple) else ())}:
            self._fs.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
        yield self._path(name)

    @contextmanager
    def _told(self, action: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if action == "read":
                raise
            raise _failure(self._url, action, error) from None
        except (StoreError, FileExistsError, IsADirectoryError):
            raise
        except Exception as error:  # botocore's errors, aiohttp's, ...: no common class
            raise _failure(self._url, action, error) from None  # the chain may show a secret


def _failure(url: str, action: str, error: Exception) -> StoreError:
    words = masked_words(next(iter(str(error).splitlines()), "") or type(error).__name__, url)
    kind = type(error).__name__
    if "Credential" in kind or isinstance(error, PermissionError):
        hint = "give every machine credentials for it; for s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    elif isinstance(error, FileNotFoundError):
        hint = "create the bucket or the folder first, and check the URL"
    else:
        hint = "check the URL and the network; for s3:// on another server set FSSPEC_S3_ENDPOINT_URL, on every machine"
    return StoreError(f"{url} cannot be {action}: {words}", hint=hint)


def _modified(facts: Mapping[str, Any]) -> float | None:
    for key in _TIMES:
        value = facts.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None
