"""From labelled texts to train, validation and test: balanced, seeded, and without a text in two of them."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from tlm_search.errors import DataError

if TYPE_CHECKING:
    from tlm_search.space.sections import TaskSection

_MOST_LISTED = 5


@dataclass(frozen=True)
class Labelled:
    """Texts with their labels as the user wrote them."""

    texts: Sequence[str]
    labels: Sequence[str]


@dataclass(frozen=True)
class Split:
    """Texts with their labels as indices into ``Task.labels``."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A classification task, split once."""

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    def held_out(self) -> frozenset[str]:
        """Return the ``likeness`` of each text of validation and test."""
        return frozenset(map(likeness, self.validation.texts + self.test.texts))


def split_task(
    section: TaskSection, data: Labelled, *, held_out: Labelled | None = None, validation_held_out: bool = False
) -> Task:
    """Draw ``section``'s samples per label: first test, then validation, then train.

    Test comes from ``held_out``, or without it from ``data``; validation from ``data``, or from ``held_out`` where
    ``validation_held_out``. So fewer training texts leave validation and test as they are. Empty and repeated texts
    are passed over, and those of ``data`` that ``held_out`` has (letter case and white space do not count).

    Raises:
        DataError: one label only, or fewer texts of a label than asked for.
    """
    names = _names(section, data)
    seen: set[str] = set()
    pools = {"held_out": texts_by_label(held_out, names, seen)} if held_out is not None else {}
    pools["data"] = texts_by_label(data, names, seen)
    of_test = "data" if held_out is None else "held_out"
    parts = {"test": of_test, "validation": of_test if validation_held_out else "data", "train": "data"}
    wanted: dict[str, int] = {part: getattr(section, f"{part}_per_label") for part in parts}
    for pool, texts in pools.items():
        _require_enough(section, texts, {part: wanted[part] for part, source in parts.items() if source == pool})
    drawn: dict[str, list[tuple[str, int]]] = {part: [] for part in parts}
    for index, name in enumerate(names):
        shuffled = {
            pool: iter(_shuffled(texts[name], [section.seed, zlib.crc32(name.encode()), number]))
            for number, (pool, texts) in enumerate(sorted(pools.items()))
        }
        for part, pool in parts.items():
            drawn[part] += [(text, index) for text in islice(shuffled[pool], wanted[part])]
    splits = {part: _split(rows, seed=[section.seed, number]) for number, (part, rows) in enumerate(drawn.items())}
    return Task(section.source, names, splits["train"], splits["validation"], splits["test"])


def _require_enough(section: TaskSection, texts: Mapping[str, Sequence[str]], wanted: Mapping[str, int]) -> None:
    needed = sum(wanted.values())
    short = [f"{name} has {len(found)}" for name, found in texts.items() if len(found) < needed]
    if short:
        more = [f"{len(short) - _MOST_LISTED} more labels have too few"] if len(short) > _MOST_LISTED else []
        parts = " + ".join(f"{number} for {part}" for part, number in wanted.items())
        raise DataError(
            f"task {section.source}: too few different texts: {parts} are asked for per label, but "
            + ", ".join(short[:_MOST_LISTED] + more),
            hint=f"ask for fewer with {', '.join(f'{part}_per_label' for part in wanted)}, "
            "or keep the most frequent labels only with labels: N",
        )


def _names(section: TaskSection, data: Labelled) -> tuple[str, ...]:
    """Return the labels to keep, in the order of their numbers where all are numbers, else of the alphabet."""
    counts = Counter(label for text, label in zip(data.texts, data.labels, strict=True) if text and not text.isspace())
    if not counts:
        raise DataError(f"task {section.source}: no row has both a text and a label")
    if len(counts) == 1:
        raise DataError(
            f"task {section.source}: all texts have the label {next(iter(counts))!r}; a task needs at least 2 labels",
            hint=f"check that label: {section.label} names the right column",
        )
    if section.labels is not None and section.labels > len(counts):
        raise DataError(f"task {section.source}: labels: {section.labels} asked for, but the data has {len(counts)}")
    kept = sorted(counts, key=lambda label: (-counts[label], label))[: section.labels]
    return tuple(sorted(kept, key=_label_order))


def _label_order(label: str) -> tuple[int, int, str]:
    number = label.removeprefix("-")
    return (0, int(label), label) if number.isascii() and number.isdigit() else (1, 0, label)


def likeness(text: str) -> str:
    """Return what is the same for texts that count as one: letter case and white space make no difference."""
    return " ".join(text.split()).casefold()


def texts_by_label(data: Labelled, names: Sequence[str], seen: set[str]) -> dict[str, list[str]]:
    """Return the texts of each label that are not empty and not ``seen``, which grows by them."""
    texts: dict[str, list[str]] = {name: [] for name in names}
    for text, label in zip(data.texts, data.labels, strict=True):
        key = likeness(text)
        if label in texts and key and key not in seen:
            seen.add(key)
            texts[label].append(text)
    return texts


def _shuffled(texts: Sequence[str], seed: list[int]) -> list[str]:
    return [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))]


def _split(rows: Sequence[tuple[str, int]], *, seed: list[int]) -> Split:
    order = np.random.default_rng(seed).permutation(len(rows))
    return Split(tuple(rows[i][0] for i in order), tuple(rows[i][1] for i in order))
