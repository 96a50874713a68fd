"""Guess a task from the user's file: its text and label columns, its labels, and sizes for the space."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlm_search.data.drawing import texts_by_label
from tlm_search.data.pairs import TextOrPair, segments_of
from tlm_search.data.rows import Labelled
from tlm_search.data.sources.columns import require_columns
from tlm_search.data.sources.fewrel import is_fewrel
from tlm_search.data.sources.files import json_of, read_columns
from tlm_search.data.sources.layout import layout_of
from tlm_search.data.sources.source import files_of, load_labelled
from tlm_search.errors import DataError
from tlm_search.space.task import TaskSection

LEAST_TEXTS = 10  # a label with fewer distinct texts is rare
_LABEL_NAMES = ("label", "labels", "class", "category", "target", "intent", "topic", "sentiment")
_TEXT_NAMES = ("text", "sentence", "content", "body", "message")
_MOST_LABELS = 200
_TEXTS_PER_LABEL = 4  # a label column has at least 4 rows for each value
_LEAST_FILLED = 0.9  # share of rows; a column with more gaps is less likely the label
_TOKENS_PER_WORD = 1.4
_WORD = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]|[^\s\u2e80-\u9fff\uf900-\ufaff]+")  # an ideograph is a word
_LENGTHS = (16, 128, 16)  # least, most, multiple of


@dataclass(frozen=True)
class TaskGuess:
    """The task that a file suggests.

    ``text`` and ``label`` are columns, None in a layout without columns (FewRel). ``counts`` has the number of distinct
    texts of each label, the most frequent label first. ``length`` is in tokens. ``other_texts`` are further columns of
    texts, which are not read. ``pair`` is ``text`` and the first of these in file order, None without further columns.
    """

    text: str | None
    label: str | None
    other_labels: tuple[str, ...]
    counts: Mapping[str, int]
    length: int
    other_texts: tuple[str, ...] = ()
    pair: tuple[str, str] | None = None

    @property
    def rare(self) -> tuple[str, ...]:
        """The labels with fewer texts than ``LEAST_TEXTS``."""
        return tuple(label for label, texts in self.counts.items() if texts < LEAST_TEXTS)


def guess_task(place: Path, cache: Path, *, text: str | None = None, label: str | None = None) -> TaskGuess:
    """Guess the task of a file, or of the training files of a folder.

    ``text`` and ``label`` are columns that the user named.

    Raises:
        DataError: a file cannot be read, no column can be the text or the label, or the labels have too few texts.
    """
    others: tuple[str, ...] = ()
    other_texts: tuple[str, ...] = ()
    pair: tuple[str, str] | None = None
    if not place.is_dir() and is_fewrel(json_of(place)):
        section = TaskSection(source=str(place))
    else:
        columns = columns_of(place, labelled=True)
        given = [name for name in (text, label) if name is not None]
        require_columns(columns, given, str(place), hint="name existing columns with --text and --label")
        text = text or text_column({name: values for name, values in columns.items() if name != label}, str(place))
        if label is None:
            label, *rest = label_columns({name: v for name, v in columns.items() if name != text}, str(place))
            others = tuple(rest)
        other_texts = other_text_columns(columns, text, label, *others)
        section = TaskSection(source=str(place), text=text, label=label)
        if other_texts:
            first, second = sorted((text, other_texts[0]), key=list(columns).index)
            pair = first, second
    data, _ = load_labelled(section, cache)
    counts = label_counts(data, str(place))
    return TaskGuess(text, label, others, counts, length_of([text for text in data.texts if text]), other_texts, pair)


def columns_of(place: Path, *, labelled: bool) -> dict[str, list[Any]]:
    """Return the columns of a file, or the common columns of the training files of a folder.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    if not place.exists():
        raise DataError(f"{place}: there is no such file or folder", hint=f"the path is relative to {Path.cwd()}")
    if not place.is_dir():
        return read_columns(place)
    layout = layout_of(place, labelled=labelled)
    first, *others = map(read_columns, layout.documents or files_of(layout, "train", str(place)))
    return {
        name: [*values, *(value for other in others for value in other[name])]
        for name, values in first.items()
        if all(name in other for other in others)
    }


def text_column(columns: Mapping[str, Sequence[Any]], where: str) -> str:
    """Return the text column with the longest texts on average, among columns with a usual name if any has one.

    Raises:
        DataError: no column holds texts.
    """
    lengths = {}
    for name, values in columns.items():
        given = [value for value in values if value is not None]
        if given and all(isinstance(value, str) for value in given):
            lengths[name] = sum(map(len, given)) / len(given)
    if not lengths:
        raise DataError(f"{where}: no column holds texts; its columns are: {', '.join(columns) or 'none'}")
    return max(lengths, key=lambda name: (name.lower() in _TEXT_NAMES, lengths[name]))


def other_text_columns(columns: Mapping[str, Sequence[Any]], *known: str) -> tuple[str, ...]:
    """Return the columns, except ``known``, in which most values are texts of at least two words."""
    found = []
    for name, values in columns.items():
        given = [value for value in values if value]
        texts = sum(isinstance(value, str) and len(_WORD.findall(value)) > 1 for value in given)
        if name not in known and 2 * texts > len(given):
            found.append(name)
    return tuple(found)


def label_columns(columns: Mapping[str, Sequence[Any]], where: str) -> list[str]:
    """Return the columns that could be the label, the likeliest first: by name, by few gaps, then by the fewest values.

    Raises:
        DataError: no column looks like labels.
    """
    distinct: dict[str, tuple[bool, int]] = {}
    for name, values in columns.items():
        given = [value for value in values if value is not None and value != ""]
        if all(isinstance(value, str | int | float) for value in given):
            found = len(set(given))
            if 2 <= found <= min(_MOST_LABELS, max(2, len(given) // _TEXTS_PER_LABEL)):
                distinct[name] = len(given) < _LEAST_FILLED * len(values), found
    if not distinct:
        raise DataError(
            f"{where}: no column looks like labels (2 to {_MOST_LABELS} values, {_TEXTS_PER_LABEL} rows or more each); "
            f"the columns apart from the text are: {', '.join(columns) or 'none'}",
            hint="name it with --label COLUMN",
        )
    return sorted(distinct, key=lambda name: (name.lower() not in _LABEL_NAMES, distinct[name]))


def label_counts(data: Labelled, where: str) -> dict[str, int]:
    """Count the distinct texts of each label, the most frequent label first.

    Raises:
        DataError: fewer than two labels have enough texts.
    """
    rows = Counter(label for label in data.labels if label)
    ranked = sorted(rows, key=lambda label: (-rows[label], label))
    counts = {name: len(texts) for name, texts in texts_by_label(data, ranked).items()}
    if sum(texts >= LEAST_TEXTS for texts in counts.values()) >= 2:
        return counts
    found = ", ".join(f"{label} has {rows[label]}" for label in ranked[:5])
    raise DataError(
        f"{where}: a task needs 2 labels with {LEAST_TEXTS} different texts each, but {found or 'it is empty'}",
        hint="give more texts, or name the right columns with --text and --label",
    )


def length_of(texts: Sequence[TextOrPair]) -> int:
    """Return a length in tokens that nine of ten texts fit: words x 1.4, rounded up to 16, at most 128."""
    words = sorted(sum(len(_WORD.findall(part)) for part in segments_of(text)) for text in texts)
    least, most, multiple = _LENGTHS
    tokens = _TOKENS_PER_WORD * words[math.ceil(0.9 * len(words)) - 1]
    return min(most, max(least, multiple * math.ceil(tokens / multiple)))


def tokens_about(text: str) -> float:
    """Estimate the number of tokens of a text from its words."""
    return _TOKENS_PER_WORD * len(_WORD.findall(text))


def vocabulary_of(documents: Sequence[str]) -> int:
    """Return a size for the vocabulary: the power of 2 below half the distinct words, 256 to 32,768."""
    words = {word for document in documents for word in _WORD.findall(document.lower())}
    return min(32_768, max(256, 1 << ((len(words) // 2).bit_length() - 1) if len(words) > 1 else 0))


def pretrain_sizes(documents: int, *, most: int) -> list[int]:
    """Return pre-training sizes to search: 0, a third and all of at most ``most`` documents, with two digits."""
    largest = min(documents, most)
    digits = max(1, 10 ** (len(str(largest)) - 2))
    largest = largest // digits * digits
    return sorted({0, largest // 3, largest})
