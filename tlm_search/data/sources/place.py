"""Know where a source is: the embedded ``pydocs``, a file or folder of this machine, or an id of the Hugging Face hub.

Fingerprint its content, so that changed data are prepared again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from tlm_search.data.sources import pydocs
from tlm_search.data.sources.fewrel import NAMES
from tlm_search.data.sources.files import files_below, kind_of
from tlm_search.data.sources.layout import was_read_otherwise
from tlm_search.digest import DIGEST_LENGTH, digest
from tlm_search.errors import DataError, StoreError
from tlm_search.files import write_text, writing

PYDOCS = "pydocs"
DATA_DIR = "TLM_SEARCH_DATA_DIR"  # environment variable: folder with copies of sources that spaces name
_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


def source_fingerprint(source: str, cache: Path) -> str:
    """Return a digest of the current content of ``source``: package versions, local file contents, or a hub id.

    A data set of the hub counts as unchanged. Files are read again only if their sizes or times of change differ.

    Raises:
        DataError: a local file or folder is missing or cannot be read.
        StoreError: ``cache`` cannot be written.
    """
    if source == PYDOCS:
        return pydocs.fingerprint()
    place = local_place(source)
    if place is None:
        return hub_fingerprint(source)
    files = files_below(place)
    if kind_of(place) == "json" and (names := place.with_name(NAMES)).is_file():
        files.append(names)
    try:
        looks = [[file.relative_to(place.parent).as_posix(), *_size_and_time(file)] for file in files]
        record = cache / "fingerprints" / f"{digest([str(place.absolute()), looks])}.json"
        anew = place.is_dir() and was_read_otherwise(place, files)
        if record.is_file():
            return _named_anew(str(json.loads(record.read_text(encoding="utf-8"))), anew)
        hashed = hashlib.sha256()
        for (name, size, _), file in zip(looks, files, strict=True):
            hashed.update(f"{name} {size}\n".encode("utf-8", "surrogateescape"))
            with file.open("rb") as stream:
                hashed.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise DataError(f"{source}: it cannot be read: {error.strerror or error}") from error
    fingerprint = hashed.hexdigest()[:DIGEST_LENGTH]
    with writing(StoreError, cache):
        write_text(record, json.dumps(fingerprint))
    return _named_anew(fingerprint, anew)


def hub_fingerprint(source: str) -> str:
    """Return the fingerprint of a data set of the hub: its content is not read, so its name stands for it."""
    return digest(["hub", source])


def _named_anew(fingerprint: str, anew: bool) -> str:
    """Change the fingerprint if older rules may have read other files, so that the data are prepared again.

    Members stay valid, because their digests name the tokens that they learn from.
    """
    return digest(["by the rules of files", fingerprint]) if anew else fingerprint


def use_data_dir(folder: Path) -> None:
    """Look in ``folder`` first for the sources of spaces, in this process and in its child processes.

    Raises:
        DataError: the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"--data-dir {folder}: there is no such folder")
    os.environ[DATA_DIR] = str(folder.absolute())


def local_copy(source: str) -> Path | None:
    """Return the copy of ``source`` in the data folder, or None.

    The copy of an id is OWNER/NAME or NAME. The copy of a path has the same path, with or without ``.gz``.
    """
    given = os.environ.get(DATA_DIR)
    if not given or source.startswith((".", "/", "~")):
        return None
    names = [source, f"{source}.gz", *([] if kind_of(Path(source)) else [source.rpartition("/")[2]])]
    return next((Path(given, name) for name in names if Path(given, name).exists()), None)


def local_place(source: str) -> Path | None:
    """Return the file or folder of ``source``, preferably a copy in the data folder; None for an id of the hub.

    Raises:
        DataError: ``source`` can only be a path, and the path does not exist.
    """
    copy = local_copy(source)
    if copy is not None:
        return copy
    place = Path(source).expanduser()
    if place.exists():
        return place
    if _is_path(source) or not _HUB_ID.fullmatch(source):
        given = os.environ.get(DATA_DIR)
        where = f"{Path.cwd()}, and to {given}" if given else f"{Path.cwd()}, or to the folder of --data-dir"
        raise DataError(
            f"{source}: there is no such file or folder",
            hint=f"the path is relative to {where}; or name a Hugging Face id, or pydocs",
        )
    return None


def not_here(sources: Iterable[str]) -> list[str]:
    """Return the ``sources`` that name a file or folder that this machine lacks.

    Raises:
        DataError: a source can be neither a path nor an id of the hub.
    """
    missing = []
    for source in sources:
        try:
            local_place(source)
        except DataError:
            if not _is_path(source):
                raise
            missing.append(source)
    return missing


def _is_path(source: str) -> bool:
    return kind_of(Path(source)) is not None or source.startswith((".", "/", "~"))


def _size_and_time(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
