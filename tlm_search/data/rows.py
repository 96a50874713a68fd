"""The labelled rows of a task: as read, split, and counted.

An account has the number of rows, the number that each split uses, and why the other rows are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tlm_search.data.pairs import Line, Pair, TextOrPair, is_blank, own_segments

# Reasons why a row is in no split, in the order in which messages list them.
REASONS = {
    "no_text": "without a text",
    "no_label": "without a label",
    "repeated": "repeated",
    "two_labels": "with the same text under two labels",
    "held_out": "that validation or test has too",
    "border": "between two splits, only in contexts of the later split",
    "other_label": "of less frequent labels, which the space leaves out",
    "not_drawn": "not drawn",
}
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class RowAccount:
    """The numbers of ``available`` rows, of the rows of each split, and of ``dropped`` rows by ``REASONS``.

    The rows of all splits and the dropped rows add up to the available rows.
    """

    available: int
    train: int
    validation: int
    test: int
    dropped: Mapping[str, int]

    def to_document(self) -> dict[str, Any]:
        """Return the account as JSON."""
        dropped = {reason: self.dropped[reason] for reason in REASONS if self.dropped.get(reason)}
        return {
            "available": self.available,
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
            "dropped": dropped,
        }


@dataclass(frozen=True)
class Labelled:
    """Texts, or pairs of texts, with their labels as the user wrote them. A missing label is empty.

    Lines in context also have ``groups`` (empty without groups) and ``order``, the rows sorted by time.
    """

    texts: Sequence[TextOrPair]
    labels: Sequence[str]
    groups: Sequence[str] = ()
    order: Sequence[int] = ()


@dataclass(frozen=True)
class Split:
    """Texts with their labels as indices into ``Task.labels``."""

    texts: tuple[TextOrPair, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A classification task with its splits. ``account`` is None if the rows were not counted."""

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    account: RowAccount | None = None

    def held_out(self) -> frozenset[str]:
        """Return the ``likeness`` of each text of validation and test, and of both texts of each pair.

        For a log, lines that train contains too are left out, because the same lines come again and again.
        """
        texts = self.validation.texts + self.test.texts
        parts = frozenset(likeness(part) for text in texts for part in own_segments(text))
        if any(isinstance(text, Line) for text in texts):
            return parts.difference(likeness(part) for text in self.train.texts for part in own_segments(text))
        return parts.union(map(likeness, texts))


def account_of(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the account of ``PreparedData`` as JSON. Data of older versions have only the rows of the splits.

    Return None if no data are prepared yet.
    """
    if data.get("account"):
        return dict(data["account"])
    rows = data.get("rows", {})
    if not all(part in rows for part in PARTS):
        return None
    return {"available": None, **{part: rows[part] for part in PARTS}, "dropped": {}}


def account_words(account: Mapping[str, Any]) -> str:
    """Write an account, given as JSON, in one line."""
    used = ", ".join(f"{account[part]:,} {part}" for part in PARTS)
    return used if account["available"] is None else f"{used} of {account['available']:,} rows; {unused_words(account)}"


def unused_words(account: Mapping[str, Any]) -> str:
    """Say how many rows are not used, and why."""
    dropped = [
        f"{account['dropped'][reason]:,} {words}" for reason, words in REASONS.items() if account["dropped"].get(reason)
    ]
    return f"not used: {', '.join(dropped)}" if dropped else "all are used"


def likeness(text: TextOrPair) -> str:
    """Return a key that is equal for texts that count as the same: letter case and white space do not matter.

    The key is empty for a blank text, and for a pair with a blank text.
    """
    if isinstance(text, Pair):
        return "" if is_blank(text) else "\n".join(map(likeness, text))  # the key of a text contains no line feed
    return " ".join(text.split()).casefold()
