"""The logits of a configuration's members on validation and test, with the labels and the metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.calibration import Calibration, fit_calibration
from tlm_search.committee.candidates import Trial
from tlm_search.committee.frontier import first_bias, right_share
from tlm_search.committee.metrics import ACCURACY, Metric
from tlm_search.committee.vote import soft_vote

Split = Literal["validation", "test"]
SPLITS: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True)
class MemberLogits:
    """Logits (members, rows, classes) of one configuration, its labels (rows,) and the metric of the task.

    ``biases`` maps committee sizes to the bias of each label; sizes without a bias are missing (see ``frontier``).
    """

    validation: NDArray[np.floating]
    test: NDArray[np.floating]
    validation_labels: NDArray[np.integer]
    test_labels: NDArray[np.integer]
    metric: Metric = ACCURACY
    biases: Mapping[int, Sequence[float]] = field(default_factory=dict)

    def of(self, split: Split) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        """Return the logits and the labels of one split."""
        return getattr(self, split), getattr(self, f"{split}_labels")

    def bias(self, split: Split, *, size: int) -> NDArray[np.float64] | None:
        """Return what committees of ``size`` add to their log-probabilities, (rows or 1, classes), or None."""
        if size not in self.biases:
            return None
        if split == "test":
            return np.asarray(self.biases[size])[None]
        bias = first_bias(self.validation, self.validation_labels, size=size, metric=self.metric)
        return None if bias is None else bias.on(split)

    def calibration(self, *, size: int) -> Calibration:
        """Return the calibration of the first ``size`` members, as ``export`` fits it."""
        votes = soft_vote(self.validation[:size])
        return fit_calibration(votes, self.validation_labels, self.biases.get(size, ()))

    def first(self, size: int) -> MemberLogits:
        """Return the logits of the first ``size`` members."""
        return replace(self, validation=self.validation[:size], test=self.test[:size])

    def right(self, split: Split, *, size: int | None = None) -> NDArray[np.float64]:
        """Return for each row the share of committees of ``size`` that are right, (rows,); all members by default."""
        logits, labels = self.of(split)
        size = size or len(logits)
        return right_share(logits, labels, size=size, metric=self.metric, bias=self.bias(split, size=size))


LogitsOf = Callable[[Trial], MemberLogits | None]
