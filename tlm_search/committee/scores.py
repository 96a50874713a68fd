"""The scores of the committees of one size, and the form in which studies store them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tlm_search.committee.metrics import interval_keys
from tlm_search.space.task import METRICS_OF_ALL_LABELS, METRICS_OF_ONE_LABEL

Interval = tuple[float, float]

# Names of figures by their key in stored rows, where the two differ.
_NAMES = {f"{split}_{end}": f"{split}_accuracy_{end}" for split in ("validation", "test") for end in ("low", "high")}
_KEYS = {name: key for key, name in _NAMES.items()}
# Stored exactly, so that they equal the figures of `predict --label` to the last digit.
_EXACT = frozenset(f"test_{name}" for name in METRICS_OF_ALL_LABELS + METRICS_OF_ONE_LABEL)


@dataclass(frozen=True)
class CommitteeScores:
    """The scores of the committees of one ``size``.

    ``figures`` maps names, which are the same in metrics, tables and pages, to numbers:

    - ``test_accuracy`` and other metrics, the mean over the committees, whose number is ``subsets``;
    - ``test_accuracy_low`` and ``test_accuracy_high``, its 95% interval, which only some metrics have;
    - ``subset_low`` and ``subset_high``, which contain the test metric of 95% of the subsets;
    - ``latency_ms`` and other costs, if they are known for this size.

    ``metric`` is the name of the task's metric. ``bias`` has one number for each label if it raises the metric,
    otherwise it is empty (see ``frontier``).
    """

    size: int
    subsets: int
    figures: Mapping[str, float]
    metric: str = "accuracy"
    bias: tuple[float, ...] = ()

    def mean(self, split: str, name: str) -> float:
        """Return a metric on one split."""
        return self.figures[f"{split}_{name}"]

    def interval(self, split: str, name: str) -> Interval:
        """Return the 95% interval of a metric on one split."""
        low, high = interval_keys(split, name)
        return self.figures[low], self.figures[high]

    def has_interval(self, split: str, name: str) -> bool:
        """Return whether a metric on one split has an interval."""
        return interval_keys(split, name)[0] in self.figures

    def having(self, figures: Mapping[str, float]) -> CommitteeScores:
        """Return the scores with these figures added or replaced."""
        return replace(self, figures={**self.figures, **figures})

    def metrics(self) -> dict[str, float]:
        """Return all means, and the test intervals of accuracy and of the task's metric."""
        bounds = {*interval_keys("test", "accuracy"), *interval_keys("test", self.metric)}
        return {
            name: value
            for name, value in self.figures.items()
            if name in bounds or (name.startswith(("validation_", "test_")) and not name.endswith(("_low", "_high")))
        }

    def stored(self) -> dict[str, Any]:
        """Return the scores as a JSON object with the keys that all versions write.

        Numbers have six digits, more than a test set can show, because storages have limits and journals grow. Only
        metrics on test are exact. A number that is not finite is None.
        """
        row: dict[str, Any] = {"size": self.size, "subsets": self.subsets}
        for name, value in self.figures.items():
            row[_KEYS.get(name, name)] = value if name in _EXACT else _rounded(value)
        if self.metric != "accuracy":
            row["metric"] = self.metric
        if self.bias:
            row["bias"] = list(self.bias)
        return row

    @classmethod
    def from_stored(cls, row: Mapping[str, Any]) -> CommitteeScores:
        """Rebuild from ``stored``."""
        figures = {_NAMES.get(key, key): value for key, value in row.items() if value is not None}
        size, subsets, metric = figures.pop("size"), figures.pop("subsets"), figures.pop("metric", "accuracy")
        return cls(size, subsets, figures, metric, tuple(figures.pop("bias", ())))


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None  # JSON has no NaN
