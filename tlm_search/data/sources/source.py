"""Read texts and labels from a source: a file or folder, or a data set of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm_search.data.context import read_log
from tlm_search.data.pairs import TextOrPair, is_blank, joined
from tlm_search.data.rows import Labelled
from tlm_search.data.sources.columns import labels_of, texts_of
from tlm_search.data.sources.fewrel import is_fewrel, read_fewrel
from tlm_search.data.sources.files import TEXT_COLUMN, json_of, kind_of, read_columns, read_json
from tlm_search.data.sources.layout import Layout, layout_of
from tlm_search.data.sources.place import local_copy, local_place
from tlm_search.data.sources.tables import read_tables
from tlm_search.errors import DataError
from tlm_search.space.sections import CorpusSection
from tlm_search.space.task import columns_of_texts

if TYPE_CHECKING:
    from tlm_search.space.task import TaskSection, UnlabelledSection

UNLABELLED = "task.unlabelled"  # its name in messages
_SHUFFLE_SEED = 42  # the paper's
_DEFAULT_TEST_SPLIT = "test"
_VALIDATION_SPLIT = "validation"


def load_documents(section: CorpusSection, cache: Path) -> list[str]:
    """Return the texts of a corpus that is not embedded: at most ``section.documents``, without empty texts.

    Raises:
        DataError: the corpus is missing or damaged, or lacks the column or split.
    """
    texts = _documents(section, [section.text], called="corpus")
    return [text for text in texts if isinstance(text, str)]


def _documents(section: CorpusSection, columns: Sequence[str], *, called: str) -> list[TextOrPair]:
    """Return the texts of ``columns``, or pairs of two columns, from the source of ``section``.

    ``section.text`` is ignored. ``called`` is the name of the section in messages.
    """
    place = local_place(section.source)
    where = f"{called} {section.source}"
    # A copy of a data set of the hub is shuffled too, so that it has the same order as the hub's.
    seed = _SHUFFLE_SEED if place is None or local_copy(section.source) else None
    if place is None:
        split = _hub_splits(section.source, section.config, where, [section.split])[section.split]
        return _first_texts(section, columns, where, partial(_hub_columns, split, columns, where, seed=seed))
    if not place.is_dir():
        columns = [TEXT_COLUMN] if kind_of(place) == "text" and len(columns) == 1 else columns
        return _first_texts(section, columns, where, lambda most: read_columns(place, columns))
    layout = _layout(section.source, place, section.config, where, labelled=False)
    if layout.documents:
        columns = [TEXT_COLUMN] if len(columns) == 1 else columns
        read = [read_columns(file, columns) for file in layout.documents]
        of_all = {column: [text for part in read for text in part[column]] for column in columns}
        return _first_texts(section, columns, where, lambda most: of_all)
    files = files_of(layout, section.split, where)
    return _first_texts(section, columns, where, partial(read_tables, files, columns, seed=seed))


def _first_texts(
    section: CorpusSection, columns: Sequence[str], where: str, read: Callable[..., Mapping[str, list[Any]]]
) -> list[TextOrPair]:
    """Return the first ``section.documents`` texts of ``read(most=...)``, without blank texts."""
    wanted = asked = section.documents
    while True:
        values = read(most=asked)
        texts = [text for text in _texts(values, columns, where) if not is_blank(text)]
        if wanted is None or asked is None or len(texts) >= wanted or len(values[columns[0]]) < asked:
            return texts[:wanted]
        asked *= 2  # Some texts were blank: read further.


def load_texts(task: TaskSection, section: UnlabelledSection) -> list[TextOrPair]:
    """Return the unlabelled texts of ``task`` from a source that is not embedded, without empty texts.

    Settings that ``section`` lacks are those of ``task``. Labels are not read. FewRel's layout is recognised.

    Raises:
        DataError: the source is missing or damaged, or lacks the column or split.
    """
    place = local_place(section.source)
    if place is not None and not place.is_dir() and is_fewrel(value := json_of(place)):
        return list(_fewrel(task, place, value).texts)
    columns = columns_of_texts(section.text or task.text)
    return _documents(unlabelled_documents(task, section), columns, called=UNLABELLED)


def unlabelled_documents(task: TaskSection, section: UnlabelledSection) -> CorpusSection:
    """Describe the source of the unlabelled texts as a corpus section. For pairs it names the first column."""
    of_task = task.config if section.source == task.source else None
    return CorpusSection(
        source=section.source,
        config=section.config or of_task,
        split=section.split or task.train_split,
        text=columns_of_texts(section.text or task.text)[0],
    )


def load_labelled(section: TaskSection, cache: Path) -> tuple[Labelled, Labelled | None]:
    """Return the labelled texts of a task that is not embedded, and those of its test file or split, or None.

    Raises:
        DataError: the source is missing or damaged, or lacks a column or split.
    """
    train, test = _labelled(section, section.source, cache, section.train_split)
    if section.test_source is not None:
        test, of_its_own = _labelled(section, section.test_source, cache, section.test_split)
        test = of_its_own or test
    return train, test


def account_of_task(section: TaskSection) -> list[str]:
    """For each folder that the task names, say which of its files are read and which are passed over.

    Raises:
        DataError: a folder has no data, or its names contradict each other.
    """
    sources = {section.source: [section.train_split, section.test_split]}
    if section.test_source is not None:
        sources[section.source].pop()
        sources.setdefault(section.test_source, []).append(section.test_split)
    if section.validation_source is not None:
        sources.setdefault(section.validation_source, []).append(section.train_split)
    elif section.per_label is None:
        sources[section.source].append(_VALIDATION_SPLIT)
    said = []
    for source, splits in sources.items():
        if (place := local_place(source)) is not None and place.is_dir():
            layout = _layout(source, place, section.config, f"task {source}", labelled=True)
            said.append(layout.account([_split_of(layout, split, source, section) for split in splits]))
    return said


def account_of_documents(section: CorpusSection, *, called: str = "corpus") -> list[str]:
    """If the source is a folder, say which of its files are read and which are passed over.

    Raises:
        DataError: the folder has no data, or its names contradict each other.
    """
    place = local_place(section.source)
    if place is None or not place.is_dir():
        return []
    layout = _layout(section.source, place, section.config, f"{called} {section.source}", labelled=False)
    return [layout.account([section.split])]


def load_validation(section: TaskSection, cache: Path) -> Labelled | None:
    """Return the labelled texts of the validation file, or of the split ``validation``, or None without both.

    Raises:
        DataError: the file is missing, damaged, or has no such column.
    """
    if section.validation_source is not None:
        return _labelled(section, section.validation_source, cache, section.train_split)[0]
    place = local_place(section.source)
    where, columns = f"task {section.source}", section.columns
    if _VALIDATION_SPLIT in (section.train_split, section.test_split) or section.format == "fewrel":
        return None
    if place is None:
        splits = _hub_splits(section.source, section.config, where, [])
        if _VALIDATION_SPLIT not in splits:
            return None
        where = f"{where}, split {_VALIDATION_SPLIT}"
        return _as_labelled(section, _hub_columns(splits[_VALIDATION_SPLIT], columns, where), where)
    if not place.is_dir():
        return None
    layout = _layout(section.source, place, section.config, where, labelled=True)
    files = layout.files(_VALIDATION_SPLIT)
    return _as_labelled(section, read_tables(files, columns), f"{where}, split {_VALIDATION_SPLIT}") if files else None


def _labelled(section: TaskSection, source: str, cache: Path, split: str) -> tuple[Labelled, Labelled | None]:
    """Return the texts of ``split``, or of a single file, and those of the test split if the source has splits."""
    place = local_place(source)
    columns = section.columns
    where = f"task {source}"
    if place is not None and not place.is_dir():
        value = read_json(place) if section.format == "fewrel" else json_of(place)
        if section.format == "fewrel" or is_fewrel(value):
            return _fewrel(section, place, value), None
        return _as_labelled(section, read_columns(place, columns), str(place)), None
    if section.format == "fewrel":
        raise DataError(f"{where}: format fewrel needs a file", hint="name the .json or .json.gz file itself")
    wanted = [split] if section.test_split == _DEFAULT_TEST_SPLIT else [split, section.test_split]
    read: dict[str, Mapping[str, list[Any]]] = {}
    if place is None:
        splits = _hub_splits(source, section.config, where, wanted)
        for name in {split, section.test_split} & set(splits):
            read[name] = _hub_columns(splits[name], columns, f"{where}, split {name}")
    else:
        layout = _layout(source, place, section.config, where, labelled=True)
        split, *others = (_split_of(layout, name, source, section) for name in wanted)
        for name in (split, *others):
            files_of(layout, name, where)
        for name in {split, section.test_split}:
            if files := layout.files(name):
                read[name] = read_tables(files, columns)
    parts = {name: _as_labelled(section, values, f"{where}, split {name}") for name, values in read.items()}
    return parts[split], None if section.test_split == split else parts.get(section.test_split)


def _layout(source: str, place: Path, config: str | None, where: str, *, labelled: bool) -> Layout:
    """Return the layout of a folder, or of its subfolder ``config``, which only a copy of a hub data set may lack."""
    if config is not None:
        if (place / config).is_dir():
            place = place / config
        elif local_copy(source) is None:
            raise DataError(f"{where}: config {config!r} not found", hint="config is the name of a subfolder")
    return layout_of(place, labelled=labelled)


def _split_of(layout: Layout, split: str, source: str, section: TaskSection) -> str:
    """Return the split to read. If a separate test or validation folder has only one split, it is that split."""
    is_part = source in (section.test_source, section.validation_source)
    return next(iter(layout.splits)) if is_part and len(layout.splits) == 1 else split


def files_of(layout: Layout, split: str, where: str) -> tuple[Path, ...]:
    """Return the tables of ``split``.

    Raises:
        DataError: the folder has no such split.
    """
    files = layout.files(split)
    if files is None:
        raise _no_split(where, split, layout.splits)
    return files


def _hub_splits(source: str, config: str | None, where: str, wanted: Sequence[str]) -> Mapping[str, Any]:
    """Open a data set of the hub, and require the splits ``wanted``."""
    from tlm_search.data.sources.hub import open_splits

    splits = open_splits(source, config=config)
    for split in wanted:
        if split not in splits:
            raise _no_split(where, split, splits)
    return splits


def _hub_columns(split: Any, columns: Sequence[str], where: str, **which: int | None) -> dict[str, list[Any]]:
    from tlm_search.data.sources.hub import split_columns

    return split_columns(split, columns, where, **which)


def _as_labelled(section: TaskSection, read: Mapping[str, list[Any]], where: str) -> Labelled:
    """Return the texts (with context if the task has one) and labels; a missing text or label is empty."""
    labels = labels_of(read[section.label], section.label, where)
    if section.context is None:
        return Labelled(_texts(read, section.text_columns, where), labels)
    (column,) = section.text_columns
    log = read_log(section.context, texts_of(read[column], column, where), read, where)
    return Labelled(log.lines, labels, log.groups, log.order)


def _texts(read: Mapping[str, list[Any]], columns: Sequence[str], where: str) -> Sequence[TextOrPair]:
    return joined([texts_of(read[column], column, where) for column in columns])


def _fewrel(task: TaskSection, file: Path, value: Any) -> Labelled:
    if task.pairs:
        raise DataError(
            f"{file}: it has FewRel's layout, which has no columns {' and '.join(task.text_columns)}",
            hint="leave text out of the task: FewRel has one text for each label",
        )
    return read_fewrel(file, value, marked=task.entities == "marked")


def _no_split(where: str, split: str, splits: Iterable[str]) -> DataError:
    return DataError(f"{where}: there is no split {split!r}", hint=f"its splits are: {', '.join(splits)}")
