"""An entry of the store on disk: a folder with ``entry.json`` and safetensors files, all checked by sha256.

``entry.json`` holds the document, the sha256 and size of each file, and its own sha256. No torch and no pickle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from tlm_search.errors import StoreError
from tlm_search.files import inside

Arrays = Mapping[str, Mapping[str, np.ndarray]]

INDEX = "entry.json"
_SCHEMA = 1


class DamagedError(Exception):
    """An entry exists, but its files have changed since they were written."""


@dataclass(frozen=True)
class Entry:
    """An entry with its ``folder`` and ``document``; ``files`` maps file names to (sha256, bytes)."""

    folder: Path
    kind: str
    digest: str
    document: Mapping[str, Any]
    files: Mapping[str, tuple[str, int]]

    @property
    def size_bytes(self) -> int:
        """The size of all arrays in bytes."""
        return sum(size for _, size in self.files.values())

    def arrays(self, stem: str) -> dict[str, np.ndarray]:
        """Load the arrays of ``<stem>.safetensors``.

        Raises:
            StoreError: the entry has no such file, or the file was removed after the entry was read.
        """
        try:
            return dict(load_file(self.folder / f"{stem}.safetensors"))
        except OSError as error:
            raise StoreError(f"{self.folder}: {stem}.safetensors cannot be read: {error.strerror or error}") from error


def write_entry(folder: Path, kind: str, digest: str, document: Mapping[str, Any], arrays: Arrays) -> None:
    """Write an entry into the new ``folder``.

    Raises:
        OSError: the folder cannot be written.
        ValueError: the document contains NaN or infinite numbers.
    """
    files = {f"{stem}.safetensors": save(_contiguous(tensors)) for stem, tensors in arrays.items()}
    facts = {name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}
    text = _canonical(
        {"schema": _SCHEMA, "kind": kind, "digest": digest, "document": dict(document), "files": facts},
    )
    index = f'{{"entry": {text}, "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"}}\n'
    folder.mkdir(parents=True)
    for name, data in {**files, INDEX: index.encode()}.items():
        (folder / name).write_bytes(data)


def read_entry(folder: Path, kind: str, digest: str) -> Entry:
    """Read an entry and check ``entry.json``, the folder's name, and the presence and size of each file.

    Raises:
        FileNotFoundError: the folder does not exist.
        DamagedError: the entry is not as it was written.
    """
    try:
        data = (folder / INDEX).read_bytes()
    except FileNotFoundError:
        if folder.exists():
            raise DamagedError(f"{INDEX} is missing") from None
        raise
    except NotADirectoryError as error:
        raise DamagedError(f"{INDEX} cannot be read") from error
    entry = entry_of(data, folder, kind, digest)
    for name, (_, size) in entry.files.items():
        try:
            actual = (folder / name).stat().st_size
        except FileNotFoundError:
            raise DamagedError(f"{name} is missing") from None
        if actual != size:
            raise DamagedError(f"{name} has {actual} bytes instead of {size}")
    return entry


def entry_of(data: bytes, folder: Path, kind: str, digest: str) -> Entry:
    """Parse ``data``, the ``entry.json`` of the entry in ``folder``, without checking the files.

    Raises:
        DamagedError: it has changed since it was written, or belongs to another folder.
    """
    try:
        index = json.loads(data)
        entry, sha256 = index["entry"], index["sha256"]
        whole = hashlib.sha256(_canonical(entry).encode()).hexdigest() == sha256
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"{INDEX} cannot be read") from error
    if not whole:
        raise DamagedError(f"{INDEX} was changed after it was written")
    if (entry["schema"], entry["kind"], entry["digest"]) != (_SCHEMA, kind, digest):
        raise DamagedError(f"{INDEX} belongs to {entry['kind']} {entry['digest']}, schema {entry['schema']}")
    files = {name: (sha, size) for name, (sha, size) in entry["files"].items()}
    for name in files:
        try:
            inside(folder, name)
        except ValueError as error:
            raise DamagedError(f"{INDEX}: {error}") from error
    return Entry(folder, kind, digest, entry["document"], files)


def checked_entry(folder: Path, kind: str, digest: str) -> Entry:
    """Read an entry and check the contents of every file.

    Raises:
        FileNotFoundError: the folder does not exist.
        DamagedError: the entry is not as it was written.
    """
    entry = read_entry(folder, kind, digest)
    for name, (sha256, _) in entry.files.items():
        try:
            with (folder / name).open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise DamagedError(f"{name} is missing") from None
        if actual != sha256:
            raise DamagedError(f"{name} was changed after it was written")
    return entry


def _canonical(entry: Any) -> str:
    # Not digest.canonical_json, which makes 4.0 and 4 equal: a reader must get the document unchanged.
    return json.dumps(entry, sort_keys=True, allow_nan=False)


def _contiguous(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    # Not ascontiguousarray, which adds a dimension to a scalar.
    return {name: np.asarray(array, order="C") for name, array in tensors.items()}
