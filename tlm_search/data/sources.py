"""Where data come from: the embedded ``pydocs``, the user's files and folders, or data sets of the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm_search.data import pydocs
from tlm_search.data.columns import labels_of, texts_of
from tlm_search.data.fewrel import NAMES, is_fewrel, read_fewrel
from tlm_search.data.files import TEXT_COLUMN, files_below, json_of, kind_of, read_columns, read_json
from tlm_search.data.folders import write_text
from tlm_search.data.sampling import Labelled
from tlm_search.digest import DIGEST_LENGTH, digest
from tlm_search.errors import DataError
from tlm_search.space.sections import CorpusSection

if TYPE_CHECKING:
    from tlm_search.space.sections import TaskSection, UnlabelledSection

PYDOCS = "pydocs"
DATA_DIR = "TLM_SEARCH_DATA_DIR"  # environment variable: a folder with copies of what spaces name
_SHUFFLE_SEED = 42  # the paper's
_DEFAULT_TEST_SPLIT = "test"
_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_FOLDER_CACHE = "folders"


def source_fingerprint(source: str, cache: Path) -> str:
    """Return a digest of what ``source`` holds now: of package versions, of the contents of local files, of a hub id.

    A data set of the hub is taken as it was when it was first prepared. Contents are read once for each size and time
    of change of the files.

    Raises:
        DataError: a local file or folder is missing or cannot be read.
    """
    if source == PYDOCS:
        return pydocs.fingerprint()
    place = local_place(source)
    if place is None:
        return digest(["hub", source])
    files = files_below(place)
    if kind_of(place) == "json" and (names := place.with_name(NAMES)).is_file():
        files.append(names)
    try:
        looks = [[file.relative_to(place.parent).as_posix(), *_size_and_time(file)] for file in files]
        record = cache / "fingerprints" / f"{digest([str(place.absolute()), looks])}.json"
        if record.is_file():
            return str(json.loads(record.read_text(encoding="utf-8")))
        hashed = hashlib.sha256()
        for (name, size, _), file in zip(looks, files, strict=True):
            hashed.update(f"{name} {size}\n".encode())
            with file.open("rb") as stream:
                hashed.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise DataError(f"{source}: it cannot be read: {error.strerror or error}") from error
    fingerprint = hashed.hexdigest()[:DIGEST_LENGTH]
    write_text(record, json.dumps(fingerprint))
    return fingerprint


def use_data_dir(folder: Path) -> None:
    """Look for what spaces name in ``folder`` first, from now on, in this process and those that it starts.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"--data-dir {folder}: there is no such folder")
    os.environ[DATA_DIR] = str(folder.absolute())


def local_copy(source: str) -> Path | None:
    """Return the copy of ``source`` in the data folder: OWNER/NAME or NAME of an id, a path as it is or gzipped."""
    given = os.environ.get(DATA_DIR)
    if not given or source.startswith((".", "/", "~")):
        return None
    names = [source, f"{source}.gz", *([] if kind_of(Path(source)) else [source.rpartition("/")[2]])]
    return next((Path(given, name) for name in names if Path(given, name).exists()), None)


def local_place(source: str) -> Path | None:
    """Return the file or folder that ``source`` names, a copy in the data folder first; None for an id of the hub.

    Raises:
        DataError: it can only be a path, and is not there.
    """
    copy = local_copy(source)
    if copy is not None:
        return copy
    place = Path(source).expanduser()
    if place.exists():
        return place
    if kind_of(place) is not None or source.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(source):
        given = os.environ.get(DATA_DIR)
        where = f"{Path.cwd()}, and to {given}" if given else f"{Path.cwd()}, or to the folder of --data-dir"
        raise DataError(
            f"{source}: there is no such file or folder",
            hint=f"the path is relative to {where}; or name a Hugging Face id, or pydocs",
        )
    return None


def load_documents(section: CorpusSection, cache: Path, *, called: str = "corpus") -> list[str]:
    """Return the texts of a corpus that is not embedded: at most ``section.documents``, empty ones left out.

    ``called`` is what messages call it.

    Raises:
        DataError: it is missing, damaged, or has no such column or split.
    """
    place = local_place(section.source)
    if place is not None and (file := _single_file(place)):
        texts = read_columns(file, [_text_column(file, section.text)])
        return _cut(next(iter(texts.values())), section, called)
    if place is not None and (files := _text_files(place)):
        values = [text for file in files for text in read_columns(file, [TEXT_COLUMN])[TEXT_COLUMN]]
        return _cut(values, section, called)
    from tlm_search.data.hub import split_columns

    splits = _open(section.source, place, section.config, [section.text], cache)
    if section.split not in splits:
        raise _no_split(f"{called} {section.source}", section.split, splits)
    where = f"{called} {section.source}, split {section.split}"
    # A copy of a data set of the hub gives what the hub gives: the documents in the same order.
    seed = None if place is not None and local_copy(section.source) is None else _SHUFFLE_SEED
    read = split_columns(splits[section.split], [section.text], where, seed=seed, most=section.documents)
    return _cut(read[section.text], section, called)


def load_texts(task: TaskSection, section: UnlabelledSection, cache: Path) -> list[str]:
    """Return the unlabelled texts of ``task`` that ``section`` names, which is not embedded; empty ones left out.

    What ``section`` does not say is as in ``task``; of a labelled file the labels are not read. FewRel's layout is
    known where it is met.

    Raises:
        DataError: it is missing, damaged, or has no such column or split.
    """
    place = local_place(section.source)
    if place is not None and (file := _single_file(place)) and is_fewrel(value := json_of(file)):
        return list(read_fewrel(file, value, marked=task.entities == "marked").texts)
    of_task = task.config if section.source == task.source else None
    documents = CorpusSection(
        source=section.source,
        config=section.config or of_task,
        split=section.split or task.train_split,
        text=section.text or task.text,
    )
    return load_documents(documents, cache, called="task.unlabelled")


def load_labelled(section: TaskSection, cache: Path) -> tuple[Labelled, Labelled | None]:
    """Return the labelled texts of a task that is not embedded, and those of its test split or file, if it has any.

    Raises:
        DataError: it is missing, damaged, or has no such column or split.
    """
    train, test = _labelled(section, section.source, cache, section.train_split)
    if section.test_source is not None:
        test, of_its_own = _labelled(section, section.test_source, cache, section.test_split)
        test = of_its_own or test
    return train, test


def _labelled(section: TaskSection, source: str, cache: Path, split: str) -> tuple[Labelled, Labelled | None]:
    """Return the texts of ``split``, or of a single file, and those of the test split, if there are splits."""
    place = local_place(source)
    columns = [section.text, section.label]
    if place is not None and (file := _single_file(place)):
        value = read_json(file) if section.format == "fewrel" else json_of(file)
        if section.format == "fewrel" or is_fewrel(value):
            return read_fewrel(file, value, marked=section.entities == "marked"), None
        return _as_labelled(section, read_columns(file, columns), str(file)), None
    if section.format == "fewrel":
        raise DataError(f"task {source}: format fewrel needs a file", hint="name the .json or .json.gz file itself")
    from tlm_search.data.hub import split_columns

    splits = _open(source, place, section.config, columns, cache)
    if split not in splits:
        raise _no_split(f"task {source}", split, splits)
    if section.test_split not in splits and section.test_split != _DEFAULT_TEST_SPLIT:
        raise _no_split(f"task {source}", section.test_split, splits)
    read = {
        name: _as_labelled(section, split_columns(splits[name], columns, where), where)
        for name in {split, section.test_split} & set(splits)
        for where in [f"task {source}, split {name}"]
    }
    return read[split], None if section.test_split == split else read.get(section.test_split)


def _open(
    source: str, place: Path | None, config: str | None, columns: Sequence[str], cache: Path
) -> Mapping[str, Any]:
    """Open the splits of a folder, of a data set of the hub, or of its copy: that of one config, or one folder each."""
    from tlm_search.data.hub import open_splits

    if place is not None and config is not None and local_copy(source) is not None:
        place, config = (place / config if (place / config).is_dir() else place), None
    kinds = {kind for file in ([] if place is None else files_below(place)) if (kind := kind_of(file))}
    return open_splits(
        source if place is None else str(place),
        config=config,
        folder=cache / _FOLDER_CACHE,
        as_written=columns if kinds and kinds <= {"csv", "tsv"} else (),
    )


def _as_labelled(section: TaskSection, read: dict[str, list[Any]], where: str) -> Labelled:
    """Pair texts with labels as text; rows that lack one of the two are left out."""
    texts = texts_of(read[section.text], section.text, where)
    labels = labels_of(read[section.label], section.label, where)
    both = [(text, label) for text, label in zip(texts, labels, strict=True) if text and label]
    return Labelled([text for text, _ in both], [label for _, label in both])


def _cut(values: Sequence[Any], section: CorpusSection, called: str) -> list[str]:
    texts = texts_of(values, section.text, f"{called} {section.source}")
    return [text for text in texts if text][: section.documents]


def _single_file(place: Path) -> Path | None:
    return None if place.is_dir() else place


def _text_files(folder: Path) -> list[Path]:
    """Return the text files of a folder, in the order of their paths, if most of its data files are such."""
    data = [file for file in files_below(folder) if kind_of(file)]
    texts = [file for file in data if kind_of(file) == "text"]
    return texts if 2 * len(texts) > len(data) else []


def _text_column(file: Path, column: str) -> str:
    return TEXT_COLUMN if kind_of(file) == "text" else column


def _size_and_time(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _no_split(where: str, split: str, splits: Sequence[str] | Any) -> DataError:
    return DataError(f"{where}: there is no split {split!r}", hint=f"its splits are: {', '.join(splits)}")
