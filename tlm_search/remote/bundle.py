"""Store a local folder as objects: files under names with their sha256, and an index that is created last.

The first writer to finish wins, and later writers do not change its files. A reader sees the whole folder or nothing,
and checks the sha256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from tlm_search.files import inside, new_folder
from tlm_search.remote.remote import Remote

INDEX = "index.json"

Files = Mapping[str, tuple[str, int]]
"""Names of files in the folder, with sha256 and bytes."""


class BrokenError(Exception):
    """A folder exists, but does not match its index."""


def publish(remote: Remote, folder: Path) -> bool:
    """Write the files of ``folder``. If another writer was first, its files stay; return False.

    Raises:
        StoreError: the remote cannot be written.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): (_sha256(path), path.stat().st_size) for path in paths}
    there = remote.list()
    for name, (sha256, size) in files.items():
        target = _object(name, sha256)
        if target not in there or there[target].size != size:
            remote.upload(folder / name, target)
    return remote.create(INDEX, _index(files))


def fetch(remote: Remote, target: Path) -> bool:
    """Download the folder to the new local folder ``target``. Return False if the remote has none.

    ``target`` appears whole or not at all. If another process created it first, that folder stays.

    Raises:
        BrokenError: a file does not match the index.
        StoreError: the remote cannot be read.
        OSError: ``target`` cannot be written.
    """
    data = remote.read(INDEX)
    if data is None:
        return False
    with new_folder(target) as unfinished:
        for name, (sha256, _) in files_of(data).items():
            file = unfinished / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if not remote.download(_object(name, sha256), file):
                raise BrokenError(f"{name} is missing")
            if _sha256(file) != sha256:
                raise BrokenError(f"{name} was changed after it was written")
    return True


def remove(remote: Remote) -> None:
    """Remove a folder, whole or not. The index is removed first, so that no reader begins to read the folder."""
    remote.remove(INDEX, *remote.list())


def files_of(index: bytes) -> Files:
    """Read an index.

    Raises:
        BrokenError: the index has changed since it was written.
    """
    try:
        read = json.loads(index)
        files = {str(name): (str(sha256), int(size)) for name, (sha256, size) in read["files"].items()}
        whole = _index(files) == index
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenError(f"{INDEX} cannot be read") from error
    if not whole:
        raise BrokenError(f"{INDEX} was changed after it was written")
    for name in files:
        try:
            inside(Path(), name)
        except ValueError as error:
            raise BrokenError(f"{INDEX}: {error}") from error
    return files


def objects_of(files: Files) -> dict[str, str]:
    """Return the names of the objects that hold the files."""
    return {name: _object(name, sha256) for name, (sha256, _) in files.items()}


def is_object(name: str) -> bool:
    """Return whether ``publish`` gives such names. Objects with other names belong to users."""
    last = name.rpartition("/")[2]
    return last == INDEX or re.fullmatch(r"[0-9a-f]{64}-.+", last) is not None


def _index(files: Files) -> bytes:
    text = json.dumps({name: list(facts) for name, facts in files.items()}, sort_keys=True)
    return f'{{"files": {text}, "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"}}\n'.encode()


def _object(name: str, sha256: str) -> str:
    return f"{sha256}-{name.replace('/', '-')}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
