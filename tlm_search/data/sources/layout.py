"""The data files of a folder and the split of each, decided by their names only and reported to the user."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlm_search.data.sources.files import all_below, kind_of, stem_of
from tlm_search.errors import DataError

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_SEPARATORS = re.compile(r"[-._ ]+")
_NUMBER = re.compile(r"(?:[-._ ]*\d+(?:[-._ ]of[-._ ]\d+)?)(?:-[0-9a-f]{8,})?$")  # train-00000-of-00002-0123abcd
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(?:-[0-9a-f]{8,})?$")
_HUB_FOLDER = "data"  # there the hub keeps shards of any split
_DOCUMENTATION = re.compile(r"(?i)(read.?me|licen[cs]e|copying|notice|authors?|change.?log|citation|requirements)\b.*")
_ABOUT_DATA = {"config", "dataset_dict", "dataset_info", "dataset_infos", "state", "package"}  # .json of programs
_NAMED = 20  # files that a message names


@dataclass(frozen=True)
class Layout:
    """What lies in the folder ``place``.

    ``documents`` are text files, where the folder is one of such. ``splits`` are the tables by split, in the order of
    their paths. ``others`` are all other files, and what begins with a dot.
    """

    place: Path
    documents: tuple[Path, ...]
    splits: Mapping[str, tuple[Path, ...]]
    others: tuple[Path, ...]

    def files(self, split: str) -> tuple[Path, ...] | None:
        """Return the tables of ``split``, under any name that a split of its kind has; None if there is none."""
        return self.splits.get(split) or self.splits.get(_WORDS.get(split.lower(), split))

    def account(self, splits: Iterable[str]) -> str:
        """Say which files are read, for ``splits`` or as documents, and name the others."""
        wanted = {} if self.documents else {split: files for split in splits if (files := self.files(split))}
        read = {file for files in wanted.values() for file in files} | set(self.documents)
        tables = [file for files in self.splits.values() for file in files]
        passed = sorted({*tables, *self.others} - read)
        said = [f"{split} is {self._names(files)}{_missing(files)}" for split, files in wanted.items()]
        if self.documents:
            said = [f"the documents are {self._names(self.documents)}"]
        if passed:
            said.append(f"passed over: {self._names(passed)}")
        return f"{self.place}: " + "; ".join(said)

    def _names(self, files: Sequence[Path]) -> str:
        names = [_printable(file.relative_to(self.place)) + ("/" if file.is_dir() else "") for file in files[:_NAMED]]
        return ", ".join(names) + (f" and {len(files) - _NAMED:,} more" if len(files) > _NAMED else "")


def layout_of(place: Path, *, labelled: bool) -> Layout:
    """Look at the names of the files in the folder ``place``; a ``labelled`` folder has tables alone.

    The rule: a file is of the split that its name says (``train.csv``, ``test_3.jsonl``, letter case aside), or else
    the folder that it lies in (``test/a.csv``). Where at least two names differ in the split alone (``ag_train.csv``,
    ``ag_test.csv``) they are of these splits too. In the layout of the hub ``NAME-00000-of-00001`` is of the split
    NAME. Where no file says a split, all are ``train``; where some do, the others are of none. Text files are documents
    where they are more than the tables and no table says its split.

    Raises:
        DataError: there are no data; a file is of two splits; or two files have one name and different formats.
    """
    files, others = all_below(place)
    tables = sorted((file for file in files if _is_table(file)), key=lambda file: file.as_posix())
    texts = [file for file in files if kind_of(file) == "text"]
    splits = _splits(place, tables)
    if not labelled and not splits and sum(not _DOCUMENTATION.match(file.name) for file in texts) > len(tables):
        return Layout(place, tuple(texts), {}, tuple(sorted({*files, *others} - set(texts))))
    if not tables:
        allowed = ".parquet, .jsonl, .json, .csv or .tsv" + ("" if labelled else ", or text files (.txt)")
        raise DataError(f"{place}: there is no table in this folder", hint=f"it needs files in {allowed}")
    splits = splits or {"train": tuple(tables)}
    _require_one_format([file for files in splits.values() for file in files])
    read = {file for files in splits.values() for file in files}
    return Layout(place, (), splits, tuple(sorted({*files, *others} - read)))


def was_read_otherwise(place: Path, files: Iterable[Path]) -> bool:
    """Say whether `datasets`, which once read the tables of folders, may have read others of ``files``, or otherwise.

    It read Parquet as it is read now, where names say a split exactly or not at all.
    """
    return any(
        kind_of(file) != "parquet"
        or any(rest for part in (stem_of(file), *file.relative_to(place).parts[:-1]) for _, rest in _words(part))
        for file in files
        if _is_table(file)
    )


def _is_table(file: Path) -> bool:
    kind = kind_of(file)
    return kind not in (None, "text") and not (kind == "json" and stem_of(file) in _ABOUT_DATA)


def _splits(place: Path, tables: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Return the tables that say their split, by split; none if no table says one of train, validation and test."""
    alike: dict[tuple[Path, str], set[str]] = defaultdict(set)  # what is left of names without the word of the split
    for file in tables:
        for split, rest in _words(stem_of(file)):
            alike[file.parent, rest].add(split)
    found: dict[str, list[Path]] = defaultdict(list)
    known = False
    for file in tables:
        own = {split for split, rest in _words(stem_of(file)) if not rest or len(alike[file.parent, rest]) > 1}
        folders = [_WORDS[part.lower()] for part in file.relative_to(place).parts[:-1] if part.lower() in _WORDS]
        says = own | set(folders[-1:])
        if len(says) > 1:
            raise DataError(
                f"{file}: its name and its folder say {' and '.join(sorted(says))}",
                hint="a file is of one split: rename it, or name the files of train and test themselves",
            )
        shard = _SHARD.match(stem_of(file))
        known = known or bool(says) or (shard is not None and file.parent.name == _HUB_FOLDER)
        if says or shard:
            found[says.pop() if says else shard[1]].append(file)  # type: ignore[index]
    return {split: tuple(files) for split, files in found.items()} if known else {}


def _words(name: str) -> list[tuple[str, str]]:
    """Return each split that ``name`` has the word of, with what is left of it."""
    parts = _SEPARATORS.split(_NUMBER.sub("", name).lower())
    return [
        (_WORDS[part], " ".join([*parts[:place], "", *parts[place + 1 :]]).strip())
        for place, part in enumerate(parts)
        if part in _WORDS
    ]


def _require_one_format(files: Sequence[Path]) -> None:
    first: dict[Path, Path] = {}
    for file in files:
        other = first.setdefault(file.with_name(stem_of(file)), file)
        if other != file:
            raise DataError(
                f"{file}: beside it lies {other.name}, which differs from it in its ending alone",
                hint="if one is a copy of the other, keep one; else give them different names",
            )


def _missing(files: Sequence[Path]) -> str:
    """Say how many shards are not there."""
    shards = [match for file in files if (match := _SHARD.match(stem_of(file)))]
    whole = sum({(match[1], int(match[3])): int(match[3]) for match in shards}.values())
    return f" ({len(shards)} of {whole} shards)" if len(shards) < whole else ""


def _printable(path: Path) -> str:
    """Return a path as a message can show it, whatever its name holds."""
    text = path.as_posix().encode("utf-8", "backslashreplace").decode()
    return text if text.isprintable() else repr(text)
