"""Paths from names that came from elsewhere."""

from __future__ import annotations

from pathlib import Path


def inside(folder: Path, name: str) -> Path:
    """Return the path of ``name``, parts with slashes between them, below ``folder``.

    Whoever can write a listing, a journal or a manifest chooses the names in it. One that could lie outside of the
    folder is refused: absolute ones, and those with an empty part, ``.`` or ``..``.

    Raises:
        ValueError: the name is none of a file below a folder.
    """
    if not isinstance(name, str) or "\0" in name or {"", ".", ".."} & set(name.split("/")):
        raise ValueError(f"{name!r} is not the name of a file in it")
    return folder / name
