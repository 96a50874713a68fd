"""Find all folders of studies that use a store. A folder of studies may link to the store of another folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tlm_search.digest import digest
from tlm_search.errors import StudyError
from tlm_search.files import write_text

_USERS = "studies"


def register(store: Path) -> None:
    """If ``store`` is a link, record in the linked store that the studies next to the link use it, if possible."""
    studies_dir = store.parent.resolve()
    for home in _homes(store):
        file = home / _USERS / f"{digest(str(studies_dir))}.txt"
        if home.parent != studies_dir and not file.exists():
            with suppress(OSError):  # readers of a study need not write; training reports the problem
                write_text(file, f"{studies_dir}\n")


def sharing(store: Path) -> tuple[Path, ...]:
    """Return the folders of studies that use ``store``, first the folder that contains it.

    Raises:
        StudyError: a folder that uses the store cannot be reached, or parts of the store are links to other stores.
    """
    studies_dir = store.parent.resolve()
    home, *others = _homes(store)
    if others:
        raise StudyError(
            f"parts of the store {store} are links to {', '.join(map(str, others))}",
            hint="nothing was removed; run this command in the folder of studies that contains the linked store",
        )
    found = [studies_dir]
    if (home.parent / store.name).resolve() == home:
        found.append(home.parent)
    for file in sorted((home / _USERS).glob("*.txt")):
        folder = Path(file.read_text(encoding="utf-8").rstrip("\n"))
        if not folder.is_dir():
            raise StudyError(
                f"the studies in {folder} use this store, but this machine lacks that folder",
                hint=f"nothing was removed; run this command on a machine with it, or remove {file} if it is gone",
            )
        if home in _homes(folder / store.name):
            found.append(folder)
    return tuple(dict.fromkeys(found))


def _homes(store: Path) -> list[Path]:
    """Return the real folders with the entries of the store: a single folder, unless parts are links."""
    parts = [part for part in store.iterdir() if part.is_symlink()] if store.is_dir() else []
    return list(dict.fromkeys([store.resolve(), *(part.resolve().parent for part in parts)]))
