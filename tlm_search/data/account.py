"""Where the rows of a task went: how many there are, which part uses how many, and why the others are not used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Why a row is in no part, in the order in which it is said.
REASONS = {
    "no_text": "without a text",
    "no_label": "without a label",
    "repeated": "repeated",
    "two_labels": "with the same text under two labels",
    "held_out": "that validation or test has too",
    "border": "between two parts, which only the contexts of the later part have",
    "other_label": "of other labels than the most frequent ones that are kept",
    "not_drawn": "not drawn",
}
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class RowAccount:
    """How many rows are ``available``, are used by each part, and are ``dropped``, by the keys of ``REASONS``.

    Those of all parts and those dropped are together the available ones.
    """

    available: int
    train: int
    validation: int
    test: int
    dropped: Mapping[str, int]

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        dropped = {reason: self.dropped[reason] for reason in REASONS if self.dropped.get(reason)}
        return {
            "available": self.available,
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
            "dropped": dropped,
        }


def account_of(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the account in ``PreparedData`` as JSON: of data that were prepared before there was one only the parts.

    None where nothing is prepared yet.
    """
    if data.get("account"):
        return dict(data["account"])
    rows = data.get("rows", {})
    if not all(part in rows for part in PARTS):
        return None
    return {"available": None, **{part: rows[part] for part in PARTS}, "dropped": {}}


def account_words(account: Mapping[str, Any]) -> str:
    """Say an account, as JSON, in one line."""
    used = ", ".join(f"{account[part]:,} {part}" for part in PARTS)
    return used if account["available"] is None else f"{used} of {account['available']:,} rows; {unused_words(account)}"


def unused_words(account: Mapping[str, Any]) -> str:
    """Say which rows are not used, and why."""
    dropped = [
        f"{account['dropped'][reason]:,} {words}" for reason, words in REASONS.items() if account["dropped"].get(reason)
    ]
    return f"not used: {', '.join(dropped)}" if dropped else "all are used"
