"""The score of a committee on texts with known labels: over all, by label, and the largest confusions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tlm_search.committee.interval import accuracy_interval
from tlm_search.data.pairs import TextOrPair, is_blank


@dataclass(frozen=True)
class LabelScore:
    """The score of one label, which is the true one of ``rows`` rows.

    ``precision`` is None if the committee never names the label, ``recall`` if no row has it, ``f1`` if both are None.
    """

    label: str
    rows: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Confusion:
    """The number of ``rows`` with the ``label`` for which the committee names ``predicted``."""

    label: str
    predicted: str
    rows: int


@dataclass(frozen=True)
class Score:
    """Figures of the ``scored`` rows out of ``rows``; the other rows have no label.

    ``without_text`` of the scored rows have an empty text, which is answered too. ``unknown_labels`` maps each label
    that the committee does not know to its number of rows. These rows count as wrong; ``accuracy_of_known_labels``
    leaves them out (None if there are no others). ``macro_f1`` is the mean over the labels that a row has or the
    committee names.
    """

    rows: int
    scored: int
    without_text: int
    without_label: int
    right: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    labels: tuple[LabelScore, ...]
    confusions: tuple[Confusion, ...]
    unknown_labels: Mapping[str, int]
    accuracy_of_known_labels: float | None

    def to_document(self) -> dict[str, Any]:
        """Return the score as JSON."""
        return asdict(self)


def score(known: Sequence[str], texts: Sequence[TextOrPair], labels: Sequence[str], predicted: Sequence[str]) -> Score:
    """Compare the ``predicted`` labels of ``texts`` with the true ``labels``, which are empty for rows without one.

    ``known`` are the labels of the committee in its order. The figures are computed as in scikit-learn.

    Raises:
        ValueError: no row has a label.
    """
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

    rows = [row for row in zip(labels, predicted, strict=True) if row[0]]
    if not rows:
        raise ValueError(f"none of the {len(labels):,} rows has a label")
    unknown = Counter(label for label, _ in rows if label not in known)
    names = [*known, *sorted(unknown)]
    place = {name: number for number, name in enumerate(names)}
    true, named = np.array([[place[label], place[answer]] for label, answer in rows]).T
    by_label = precision_recall_fscore_support(true, named, labels=range(len(names)), zero_division=math.nan)
    precision, recall, f1, counts = (values.tolist() for values in by_label)
    right = true == named
    confused = Counter(row for row in rows if row[0] != row[1])
    ranked = sorted(confused, key=lambda row: (-confused[row], place[row[0]], place[row[1]]))
    right_of_known = right[true < len(known)]
    return Score(
        rows=len(labels),
        scored=len(rows),
        without_text=sum(is_blank(text) for text, label in zip(texts, labels, strict=True) if label),
        without_label=len(labels) - len(rows),
        right=int(right.sum()),
        accuracy=float(accuracy_score(true, named)),
        accuracy_interval=accuracy_interval(right.astype(np.float64)),
        macro_f1=float(f1_score(true, named, average="macro")),
        labels=tuple(map(LabelScore, names, counts, *(map(_defined, values) for values in (precision, recall, f1)))),
        confusions=tuple(Confusion(*row, confused[row]) for row in ranked),
        unknown_labels=dict(sorted(unknown.items(), key=lambda item: (-item[1], item[0]))),
        accuracy_of_known_labels=float(right_of_known.mean()) if len(right_of_known) else None,
    )


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
