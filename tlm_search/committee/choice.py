"""A committee that was chosen: how it compares with the reference and the linear model, as JSON and in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tlm_search.committee.candidates import Candidate
from tlm_search.committee.metrics import metric_words
from tlm_search.committee.pool import count_of
from tlm_search.committee.scores import CommitteeScores
from tlm_search.committee.verdict import DOES_THE_WORK, HOLDS, IS_ABOVE, MARGIN, Difference, Verdict
from tlm_search.space.task import METRICS_OF_ONE_LABEL


@dataclass(frozen=True)
class Choice:
    """A chosen candidate and how it compares with the reference and the linear baseline.

    ``validation_difference`` and ``test_difference`` compare it with the ``reference``, ``baseline_difference`` with
    the ``baseline`` on test. The candidate's figures are means over all committees of its size.
    ``exported_test_accuracy`` and ``exported_test_metric`` are those of its first members, which ``export`` takes (None
    without logits).

    If the committee was confirmed, all test figures are those of fresh members that no search has chosen: the figures
    of the ``candidate``, of a ``reference`` that was confirmed too, and the differences. ``in_search`` then holds the
    choice with the figures of the search.
    """

    candidate: Candidate
    reference: Candidate | None
    validation_difference: Difference | None
    test_difference: Difference | None
    baseline: Candidate | None = None
    baseline_difference: Difference | None = None
    exported_test_accuracy: float | None = None
    exported_test_metric: float | None = None
    in_search: Choice | None = None

    @property
    def matches_on_validation(self) -> bool | None:
        """Whether it matches the reference on validation, on which it was chosen; None without a reference."""
        difference = self.validation_difference
        return None if difference is None else difference.verdict(margin=MARGIN) == HOLDS

    @property
    def reference_verdict(self) -> Verdict | None:
        """Whether it does the work of the reference on test, which no choice has seen; None without a reference."""
        return None if self.test_difference is None else self.test_difference.verdict(margin=MARGIN)

    @property
    def baseline_verdict(self) -> Verdict | None:
        """Whether it is better than the linear model on test; None without a baseline."""
        return None if self.baseline_difference is None else self.baseline_difference.verdict()

    @property
    def matches_reference(self) -> bool | None:
        """Whether ``reference_verdict`` holds."""
        return None if self.reference_verdict is None else self.reference_verdict == HOLDS

    @property
    def beats_baseline(self) -> bool | None:
        """Whether ``baseline_verdict`` holds."""
        return None if self.baseline_verdict is None else self.baseline_verdict == HOLDS

    def to_document(self) -> dict[str, Any]:
        """Return the entry that ``best --json`` prints."""
        searched = self.in_search or self
        candidate, reference = searched.candidate, searched.reference
        return {
            "trial": candidate.trial.number,
            "params": dict(candidate.trial.params),
            "committee_size": candidate.size,
            **judged(candidate.scores),
            "latency_ms": candidate.latency_ms,
            "parameters": candidate.parameters,
            "reference_accuracy": None if reference is None else reference.test_accuracy,
            "baseline_accuracy": None if self.baseline is None else self.baseline.test_accuracy,
            "reference_metric": None if reference is None else reference.test_metric,
            "baseline_metric": None if self.baseline is None else self.baseline.test_metric,
            "matches_reference": self.matches_reference,
            "beats_baseline": self.beats_baseline,
            "reference_verdict": self.reference_verdict,
            "baseline_verdict": self.baseline_verdict,
            "exported_test_accuracy": self.exported_test_accuracy,
            "exported_test_metric": self.exported_test_metric,
            **self._confirmed_figures(),
        }

    def _confirmed_figures(self) -> dict[str, Any]:
        """Return the test figures of the members with fresh seeds; None if the choice was not confirmed."""
        figures = {} if self.in_search is None else judged(self.candidate.scores)
        names = ("test_accuracy", "test_accuracy_interval", "test_metric", "test_metric_interval")
        reference = None
        if self.in_search is not None and self.reference != self.in_search.reference:
            reference = self.reference
        return {
            **{f"confirmed_{name}": figures.get(name) for name in names},
            "confirmed_reference_accuracy": None if reference is None else reference.test_accuracy,
            "confirmed_reference_metric": None if reference is None else reference.test_metric,
        }


def judged(scores: CommitteeScores) -> dict[str, Any]:
    """Return the figures of committees that ``best --json`` and ``status --json`` print.

    They are the accuracies, the name of the task's ``metric`` and its values. If the task has a positive label,
    ``of_label`` holds each metric of that label on test with its interval.
    """
    name = scores.metric
    of_label = {
        key: {"test": scores.mean("test", key), "test_interval": list(scores.interval("test", key))}
        for key in METRICS_OF_ONE_LABEL
        if f"test_{key}" in scores.figures
    }
    return {
        "validation_accuracy": scores.mean("validation", "accuracy"),
        "test_accuracy": scores.mean("test", "accuracy"),
        "test_accuracy_interval": list(scores.interval("test", "accuracy")),
        "metric": name,
        "validation_metric": scores.mean("validation", name),
        "test_metric": scores.mean("test", name),
        "test_metric_interval": list(scores.interval("test", name)),
        **({"of_label": of_label} if of_label else {}),
    }


def reasons_of(choice: Choice) -> list[str]:
    """Compare a choice with the reference and the linear model on test, and say what its exported members reach."""
    return [*_reference_reason(choice), *_linear_reason(choice), *_exported_reason(choice)]


def match_reason(choices: Sequence[Choice], cost: str, *, metric: str) -> str:
    """Say by which cost the committees that match the reference were chosen, or that none matches."""
    words = {"latency_ms": "the lowest latency", "parameters": "the fewest parameters", "size": "the fewest members"}
    if not choices:
        return (
            f"No committee matches the reference: the lower end of the 95% interval of the difference in validation "
            f"{metric_words(metric)} must not be below -{100 * MARGIN:g} points."
        )
    return (
        f"Chosen by {words[cost]} of those that match: the lower end of the 95% interval of the difference in "
        f"validation {metric_words(metric)} is not below -{100 * MARGIN:g} points."
    )


def _reference_reason(choice: Choice) -> list[str]:
    if choice.reference_verdict is None or choice.test_difference is None:
        return []
    return [_on_test(choice, f"{DOES_THE_WORK[choice.reference_verdict]} the reference", choice.test_difference)]


def _linear_reason(choice: Choice) -> list[str]:
    if choice.baseline_verdict is None or choice.baseline_difference is None:
        return []
    return [_on_test(choice, f"{IS_ABOVE[choice.baseline_verdict]} the linear model", choice.baseline_difference)]


def _exported_reason(choice: Choice) -> list[str]:
    searched = (choice.in_search or choice).candidate
    size, members = searched.size, len(searched.trial.frontier)
    if size == members or choice.exported_test_metric is None:
        return []
    return [
        f"Its {100 * searched.test_metric:.1f}% on test are the mean over committees of {size} of its "
        f"{members} members; the first {size}, which are exported, have {100 * choice.exported_test_metric:.1f}%."
    ]


def _on_test(choice: Choice, verdict: str, difference: Difference) -> str:
    how = "paired bootstrap over the test rows" if difference.paired else "from the two intervals, without logits"
    if (first := difference.exported) is not None:
        how += f"; its first members, which are exported, {_points(first.mean)}, from {_points(first.low)}"
    committee = f"trial {choice.candidate.trial.number} with {count_of(choice.candidate.size, 'member')}"
    interval = f"95% interval {_points(difference.low)} to {_points(difference.high)}"
    return f"On test, {committee} {verdict}: {_points(difference.mean)} points, {interval} ({how})."


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}"  # adding 0 turns -0.0 into 0.0
