"""Split labelled texts into disjoint train, validation and test by a seed, and account for every row.

A task uses all rows in the proportions of their labels, or the same number of rows for each label. Lines of a log are
split by group and time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from tlm_search.data.context import divide_by_group, divide_by_time
from tlm_search.data.drawing import MOST_LISTED, Pool, listed, seeded_order, texts_by_label
from tlm_search.data.pairs import TextOrPair, is_blank
from tlm_search.data.rows import Labelled, RowAccount, Split, Task, likeness
from tlm_search.errors import DataError
from tlm_search.space.task import DEFAULT_SHARE, MOST_OF_DEFAULT_SHARE

if TYPE_CHECKING:
    from tlm_search.space.task import TaskSection

_DRAWN = ("test", "validation")  # before train


def split_task(
    section: TaskSection,
    data: Labelled,
    *,
    validation: Labelled | None = None,
    held_out: Labelled | None = None,
    validation_held_out: bool = False,
) -> Task:
    """Split ``data`` as ``section`` says: first test, then validation, then train.

    Test comes from ``held_out`` if given, else from ``data``. Validation comes from ``validation`` if given, from
    ``held_out`` if ``validation_held_out``, else from ``data``. So fewer training texts do not change validation and
    test. Empty and repeated texts of ``data`` are skipped, and texts that validation or test contains (letter case and
    white space do not count). Lines in context are skipped only if they are empty, or at the border of two splits.

    Raises:
        DataError: the data have only one label, a label has fewer texts than requested or none to train on, or the
            lines have fewer groups than splits.
    """
    names = _names(section, data)
    if section.context is not None:
        return _in_context(section, section.context.rows, data, names, validation, held_out)
    if section.per_label is not None:
        return _balanced(section, section.per_label, data, names, held_out, validation_held_out=validation_held_out)
    return _as_they_are(section, data, names, validation, held_out, validation_held_out=validation_held_out)


def _balanced(
    section: TaskSection,
    wanted: Mapping[str, int],
    data: Labelled,
    names: tuple[str, ...],
    held_out: Labelled | None,
    *,
    validation_held_out: bool,
) -> Task:
    """Draw the ``wanted`` number of rows of each label for each split.

    If a text has two labels, its first row counts.
    """
    dropped: Counter[str] = Counter()
    pools = {}
    taken: frozenset[str] = frozenset()
    if held_out is not None:
        pools["held_out"] = texts_by_label(held_out, names, dropped=dropped)
        taken = frozenset(likeness(text) for texts in pools["held_out"].values() for text in texts)
    pools["data"] = texts_by_label(data, names, taken=taken, dropped=dropped)
    of_test = "data" if held_out is None else "held_out"
    parts = {"test": of_test, "validation": of_test if validation_held_out else "data", "train": "data"}
    for pool, texts in pools.items():
        _require_enough(section, texts, {part: wanted[part] for part, source in parts.items() if source == pool})
    drawn: dict[str, list[tuple[TextOrPair, int]]] = {part: [] for part in parts}
    for index, name in enumerate(names):
        shuffled = {
            pool: iter(seeded_order(texts[name], section, name, number))
            for number, (pool, texts) in enumerate(sorted(pools.items()))
        }
        for part, pool in parts.items():
            drawn[part] += [(text, index) for text in islice(shuffled[pool], wanted[part])]
    splits = {part: _split(rows, seed=[section.seed, number]) for number, (part, rows) in enumerate(drawn.items())}
    return _task(section, names, splits, [data, held_out], dropped)


def _as_they_are(
    section: TaskSection,
    data: Labelled,
    names: tuple[str, ...],
    validation: Labelled | None,
    held_out: Labelled | None,
    *,
    validation_held_out: bool,
) -> Task:
    """Take test and validation whole or as stratified shares, and train on the rest.

    A text with two labels is not used for training, because neither label can be trusted.
    """
    dropped: Counter[str] = Counter()
    splits: dict[str, Split] = {}
    pools: dict[str, Pool] = {}
    taken: set[str] = set()  # likeness of the texts that train must not contain
    for part, rows in (("test", held_out), ("validation", validation)):
        if rows is None:
            continue
        if getattr(section, part) is None and not validation_held_out:
            splits[part] = _whole(section, part, rows, names, taken, dropped)
        else:
            texts = texts_by_label(rows, names, taken=taken, dropped=dropped, two_labels=False)
            pools[part] = Pool(section, texts, number=len(pools) + 1)
        taken |= set(map(likeness, rows.texts)) - {""}
    if validation_held_out:
        pools["validation"] = pools["test"]
    of_train = Pool(
        section, texts_by_label(data, names, taken=taken, dropped=dropped, two_labels=False), number=0, reserve=1
    )
    of_train.require_each()
    share = 0.5 if validation_held_out else DEFAULT_SHARE  # validation and test divide the held-out rows
    drawn = [part for part in _DRAWN if part not in splits]
    wanted = {part: _wanted(section, part, pools.get(part, of_train).rows, share) for part in drawn}
    for number, part in enumerate(_DRAWN):
        if part in wanted:
            splits[part] = _split(pools.get(part, of_train).draw(wanted[part], part), seed=[section.seed, number])
    splits["train"] = _split(of_train.draw_train(section.train), seed=[section.seed, len(_DRAWN)])
    return _task(section, names, splits, [data, validation, held_out], dropped)


def _in_context(
    section: TaskSection,
    reach: int,
    data: Labelled,
    names: tuple[str, ...],
    validation: Labelled | None,
    held_out: Labelled | None,
) -> Task:
    """Split lines by group and time: the last groups are test, the groups before them validation.

    Without groups the last lines are test. Then the ``reach`` lines before test, and before validation, belong to no
    split, so that no context contains a line of another split. Repeated lines stay: their frequency is information.
    """
    dropped: Counter[str] = Counter()
    splits: dict[str, Split] = {}
    for part, own in (("test", held_out), ("validation", validation)):
        if own is not None:
            splits[part] = _last_of(section, part, _whole(section, part, own, names, (), dropped))
    rows_by_time = _usable(data, names, dropped)
    wanted = {part: _wanted(section, part, len(rows_by_time), DEFAULT_SHARE) for part in _DRAWN if part not in splits}
    divide = divide_by_group if data.groups else divide_by_time
    divided = divide(section, reach, data, rows_by_time, wanted)
    place = {name: index for index, name in enumerate(names)}
    for part in wanted:
        rows = divided[part]
        splits[part] = Split(tuple(data.texts[row] for row in rows), tuple(place[data.labels[row]] for row in rows))
    of_train: dict[str, list[TextOrPair]] = {name: [] for name in names}
    for row in divided["train"]:
        of_train[data.labels[row]].append(data.texts[row])
    _require_labels(section, of_train, {part: splits[part] for part in wanted}, names)
    splits["train"] = _split(
        Pool(section, of_train, number=0).draw_train(section.train), seed=[section.seed, len(_DRAWN)]
    )
    if border := len(rows_by_time) - sum(map(len, divided.values())):
        dropped["border"] = border
    return _task(section, names, splits, [data, validation, held_out], dropped)


def _last_of(section: TaskSection, part: str, whole: Split) -> Split:
    """Return the last rows of a separate file or split, as many as ``part`` asks for; all rows if it does not ask.

    Raises:
        DataError: ``part`` asks for more rows than it has.
    """
    if getattr(section, part) is None:
        return whole
    number, most = _wanted(section, part, len(whole.texts), 1), len(whole.texts)
    if number > most:
        raise DataError(
            f"task {section.source}: {part} asks for {number:,} rows, but it has {most:,}",
            hint=f"ask for fewer with {part}: ROWS_OR_SHARE",
        )
    return Split(whole.texts[-number:], whole.labels[-number:])


def _usable(data: Labelled, names: Collection[str], dropped: Counter[str]) -> list[int]:
    """Return the rows with a text and a label of ``names``, sorted by time. ``dropped`` counts the other rows."""
    rows = []
    for row in data.order:
        if is_blank(data.texts[row]):
            dropped["no_text"] += 1
        elif not data.labels[row]:
            dropped["no_label"] += 1
        elif data.labels[row] not in names:
            dropped["other_label"] += 1
        else:
            rows.append(row)
    return rows


def _require_labels(
    section: TaskSection,
    of_train: Mapping[str, Sequence[TextOrPair]],
    parts: Mapping[str, Split],
    names: Sequence[str],
) -> None:
    """Require lines of each label in train, and lines of the positive label in validation and test.

    Raises:
        DataError: a split has no line of such a label; the message names both.
    """
    lacking = [("train", name) for name, texts in of_train.items() if not texts]
    for part, split in parts.items():
        lacking += [(part, name) for i, name in enumerate(names) if name == section.positive and i not in split.labels]
    if lacking:
        part, name = lacking[0]
        raise DataError(
            f"task {section.source}: {part} has no line of the label {name!r}; lines are split by group and time",
            hint="give validation and test another share, name files of your own with test_source and "
            "validation_source, or keep only the most frequent labels with labels: N",
        )


def _task(
    section: TaskSection,
    names: tuple[str, ...],
    splits: Mapping[str, Split],
    read: Sequence[Labelled | None],
    dropped: Counter[str],
) -> Task:
    sizes = {part: len(split.texts) for part, split in splits.items()}
    available = sum(len(rows.texts) for rows in read if rows is not None)
    dropped["not_drawn"] = available - sum(sizes.values()) - dropped.total()
    account = RowAccount(available, **sizes, dropped={reason: count for reason, count in dropped.items() if count})
    return Task(section.source, names, splits["train"], splits["validation"], splits["test"], account)


def _whole(
    section: TaskSection,
    part: str,
    data: Labelled,
    names: Sequence[str],
    taken: Collection[str],
    dropped: Counter[str],
) -> Split:
    """Return all rows of a file or split in their order, except those that are ``taken``."""
    place = {name: index for index, name in enumerate(names)}
    texts, labels, lacking = [], [], []
    unknown: Counter[str] = Counter()
    for number, (text, label) in enumerate(zip(data.texts, data.labels, strict=True), 1):
        if not label:
            lacking.append(number)
        elif label not in place:
            unknown[label] += 1
        elif likeness(text) in taken:
            dropped["held_out"] += 1
        else:
            texts.append(text)
            labels.append(place[label])
    source = getattr(section, f"{part}_source") or section.source
    where = f"task {source}: {part}"
    if section.context is not None:
        dropped["no_label"] += len(lacking)  # other lines have them as context
    elif lacking:
        raise DataError(
            f"{where}: {len(lacking):,} of {len(data.texts):,} rows have no label, the first is row {lacking[0]:,}",
            hint=f"all rows of {part} are used as they are: label these rows, or remove them",
        )
    if section.labels is not None:
        dropped["other_label"] += unknown.total()
    elif unknown:
        shown = listed(f"{name} ({count:,} rows)" for name, count in unknown.most_common())
        raise DataError(
            f"{where} has labels that train lacks: {shown}",
            hint="each label needs a row in train: add such rows, or keep only the most frequent labels with labels: N",
        )
    if not texts:
        why = "has no rows"
        if data.texts:
            why = f"uses none of its {len(data.texts):,} rows: test has their texts too, or labels: N leaves them out"
        raise DataError(f"{where} {why}", hint=f"name another file, or leave {part} to be cut from train")
    return Split(tuple(texts), tuple(labels))


def _wanted(section: TaskSection, part: str, rows: int, share: float) -> int:
    """Return how many of ``rows`` the ``part`` asks for; if the space does not say, a bounded ``share``."""
    asked: float | int | None = getattr(section, part)
    if isinstance(asked, int):
        return asked
    if asked is not None:
        return max(1, round(asked * rows))
    return min(MOST_OF_DEFAULT_SHARE, max(1, round(share * rows)))


def _require_enough(section: TaskSection, texts: Mapping[str, Sequence[TextOrPair]], wanted: Mapping[str, int]) -> None:
    needed = sum(wanted.values())
    short = [f"{name} has {len(found)}" for name, found in texts.items() if len(found) < needed]
    if short:
        more = [f"{len(short) - MOST_LISTED} more labels have too few"] if len(short) > MOST_LISTED else []
        parts = " + ".join(f"{number} for {part}" for part, number in wanted.items())
        raise DataError(
            f"task {section.source}: too few different texts: each label needs {parts}, but "
            + ", ".join(short[:MOST_LISTED] + more),
            hint=f"ask for fewer with {', '.join(f'{part}_per_label' for part in wanted)}, "
            "or keep only the most frequent labels with labels: N",
        )


def _names(section: TaskSection, data: Labelled) -> tuple[str, ...]:
    """Return the labels to keep, sorted as numbers if all are numbers, else alphabetically."""
    rows = zip(data.texts, data.labels, strict=True)
    counts = Counter(label for text, label in rows if label and not is_blank(text))
    if not counts:
        raise DataError(f"task {section.source}: no row has both a text and a label")
    if len(counts) == 1:
        raise DataError(
            f"task {section.source}: all texts have the label {next(iter(counts))!r}; a task needs at least 2 labels",
            hint=f"check that label: {section.label} names the right column",
        )
    if section.labels is not None and section.labels > len(counts):
        raise DataError(f"task {section.source}: labels asks for {section.labels}, but the data have {len(counts)}")
    kept = sorted(counts, key=lambda label: (-counts[label], label))[: section.labels]
    return tuple(sorted(kept, key=_label_order))


def _label_order(label: str) -> tuple[int, int, str]:
    number = label.removeprefix("-")
    return (0, int(label), label) if number.isascii() and number.isdigit() else (1, 0, label)


def _split(rows: Sequence[tuple[TextOrPair, int]], *, seed: list[int]) -> Split:
    order = np.random.default_rng(seed).permutation(len(rows))
    return Split(tuple(rows[i][0] for i in order), tuple(rows[i][1] for i in order))
