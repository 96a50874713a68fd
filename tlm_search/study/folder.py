"""The folder of a study: what lies where, how it is found, and how an old one makes room.

Where the studies are at a URL, the same lies there, and these folders are its copy; see ``replica``.

::

    studies/NAME/   study.json space.yaml journal.log driver.lock logs/ report.html tables/ figures/, and while it runs
                    .now/, where workers say what they train
    studies/.store/ the members of all studies
"""

from __future__ import annotations

import difflib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import yaml

from tlm_search import files
from tlm_search.errors import StudyError
from tlm_search.passwords import masked
from tlm_search.remote.mount import remote_at, shown, studies_folder
from tlm_search.study.record import StudyRecord, record_of
from tlm_search.study.sharing import register
from tlm_search.study.sync import DRIVER_LOCK, FACTS, JOURNAL, known_studies, pull, rename

if TYPE_CHECKING:
    import optuna

    from tlm_search.space.schema import Space

STORE = ".store"
STORAGE_VARIABLE = "TLM_SEARCH_STORAGE"
_SPACE, _LOGS = "space.yaml", "logs"


def store_root(studies_dir: Path) -> Path:
    """Return where the members of all studies under ``studies_dir`` are."""
    return studies_dir / STORE


def logs_of(folder: Path) -> Path:
    """Return where tracebacks of a study go."""
    return folder / _LOGS


def find_study(study: str, studies_dir: Path | str) -> Path:
    """Return the folder of ``study``: a name under ``studies_dir``, a path, or a URL; a copy is brought up to date.

    Raises:
        StudyError: there is none; the message has the nearest name.
        StoreError: what is at the URL cannot be read.
    """
    if "://" in study:
        studies_dir, _, study = study.rstrip("/").rpartition("/")
    studies_dir = studies_folder(studies_dir)
    for folder in (studies_dir / study, Path(study)):
        pull(folder)
        if is_study(folder):
            register(store_root(folder.resolve().parent))
            return folder.resolve()
    names = sorted({*(facts.parent.name for facts in studies_dir.glob(f"*/{FACTS}")), *known_studies(studies_dir)})
    near = difflib.get_close_matches(study, names, n=1)
    known = f"there are: {', '.join(names[:20])}" if names else "tlm-search run SPACE makes one"
    raise StudyError(
        f"no study {study} under {shown(studies_dir)}{f'; did you mean {near[0]}?' if near else ''}",
        hint=f"give a name under --studies-dir, or a study's folder; {known}",
    )


def is_study(folder: Path) -> bool:
    """Whether a study was begun in ``folder``."""
    return (folder / FACTS).is_file()


def require_study(folder: Path) -> None:
    """Refuse to move a folder aside that a run did not make.

    Raises:
        StudyError: it holds something, and none of it is of a study.
    """
    ours = (FACTS, JOURNAL, DRIVER_LOCK)
    if folder.exists() and not any((folder / name).is_file() for name in ours) and any(folder.iterdir()):
        raise StudyError(
            f"{shown(folder)} is no study, so --fresh leaves it where it is", hint="give the study another --name"
        )


def read_study(folder: Path, storage: str | None = None) -> StudyRecord:
    """Read a study as plain data, from its folder alone or from the database at ``storage``.

    Raises:
        StudyError: it cannot be read.
    """
    from tlm_search.study.studies import open_study

    return record_of(open_study(folder, storage_url(folder, storage), name=study_name(folder)), folder)


def optuna_copy(folder: Path, storage: str | None = None) -> optuna.Study:
    """Return a copy of Optuna's study, with its trials and attributes, that lies in memory only.

    Raises:
        StudyError: the study cannot be read.
    """
    import optuna

    from tlm_search.study.studies import open_study

    study = open_study(folder, storage_url(folder, storage), name=study_name(folder))
    copy = optuna.create_study(study_name=folder.name, directions=study.directions)
    for key, value in study.user_attrs.items():
        copy.set_user_attr(key, value)
    if study.metric_names is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            copy.set_metric_names(study.metric_names)
    copy.add_trials(study.get_trials(deepcopy=False))
    return copy


def study_name(folder: Path) -> str:
    """Return the study's name in its storage, which stays when the folder is moved."""
    return str(_facts(folder).get("name", folder.name))


def storage_url(folder: Path, given: str | None = None) -> str | None:
    """Return the storage's URL: the ``given`` one, the study's, or the environment's; None is the journal file.

    A relative path in it is one of the working folder, and made absolute: who reads the study may be elsewhere.

    Raises:
        StudyError: the study is in a database with a password, which is nowhere written down.
    """
    facts, environment = _facts(folder), os.environ.get(STORAGE_VARIABLE)
    if given is not None:
        return _located(given)
    if not facts:
        return _located(environment)  # which is for new studies, and for the passwords of old ones
    url: str | None = facts.get("storage")
    if url is None or "***" not in url:
        return _located(url)
    if environment is None:
        raise StudyError(
            f"the study {folder.name} is kept in {url}, and its password is not stored",
            hint=f"give the whole URL in the environment variable {STORAGE_VARIABLE}, or with --storage",
        )
    return environment


def write_folder(folder: Path, space: Space, *, name: str, storage: str | None) -> None:
    """Write what a study's folder starts with: where the study is kept, and the space, resolved and with its name.

    ``tlm-search run`` on that space continues the study.

    Raises:
        StudyError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        document = yaml.safe_dump({**space.to_document(), "name": folder.name}, sort_keys=False, allow_unicode=True)
        _write_new(folder / _SPACE, f"# What this study runs, every default included.\n{document}")
        _write_facts(folder, name=name, storage=storage)
    except OSError as error:
        raise unwritable(folder, error) from error


def move_aside(folder: Path, storage: str | None) -> Path:
    """Rename a study's folder to NAME.1, NAME.2, ..., whichever is free, and the study in its database too.

    Nothing is ever deleted.

    Raises:
        StudyError: it cannot be renamed.
    """
    if is_study(folder) and _recorded(storage) != _facts(folder).get("storage"):
        storage = storage_url(folder)  # the new study will be kept elsewhere than the old one
    name = study_name(folder)
    names: list[str] = []
    if storage is not None:
        from optuna import get_all_study_names

        from tlm_search.study.storages import open_storage
        from tlm_search.study.studies import rename_study

        opened = open_storage(folder, storage)
        names = get_all_study_names(opened)
    number = 1
    # Where the study has its new name already, a run was killed in the middle of this.
    while _is_taken(target := folder.with_name(f"{folder.name}.{number}")) or {name, target.name} <= set(names):
        number += 1
    try:
        if storage is not None:
            rename_study(name, target.name, opened)
        folder.rename(target)
        if storage is not None:
            _write_facts(target, name=target.name, storage=storage)
    except OSError as error:
        raise unwritable(folder, error) from error
    rename(folder, target)
    return target


def unwritable(folder: Path, error: OSError) -> StudyError:
    """Return the error for a folder that cannot be written."""
    otherwise = "choose another --studies-dir; then run the same command again, which continues"
    return files.unwritable(StudyError, f"the study folder {folder}", error, otherwise=otherwise)


def _is_taken(folder: Path) -> bool:
    remote = remote_at(folder)
    return folder.exists() or (remote is not None and bool(remote.list()))


def _located(url: str | None) -> str | None:
    """Return the URL with the whole path of an SQLite database, whatever characters the folders' names have."""
    if url is None:
        return None
    start, slashes, rest = url.partition(":///")
    file, mark, options = rest.partition("?")
    if not start.startswith("sqlite") or not file or file.startswith(("/", ":memory:", "file:")):
        return url
    return f"{start}{slashes}{quote(str(Path(unquote(file)).absolute()))}{mark}{options}"


def _facts(folder: Path) -> Mapping[str, Any]:
    try:
        facts = json.loads((folder / FACTS).read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _write_facts(folder: Path, *, name: str, storage: str | None) -> None:
    facts = {"name": name, "storage": _recorded(storage)}
    _write_new(folder / FACTS, json.dumps(facts, indent=2) + "\n")


def _recorded(storage: str | None) -> str | None:
    return None if storage is None else masked(storage)


def _write_new(path: Path, text: str) -> None:
    # What is the same need not be sent to a URL again.
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        files.write_text(path, text)
