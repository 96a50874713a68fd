"""Know which local folder is the copy of which URL.

All rooms work on local folders, with memory-mapped tokens, the kernel's locks and renames. A process mounts a URL once
on a folder of its cache. Code that fetches or sends something calls ``remote_at`` with a path.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from tlm_search.digest import digest
from tlm_search.errors import StoreError
from tlm_search.files import held, write_text, writing
from tlm_search.remote import bundle
from tlm_search.remote.remote import Remote

CACHE_VARIABLE = "TLM_SEARCH_CACHE_DIR"
_PLACE = ".place"
_SERVERS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")

_mounted: dict[Path, Remote] = {}


def studies_folder(studies_dir: Path | str) -> Path:
    """Return the local folder of ``studies_dir``: the folder itself, or the copy of a URL.

    Raises:
        StoreError: the URL or the folder for its copy cannot be used.
    """
    if isinstance(studies_dir, Path):
        if studies_dir.parts and studies_dir.parts[0].endswith(":"):
            raise StoreError(f"{studies_dir}: a Path loses a slash of a URL", hint="give the URL as text")
        return studies_dir.resolve()
    protocol, is_url, rest = studies_dir.partition("://")
    if not is_url:
        return Path(studies_dir).resolve()
    if protocol in ("file", "local"):
        return Path(unquote(rest)).resolve()
    return mount(studies_dir)


def mount(url: str) -> Path:
    """Return the folder for the copy of ``url``, below the cache folder of this machine.

    Raises:
        StoreError: the URL or the folder cannot be used.
    """
    remote = Remote(url)
    servers = [remote.endpoint, *(os.environ.get(name) for name in _SERVERS)]
    # Masked: the password may change.
    folder = _cache() / digest([str(remote), *servers])[:16]
    if folder not in _mounted:
        place = f"the folder {folder} for copies of {remote}"
        with writing(StoreError, place, otherwise=f"choose another folder with {CACHE_VARIABLE}"):
            name_once(folder / _PLACE)
        remote.folders()  # raises if the URL cannot be reached
        _mounted[folder] = remote
    return folder


def remote_at(path: Path) -> Remote | None:
    """Return the remote that ``path`` is a copy of, or None for a path outside of all copies."""
    for folder in (path, *path.parents):
        if folder in _mounted:
            return _mounted[folder].below(path.relative_to(folder).as_posix()) if path != folder else _mounted[folder]
    return None


def shown(path: Path) -> str:
    """Return the name of ``path`` for messages: its URL without secrets, or the path."""
    remote = remote_at(path)
    return str(path if remote is None else remote)


def place_of(path: Path) -> str:
    """Return a name for this machine and the mounted folder of ``path``, the scope of kernel locks."""
    for folder in (path, *path.parents):
        if folder in _mounted:
            return f"{(folder / _PLACE).read_text()} {_boot()}"
    raise ValueError(f"{path} is no copy of a remote")


def at_hand(folder: Path) -> Path:
    """Return ``folder``. If it is a copy that does not exist yet, fetch it first.

    Raises:
        StoreError: the folder cannot be fetched, or is damaged.
    """
    remote = None if folder.is_dir() else remote_at(folder)
    if remote is None:
        return folder
    try:
        with (
            writing(StoreError, folder, otherwise=f"choose another folder with {CACHE_VARIABLE}"),
            held(folder.with_name(f".{folder.name}.lock")),
        ):
            if not folder.is_dir():
                bundle.fetch(remote, folder)
    except bundle.BrokenError as error:
        raise StoreError(f"{remote} is damaged: {error}", hint="remove it there; the next run creates it") from error
    return folder


def name_once(file: Path) -> None:
    """Write a random name into ``file`` unless it exists. No reader sees half a name.

    Raises:
        OSError: the file cannot be written.
    """
    if file.exists():
        return
    with held(file.with_name(f".{file.name}.lock")):
        if not file.exists():
            write_text(file, uuid.uuid4().hex)


def _cache() -> Path:
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).resolve()
    return (Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tlm-search").resolve()


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    import socket

    return socket.gethostname()
