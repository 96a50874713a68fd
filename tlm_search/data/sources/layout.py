"""Find the data files of a folder and the split of each, by their names alone, and report them to the user."""

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
_HUB_FOLDER = "data"  # the hub stores shards of any split here
_DOCUMENTATION = re.compile(r"(?i)(read.?me|licen[cs]e|copying|notice|authors?|change.?log|citation|requirements)\b.*")
_ABOUT_DATA = {"config", "dataset_dict", "dataset_info", "dataset_infos", "state", "package"}  # .json metadata
_NAMED = 20  # most files that a message names


@dataclass(frozen=True)
class Layout:
    """The contents of the folder ``place``.

    ``documents`` are the text files of a folder of documents, else empty. ``splits`` are the tables by split, sorted by
    path. ``others`` are all other files, with hidden files and folders.
    """

    place: Path
    documents: tuple[Path, ...]
    splits: Mapping[str, tuple[Path, ...]]
    others: tuple[Path, ...]

    def files(self, split: str) -> tuple[Path, ...] | None:
        """Return the tables of ``split`` under any of its names (such as dev for validation), or None."""
        return self.splits.get(split) or self.splits.get(_WORDS.get(split.lower(), split))

    def account(self, splits: Iterable[str]) -> str:
        """Say which files are read, for ``splits`` or as documents, and name the files passed over."""
        wanted = {} if self.documents else {split: files for split in splits if (files := self.files(split))}
        read = {file for files in wanted.values() for file in files} | set(self.documents)
        tables = [file for files in self.splits.values() for file in files]
        passed = sorted({*tables, *self.others} - read)
        said = [f"{split} is {self._names(files)}{_missing(files)}" for split, files in wanted.items()]
        if self.documents:
            said = [f"the documents are {self._names(self.documents)}"]
        if passed:
            said.append(f"not read: {self._names(passed)}")
        return f"{self.place}: " + "; ".join(said)

    def _names(self, files: Sequence[Path]) -> str:
        names = [_printable(file.relative_to(self.place)) + ("/" if file.is_dir() else "") for file in files[:_NAMED]]
        return ", ".join(names) + (f" and {len(files) - _NAMED:,} more" if len(files) > _NAMED else "")


def layout_of(place: Path, *, labelled: bool) -> Layout:
    """Decide the split of each file in the folder ``place``. In a ``labelled`` folder only tables count.

    A file belongs to the split that its name says (``train.csv``, ``test_3.jsonl``; letter case does not matter), else
    to the split that its folder says (``test/a.csv``). If names differ only in the split (``ag_train.csv``,
    ``ag_test.csv``), the files belong to these splits too. In the layout of the hub, ``NAME-00000-of-00001`` belongs to
    the split NAME. If no name says a split, all files are ``train``; if some do, the other files belong to no split.
    Text files are documents if they outnumber the tables and no table says its split.

    Raises:
        DataError: the folder has no data, a file says two splits, or two files differ only in their format.
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
    """Return whether `datasets` may have read ``files`` differently when older versions used it for folders.

    It read Parquet in the same way if each name is exactly a split, or says none.
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
    """Return the tables that say their split, by split; empty if no table says train, validation or test."""
    alike: dict[tuple[Path, str], set[str]] = defaultdict(set)  # by name without the split
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
                f"{file}: its name and its folder name different splits: {' and '.join(sorted(says))}",
                hint="a file belongs to one split: rename it, or name the files of train and test in the space",
            )
        shard = _SHARD.match(stem_of(file))
        known = known or bool(says) or (shard is not None and file.parent.name == _HUB_FOLDER)
        if says or shard:
            found[says.pop() if says else shard[1]].append(file)  # type: ignore[index]
    return {split: tuple(files) for split, files in found.items()} if known else {}


def _words(name: str) -> list[tuple[str, str]]:
    """Return each split that ``name`` contains as a word, with the rest of ``name``."""
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
                f"{file}: the same folder has {other.name}, which differs only in its ending",
                hint="if they are copies, remove one; else give them different names",
            )


def _missing(files: Sequence[Path]) -> str:
    """Say how many shards are missing."""
    shards = [match for file in files if (match := _SHARD.match(stem_of(file)))]
    whole = sum({(match[1], int(match[3])): int(match[3]) for match in shards}.values())
    return f" ({len(shards)} of {whole} shards)" if len(shards) < whole else ""


def _printable(path: Path) -> str:
    """Return a path that a message can show, even if the name is not valid text."""
    text = path.as_posix().encode("utf-8", "backslashreplace").decode()
    return text if text.isprintable() else repr(text)
