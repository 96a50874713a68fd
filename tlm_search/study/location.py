"""Find, open, lock and move the folder of a study and the storage with its trials.

If the studies are at a URL, the URL has the same files, and these folders are a copy; see ``sync``.

::

    studies/NAME/   study.json space.yaml journal.log driver.lock logs/ report.html tables/ figures/, and during a run
                    .now/, where workers record what they train
    studies/.store/ the members of all studies
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import yaml

from tlm_search import files
from tlm_search.errors import StudyError
from tlm_search.passwords import masked
from tlm_search.remote.mount import remote_at, shown, studies_folder
from tlm_search.study.driver_lock import driver_lock
from tlm_search.study.record import StudyRecord, record_of
from tlm_search.study.sharing import register
from tlm_search.study.sync import DRIVER_LOCK, FACTS, JOURNAL, Sender, StudyCopy, known_studies, unwritable

if TYPE_CHECKING:
    import optuna

    from tlm_search.space.schema import Space
    from tlm_search.study.studies import StudyInStorage

STORE = ".store"
STORAGE_VARIABLE = "TLM_SEARCH_STORAGE"
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_SPACE, _LOGS = "space.yaml", "logs"


@dataclass(frozen=True)
class StudyLocation:
    """The ``folder`` of a study, the URL of the ``storage`` with its trials, and its ``name`` in that storage.

    ``storage`` is None if the trials are in a journal file in the folder. Moving the folder does not change the name.
    """

    folder: Path
    storage: str | None
    name: str

    @classmethod
    def of(cls, folder: Path, storage: str | None = None) -> StudyLocation:
        """Return the location of the study in ``folder``, with its trials in ``storage`` if given.

        Otherwise the record of the study says the storage, or for a new study the environment variable.

        Raises:
            StudyError: the study's database needs a password, which is not stored.
        """
        return cls(folder, _storage_url(folder, storage), str(_facts(folder).get("name", folder.name)))

    @property
    def begun(self) -> bool:
        """Whether the folder contains a study."""
        return is_study(self.folder)

    def open(self) -> StudyInStorage:
        """Open the study for reading, without creating any file.

        Raises:
            StudyError: the study does not exist.
        """
        from tlm_search.study.storages import is_missing, open_storage
        from tlm_search.study.studies import StudyInStorage

        if is_missing(self.folder, self.storage):
            raise self._nothing() if self.storage is None else _missing(self.storage)
        try:
            return StudyInStorage(study_name=self.name, storage=open_storage(self.folder, self.storage))
        except KeyError:
            raise self._nothing() from None

    def create(self, space: Space) -> StudyInStorage:
        """Open the study, or create it with the space as its attribute.

        Raises:
            StudyError: the study has another space. The message lists the differences.
        """
        from tlm_search.study.storages import open_storage
        from tlm_search.study.studies import create_study

        return create_study(self.name, space, open_storage(self.folder, self.storage))

    def read(self) -> StudyRecord:
        """Read the study as plain data.

        Raises:
            StudyError: the study cannot be read.
        """
        return record_of(self.open(), self.folder)

    def copy(self) -> optuna.Study:
        """Return a copy of Optuna's study in memory, with its trials and attributes.

        Raises:
            StudyError: the study cannot be read.
        """
        import optuna

        study = self.open()
        copy = optuna.create_study(study_name=self.folder.name, directions=study.directions)
        for key, value in study.user_attrs.items():
            copy.set_user_attr(key, value)
        if study.metric_names is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                copy.set_metric_names(study.metric_names)
        copy.add_trials(study.get_trials(deepcopy=False))
        return copy

    def write(self, space: Space) -> None:
        """Write the first files of the folder: the location of the study, and the resolved space with its name.

        ``tlm-search run`` on that space continues the study.

        Raises:
            StudyError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            named = {**space.to_document(), "name": self.folder.name}
            document = yaml.safe_dump(named, sort_keys=False, allow_unicode=True)
            _write_new(self.folder / _SPACE, f"# The space of this study with all defaults.\n{document}")
            self._write_facts()
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def move_aside(self) -> Path:
        """Rename the folder, and the study in its database, to the first free name of NAME.1, NAME.2, ...

        Nothing is deleted.

        Raises:
            StudyError: the study cannot be renamed.
        """
        storage = self.storage
        if self.begun and _recorded(storage) != _facts(self.folder).get("storage"):
            storage = _storage_url(self.folder)  # the new study will be in another storage
        names: list[str] = []
        if storage is not None:
            from optuna import get_all_study_names

            from tlm_search.study.storages import open_storage
            from tlm_search.study.studies import rename_study

            opened = open_storage(self.folder, storage)
            names = get_all_study_names(opened)
        number = 1
        # The study in the database already has its new name if a run was killed here.
        while _is_taken(target := self._aside(number)) or {self.name, target.name} <= set(names):
            number += 1
        try:
            if storage is not None:
                rename_study(self.name, target.name, opened)
            self.folder.rename(target)
            if storage is not None:
                StudyLocation(target, storage, target.name)._write_facts()
        except OSError as error:
            raise unwritable(self.folder, error) from error
        StudyCopy(self.folder).move(target)
        return target

    @contextmanager
    def driving(self, announce: Callable[[str], None]) -> Iterator[Sender]:
        """Hold the exclusive right to write the study, and send it to its URL at the end.

        Raises:
            StudyError: another driver runs the study, or it cannot be written.
        """
        with self.locked(announce) as sender:
            try:
                yield sender
                sender.send()
            except OSError as error:
                if error.errno in _UNWRITABLE:
                    raise unwritable(self.folder, error) from error
                raise

    @contextmanager
    def locked(self, announce: Callable[[str], None]) -> Iterator[Sender]:
        """Hold the locks of the folder and of the database. The block receives the ``Sender`` to the study's URL.

        Raises:
            StudyError: another driver holds one of the locks.
        """
        from tlm_search.study.database_lock import study_lock

        with (
            driver_lock(self.folder, announce) as sender,
            study_lock(self.storage, self.name, self.folder, announce),
        ):
            yield sender

    def _nothing(self) -> StudyError:
        return StudyError(f"{self.folder} has no study {self.name}", hint="create a study with tlm-search run SPACE")

    def _aside(self, number: int) -> Path:
        return self.folder.with_name(f"{self.folder.name}.{number}")

    def _write_facts(self) -> None:
        facts = {"name": self.name, "storage": _recorded(self.storage)}
        _write_new(self.folder / FACTS, json.dumps(facts, indent=2) + "\n")


def read_study(folder: Path, storage: str | None = None) -> StudyRecord:
    """Read the study in ``folder`` as plain data, from the folder or from the database at ``storage``.

    Raises:
        StudyError: the study cannot be read.
    """
    return StudyLocation.of(folder, storage).read()


def store_root(studies_dir: Path) -> Path:
    """Return the folder with the members of all studies under ``studies_dir``."""
    return studies_dir / STORE


def logs_of(folder: Path) -> Path:
    """Return the folder for the tracebacks of a study."""
    return folder / _LOGS


def find_study(study: str, studies_dir: Path | str) -> Path:
    """Return the folder of ``study``: a name under ``studies_dir``, a path, or a URL. The copy of a URL is updated.

    Raises:
        StudyError: the study does not exist. The message names the most similar study.
        StoreError: the URL cannot be read.
    """
    if "://" in study:
        studies_dir, _, study = study.rstrip("/").rpartition("/")
    studies_dir = studies_folder(studies_dir)
    for folder in (studies_dir / study, Path(study)):
        StudyCopy(folder).pull()
        if is_study(folder):
            register(store_root(folder.resolve().parent))
            return folder.resolve()
    names = sorted({*(facts.parent.name for facts in studies_dir.glob(f"*/{FACTS}")), *known_studies(studies_dir)})
    near = difflib.get_close_matches(study, names, n=1)
    known = f"studies there: {', '.join(names[:20])}" if names else "tlm-search run SPACE makes one"
    raise StudyError(
        f"no study {study} under {shown(studies_dir)}{f'; did you mean {near[0]}?' if near else ''}",
        hint=f"give a name under --studies-dir, or a study's folder; {known}",
    )


def is_study(folder: Path) -> bool:
    """Return whether ``folder`` contains a study."""
    return (folder / FACTS).is_file()


def require_study(folder: Path) -> None:
    """Refuse to move a folder aside that no run created.

    Raises:
        StudyError: the folder is not empty and has no file of a study.
    """
    ours = (FACTS, JOURNAL, DRIVER_LOCK)
    if folder.exists() and not any((folder / name).is_file() for name in ours) and any(folder.iterdir()):
        raise StudyError(
            f"{shown(folder)} is not a study, so --fresh does not move it", hint="choose another --name for the study"
        )


def _storage_url(folder: Path, given: str | None = None) -> str | None:
    """Return the ``given`` URL, else the study's URL, else the environment's. None means the journal file.

    Relative paths become absolute from the working folder, because readers may run elsewhere.

    Raises:
        StudyError: the study's database needs a password, which is not stored.
    """
    facts, environment = _facts(folder), os.environ.get(STORAGE_VARIABLE)
    if given is not None:
        return _located(given)
    if not facts:
        return _located(environment)  # of a new study
    url: str | None = facts.get("storage")
    if url is None or "***" not in url:
        return _located(url)
    if environment is None:
        raise StudyError(
            f"the study {folder.name} is stored in {url}, and its password is not stored",
            hint=f"give the whole URL in the environment variable {STORAGE_VARIABLE}, or with --storage",
        )
    return environment


def _is_taken(folder: Path) -> bool:
    remote = remote_at(folder)
    return folder.exists() or (remote is not None and bool(remote.list()))


def _located(url: str | None) -> str | None:
    """Return the URL with the absolute, quoted path of an SQLite database."""
    if url is None:
        return None
    start, slashes, rest = url.partition(":///")
    file, mark, options = rest.partition("?")
    if not start.startswith("sqlite") or not file or file.startswith(("/", ":memory:", "file:")):
        return url
    return f"{start}{slashes}{quote(str(Path(unquote(file)).absolute()))}{mark}{options}"


def _missing(storage: str) -> StudyError:
    return StudyError(
        f"the storage {storage} does not exist",
        hint="if its file was moved, give the new place once: tlm-search run SPACE --storage sqlite:////FOLDER/FILE",
    )


def _facts(folder: Path) -> Mapping[str, Any]:
    try:
        facts = json.loads((folder / FACTS).read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _recorded(storage: str | None) -> str | None:
    return None if storage is None else masked(storage)


def _write_new(path: Path, text: str) -> None:
    # Do not rewrite equal contents, because every change is sent to a URL.
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        files.write_text(path, text)
