"""Draw rows from labelled texts with a seed: each text once, in the proportions of the labels. No torch here."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tlm_search.data.pairs import TextOrPair
from tlm_search.data.rows import Labelled, likeness
from tlm_search.errors import DataError
from tlm_search.space.task import TrainSection

if TYPE_CHECKING:
    from tlm_search.space.task import TaskSection

MOST_LISTED = 5


class Pool:
    """Distinct texts by label in a seeded order. The splits are drawn from it one after another.

    ``reserve`` is the number of texts that each label leaves for train.
    """

    def __init__(
        self, section: TaskSection, texts: Mapping[str, Sequence[TextOrPair]], *, number: int, reserve: int = 0
    ) -> None:
        self._section, self._reserve = section, reserve
        self._left = {name: seeded_order(found, section, name, number) for name, found in texts.items()}
        self.rows = sum(map(len, self._left.values()))

    def require_each(self) -> None:
        """Require a text of each label.

        Raises:
            DataError: labels have no text; the message names them.
        """
        if empty := [name for name, texts in self._left.items() if not texts]:
            raise DataError(
                f"task {self._section.source}: no row is left to train these labels: {listed(empty)}; validation or "
                "test has their texts too, or the same texts have two labels",
                hint="each label needs a row in train: add such rows, or keep only the most frequent labels "
                "with labels: N",
            )

    def draw(self, rows: int, part: str) -> list[tuple[TextOrPair, int]]:
        """Draw ``rows`` for ``part`` in the proportions of the labels.

        Raises:
            DataError: the pool has fewer rows.
        """
        counts = [len(texts) for texts in self._left.values()]
        most = [max(count - self._reserve, 0) for count in counts]
        if rows > sum(most):
            kept = ", of which train needs one for each label" if self._reserve else ""
            raise DataError(
                f"task {self._section.source}: {part} asks for {rows:,} rows, but {sum(counts):,} are left{kept}",
                hint=f"ask for fewer with {part}: ROWS_OR_SHARE, or give more rows",
            )
        return self._take(stratified(counts, rows, least=[0] * len(counts), most=most))

    def draw_train(self, asked: str | TrainSection | None) -> list[tuple[TextOrPair, int]]:
        """Draw the rows that train asks for, at least one row of each label.

        Raises:
            DataError: the pool has fewer rows, or train asks for fewer rows than there are labels.
        """
        counts = [len(texts) for texts in self._left.values()]
        if not isinstance(asked, TrainSection):
            return self._take(counts)
        if asked.per_label is not None:
            return self._take([min(count, asked.per_label) for count in counts])
        assert asked.rows is not None
        if not len(counts) <= asked.rows <= sum(counts):
            raise DataError(
                f"task {self._section.source}: train asks for {asked.rows:,} rows, but {sum(counts):,} are left, and "
                f"each of {len(counts):,} labels needs one",
                hint=f"ask for {len(counts):,} to {sum(counts):,}, or for all with train: all",
            )
        return self._take(stratified(counts, asked.rows, least=[1] * len(counts), most=counts))

    def _take(self, numbers: Sequence[int]) -> list[tuple[TextOrPair, int]]:
        rows = []
        for index, (name, number) in enumerate(zip(list(self._left), numbers, strict=True)):
            rows += [(text, index) for text in self._left[name][:number]]
            self._left[name] = self._left[name][number:]
        return rows


def stratified(counts: Sequence[int], rows: int, *, least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Divide ``rows`` in the proportions of ``counts``, by largest remainders.

    Each number lies between its bounds in ``least`` and ``most``.

    Raises:
        ValueError: ``rows`` lies outside the sums of the bounds.
    """
    if not sum(least) <= rows <= sum(most):
        raise ValueError(f"{rows} rows are not between {sum(least)} and {sum(most)}")
    quotas = rows * np.asarray(counts, dtype=np.float64) / max(sum(counts), 1)
    given = np.clip(np.floor(quotas).astype(np.int64), least, most)
    while (lacking := rows - int(given.sum())) != 0:
        step = 1 if lacking > 0 else -1
        possible = given < np.asarray(most) if step > 0 else given > np.asarray(least)
        given[np.argmax(np.where(possible, step * (quotas - given), -np.inf))] += step
    return [int(number) for number in given]


def texts_by_label(
    data: Labelled,
    names: Sequence[str],
    *,
    taken: Collection[str] = frozenset(),
    dropped: Counter[str] | None = None,
    two_labels: bool = True,
) -> dict[str, list[TextOrPair]]:
    """Return the distinct texts of each label, without those whose likeness is ``taken``.

    If a text has two labels, its first row counts, or no row if ``two_labels`` is False. ``dropped`` counts the skipped
    rows by the reasons of ``REASONS``.
    """
    texts: dict[str, list[TextOrPair]] = {name: [] for name in names}
    keys = [likeness(text) for text in data.texts]
    label_of: dict[str, str | None] = {}  # by likeness: the first label; None if no row of the text counts
    for key, label in zip(keys, data.labels, strict=True):
        if label in texts and label_of.setdefault(key, label) != label and not two_labels:
            label_of[key] = None
    seen: set[str] = set()
    reasons: Counter[str] = Counter() if dropped is None else dropped
    for text, key, label in zip(data.texts, keys, data.labels, strict=True):
        if not key:
            reasons["no_text"] += 1
        elif not label:
            reasons["no_label"] += 1
        elif label not in texts:
            reasons["other_label"] += 1
        elif key in taken:
            reasons["held_out"] += 1
        elif label_of[key] != label:
            reasons["two_labels"] += 1
        elif key in seen:
            reasons["repeated"] += 1
        else:
            seen.add(key)
            texts[label].append(text)
    return texts


def seeded_order(texts: Sequence[TextOrPair], section: TaskSection, name: str, number: int) -> list[TextOrPair]:
    """Return the texts of the label ``name`` in a seeded order that depends on the ``number`` of the pool."""
    seed = [section.seed, zlib.crc32(name.encode()), number]
    return [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))]


def listed(items: Iterable[str]) -> str:
    """Name the first few ``items``, and count the others."""
    shown = list(items)
    return ", ".join(shown[:MOST_LISTED]) + (f" and {len(shown) - MOST_LISTED} more" * (len(shown) > MOST_LISTED))
