"""Which committees to take: the best, and the cheapest that matches the reference.

Candidates are chosen on validation; test figures are only reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.calibration import Calibration, fit_calibration
from tlm_search.committee.candidates import Candidate, Trial, candidates, whole
from tlm_search.committee.frontier import first_bias, right_share
from tlm_search.committee.interval import paired_interval
from tlm_search.committee.metrics import ACCURACY, Metric, interval_keys, largest_contribution, metric_words
from tlm_search.committee.pool import Pool, count_of, pool_of
from tlm_search.committee.verdict import DOES_THE_WORK, HOLDS, IS_ABOVE, Verdict, verdict_of, weaker
from tlm_search.committee.vote import soft_vote
from tlm_search.space.objectives import Constraint
from tlm_search.space.sections import METRICS_OF_ONE_LABEL

Split = Literal["validation", "test"]
SPLITS: tuple[Split, ...] = ("validation", "test")
MARGIN = 0.02  # of the metric that a committee may lose and still match the reference
MAX_PAIRED = 50  # configurations whose logits are read: what is further down is judged by its intervals


@dataclass(frozen=True)
class MemberLogits:
    """Logits (members, rows, classes) of one configuration, and the labels (rows,) and metric they are judged by.

    ``biases`` holds the bias of each label, by the sizes of committees that have one (see ``frontier``).
    """

    validation: NDArray[np.floating]
    test: NDArray[np.floating]
    validation_labels: NDArray[np.integer]
    test_labels: NDArray[np.integer]
    metric: Metric = ACCURACY
    biases: Mapping[int, Sequence[float]] = field(default_factory=dict)

    def of(self, split: Split) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        """Return logits and labels of one split."""
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
        """Return that of the committee of the first ``size`` members, as ``export`` fits it."""
        said = soft_vote(self.validation[:size])
        return fit_calibration(said, self.validation_labels, self.biases.get(size, ()))

    def first(self, size: int) -> MemberLogits:
        """Return those of the first ``size`` members alone."""
        return replace(self, validation=self.validation[:size], test=self.test[:size])


LogitsOf = Callable[[Trial], MemberLogits | None]
Confirmed = Callable[[int, int], Trial | None]  # of the number of a trial and a size: what fresh seeds reached


@dataclass(frozen=True)
class Difference:
    """The metric of a committee minus its rival's, and its 95% interval; ``paired`` row by row, or not.

    Of fewer than all members it is that of the mean over such committees; ``exported`` is then that of the first so
    many, which ``export`` takes (None without logits).
    """

    mean: float
    low: float
    high: float
    paired: bool
    exported: Difference | None = None

    def verdict(self, *, margin: float = 0.0) -> Verdict:
        """Tell whether the committee, and the one that is exported, is better, or not worse by more than ``margin``."""
        own = verdict_of(self.low, self.high, margin=margin)
        return own if self.exported is None else weaker(own, self.exported.verdict(margin=margin))


@dataclass(frozen=True)
class Choice:
    """A candidate that was chosen, and how it stands to the reference on validation and on test.

    To the linear ``baseline`` it stands as ``baseline_difference`` says, on test. ``exported_test_accuracy``
    and ``exported_test_metric`` are those of the members that ``export`` takes, the first ones, where the candidate's
    are means over all committees of its size (None without logits).

    Where the committee was trained once more with fresh seeds, all figures on test are of those members, which nothing
    has chosen: those of the ``candidate``, of a ``reference`` that was confirmed too, and the differences. What the
    search saw is then ``in_search``.
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
        """Whether it matches the reference on validation, where it was chosen; None without a reference."""
        difference = self.validation_difference
        return None if difference is None else difference.verdict(margin=MARGIN) == HOLDS

    @property
    def reference_verdict(self) -> Verdict | None:
        """Whether it does the work of the reference on test, which played no part in the choice; None without one."""
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
            **judged(candidate.row),
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
        """Return the figures on test of the members with fresh seeds; None where there are none."""
        figures = {} if self.in_search is None else judged(self.candidate.row)
        names = ("test_accuracy", "test_accuracy_interval", "test_metric", "test_metric_interval")
        reference = None
        if self.in_search is not None and self.reference != self.in_search.reference:
            reference = self.reference
        return {
            **{f"confirmed_{name}": figures.get(name) for name in names},
            "confirmed_reference_accuracy": None if reference is None else reference.test_accuracy,
            "confirmed_reference_metric": None if reference is None else reference.test_metric,
        }


def judged(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``best --json`` and ``status --json`` say of a record of a frontier.

    That are its accuracies, the ``metric`` of the task by name with its values, and, where the task has a positive
    label, under ``of_label`` each metric of that on test with its interval.
    """
    name = row.get("metric", "accuracy")
    of_label = {
        key: {"test": row[f"test_{key}"], "test_interval": _bounds(row, key)}
        for key in METRICS_OF_ONE_LABEL
        if f"test_{key}" in row
    }
    return {
        "validation_accuracy": row["validation_accuracy"],
        "test_accuracy": row["test_accuracy"],
        "test_accuracy_interval": _bounds(row, "accuracy"),
        "metric": name,
        "validation_metric": row[f"validation_{name}"],
        "test_metric": row[f"test_{name}"],
        "test_metric_interval": _bounds(row, name),
        **({"of_label": of_label} if of_label else {}),
    }


def _bounds(row: Mapping[str, Any], name: str) -> list[float]:
    return [row[key] for key in interval_keys("test", name)]


@dataclass(frozen=True)
class Selection:
    """The ``choices``, best first, and the ``reasons`` in sentences."""

    choices: tuple[Choice, ...]
    reasons: tuple[str, ...]


def select(
    trials: Iterable[Trial],
    reference: Trial | None,
    *,
    baseline: Trial | None = None,
    constraints: Sequence[Constraint] = (),
    match_reference: bool = False,
    max_latency_ms: float | None = None,
    max_parameters: float | None = None,
    top: int = 10,
    logits_of: LogitsOf = lambda _: None,
    confirmed: Confirmed = lambda number, size: None,
) -> Selection:
    """Choose at most ``top`` configurations, one committee size each.

    Without ``match_reference``: the size with the highest metric on validation (the smaller where equal), the best
    configuration first. With it: the smallest size that matches the reference on validation, the cheapest
    configuration first.
    ``constraints`` are those of the study; they, ``max_latency_ms`` and ``max_parameters`` leave out candidates as
    ``pool_of`` says.

    A committee matches (is not inferior) when the lower end of the 95% interval of its metric on validation minus the
    reference's is not below -``MARGIN``. ``logits_of`` gives the logits for the paired bootstrap over rows, in which a
    committee of fewer than all members counts as the mean over such committees, as its metric does; as a single one
    of them can be worse, the first members, which are exported, have to match as well. Without logits the interval is
    made from those of the two metrics (Newcombe 1998, "Interval estimation for the difference between independent
    proportions"), which is wider because it does not know that both met the same rows.

    Test plays no part in the choice: whether what was chosen does the work of the reference, and whether it is better
    than the linear ``baseline``, are the verdicts of the same intervals on test.
    """
    rival = None if reference is None else whole(reference)
    pool = pool_of(
        trials, reference, constraints=constraints, max_latency_ms=max_latency_ms, max_parameters=max_parameters
    )
    reasons = list(pool.reasons)
    if match_reference and rival is None:
        return Selection((), (*reasons, "There is no finished reference, so nothing can match it."))
    comparison = _Comparison(rival, logits_of)
    linear = _Comparison(None if baseline is None else whole(baseline), logits_of)
    if match_reference:
        cost = _cheapest_by([candidate for sizes in pool.by_trial for candidate in sizes])
        choices = _cheapest_matches(pool, comparison, cost=cost, top=top)
        reasons.append(_match_reason(choices, cost, metric="accuracy" if rival is None else rival.metric))
    else:
        choices = [comparison.judge(candidate) for candidate in pool.best()[:top]]
        if choices:
            named = metric_words(choices[0].candidate.metric)
            reasons.append(f"Chosen by the highest validation {named}; the test set played no part.")
    if choices:
        choices = [_with_exported(linear.judge_baseline(choice), logits_of) for choice in choices]
        choices = [_with_confirmed(choice, confirmed, logits_of) for choice in choices]
        reasons += [*_verdict(choices[0]), *_linear_verdict(choices[0]), *_exported_words(choices[0])]
    return Selection(tuple(choices), tuple(reasons))


def standing_of(
    candidate: Candidate,
    reference: Trial | None,
    *,
    baseline: Trial | None,
    logits_of: LogitsOf = lambda _: None,
    confirmed: Confirmed = lambda number, size: None,
) -> Choice:
    """Return how a committee stands to the reference and the baseline, whoever chose it; as `select` does."""
    rivals = (None if rival is None else whole(rival) for rival in (reference, baseline))
    deep, linear = (_Comparison(rival, logits_of) for rival in rivals)
    choice = _with_exported(linear.judge_baseline(deep.judge(candidate)), logits_of)
    return _with_confirmed(choice, confirmed, logits_of)


class _Comparison:
    """Judges candidates against a rival, the reference or the baseline, each split of each candidate once."""

    def __init__(self, reference: Candidate | None, logits_of: LogitsOf) -> None:
        self.reference = reference
        self._logits_of = logits_of
        self._read: set[int] = set()
        self._differences: dict[tuple[int, int, Split], Difference] = {}
        votes = None if reference is None else logits_of(reference.trial)
        self._reference_right = None if votes is None else {split: _right(votes, split) for split in SPLITS}

    def judge(self, candidate: Candidate) -> Choice:
        """Compare on validation and on test."""
        on_test = self._difference(candidate, "test")
        return Choice(candidate, self.reference, self._difference(candidate, "validation"), on_test)

    def judge_baseline(self, choice: Choice) -> Choice:
        """Add to a choice how it stands to the baseline, which is the rival here."""
        difference = self._difference(choice.candidate, "test")
        return replace(choice, baseline=self.reference, baseline_difference=difference)

    def matches(self, candidate: Candidate) -> bool:
        """Compare on validation alone."""
        difference = self._difference(candidate, "validation")
        return difference is not None and difference.verdict(margin=MARGIN) == HOLDS

    def _difference(self, candidate: Candidate, split: Split) -> Difference | None:
        if self.reference is None:
            return None
        key = candidate.trial.number, candidate.size, split
        if key not in self._differences:
            self._differences[key] = self._compare(candidate, self.reference, split)
        return self._differences[key]

    def _compare(self, candidate: Candidate, reference: Candidate, split: Split) -> Difference:
        votes = self._votes_for(candidate.trial)
        if votes is None or self._reference_right is None:
            return _unpaired(_metric(candidate, split), _metric(reference, split))
        theirs, size = self._reference_right[split], candidate.size
        largest = largest_contribution(votes.metric, votes.of(split)[1])
        exported = None
        if size < len(votes.validation):
            first = _right(votes.first(size), split)
            exported = Difference(*paired_interval(first, theirs, largest=largest), paired=True)
        mean = paired_interval(_right(votes, split, size=size), theirs, largest=largest)
        return Difference(*mean, paired=True, exported=exported)

    def _votes_for(self, trial: Trial) -> MemberLogits | None:
        if self._reference_right is None or (trial.number not in self._read and len(self._read) >= MAX_PAIRED):
            return None
        self._read.add(trial.number)
        return self._logits_of(trial)


def _with_exported(choice: Choice, logits_of: LogitsOf) -> Choice:
    """Add to a choice what its first members reach on test; all members are those of the candidate itself."""
    candidate = choice.candidate
    reached: tuple[float, float] | None = None
    if candidate.size == len(candidate.trial.frontier):
        # The metrics hold both unrounded, also in older studies.
        exact, metric = candidate.trial.metrics, candidate.metric
        accuracy = exact.get("test_accuracy", candidate.test_accuracy)
        reached = accuracy, exact.get(f"test_{metric}", candidate.test_metric)
    elif (votes := logits_of(candidate.trial)) is not None:
        first = votes.first(candidate.size)
        reached = float(_right(replace(first, metric=ACCURACY), "test").mean()), float(_right(first, "test").mean())
    if reached is None:
        return choice
    return replace(choice, exported_test_accuracy=reached[0], exported_test_metric=reached[1])


def _with_confirmed(choice: Choice, confirmed: Confirmed, logits_of: LogitsOf) -> Choice:
    """Replace the figures on test by those of fresh seeds, if the study has them."""

    def again(candidate: Candidate | None) -> Candidate | None:
        trial = None if candidate is None else confirmed(candidate.trial.number, candidate.size)
        return None if candidate is None or trial is None else candidates(trial)[candidate.size - 1]

    fresh, fresh_reference = again(choice.candidate), again(choice.reference)
    if fresh is None:
        return choice
    judged = _Comparison(fresh_reference or choice.reference, logits_of).judge(fresh)
    judged = _Comparison(choice.baseline, logits_of).judge_baseline(judged)
    reference = choice.reference
    if reference is not None and fresh_reference is not None:
        reference = _tested_as(fresh_reference, reference)
    return replace(
        choice,
        candidate=_tested_as(fresh, choice.candidate),
        in_search=choice,
        reference=reference,
        # None of the fresh members is exported, so that none of them has to do by itself.
        test_difference=_of_all(judged.test_difference),
        baseline_difference=_of_all(judged.baseline_difference),
    )


def _tested_as(fresh: Candidate, chosen: Candidate) -> Candidate:
    """Return the ``chosen`` committee with the test figures of the ``fresh`` one; validation stays as it chose."""
    on_test = {name: value for name, value in fresh.row.items() if name.startswith("test_")}
    return replace(
        chosen, test_metric=fresh.test_metric, test_interval=fresh.test_interval, row={**chosen.row, **on_test}
    )


def _of_all(difference: Difference | None) -> Difference | None:
    return None if difference is None else replace(difference, exported=None)


def _exported_words(choice: Choice) -> list[str]:
    searched = (choice.in_search or choice).candidate
    size, members = searched.size, len(searched.trial.frontier)
    if size == members or choice.exported_test_metric is None:
        return []
    return [
        f"Its {100 * searched.test_metric:.1f}% on test are the mean over committees of {size} of its "
        f"{members} members; the first {size}, which are exported, have {100 * choice.exported_test_metric:.1f}%."
    ]


def _cheapest_matches(pool: Pool, comparison: _Comparison, *, cost: str, top: int) -> list[Choice]:
    assert comparison.reference is not None
    bar = comparison.reference.validation_metric - MARGIN
    # A lower bound is below its mean, so what is below the bar on average need not be looked at.
    near = [c for sizes in pool.by_trial for c in sizes if c.validation_metric >= bar]
    near.sort(key=lambda c: (_cost(c, cost), c.size, -c.validation_metric, c.trial.number))
    choices: list[Choice] = []
    found: set[int] = set()
    for candidate in near:
        if candidate.trial.number in found:
            continue
        if comparison.matches(candidate):
            found.add(candidate.trial.number)
            choices.append(comparison.judge(candidate))
            if len(choices) == top:
                break
    return choices


def _cheapest_by(pool: Sequence[Candidate]) -> str:
    """Return the cost that all candidates know, the most telling first."""
    for name in ("latency_ms", "parameters"):
        if pool and all(getattr(candidate, name) is not None for candidate in pool):
            return name
    return "size"


def _cost(candidate: Candidate, name: str) -> float:
    return float(getattr(candidate, name))


def _right(votes: MemberLogits, split: Split, *, size: int | None = None) -> NDArray[np.float64]:
    """Return for each row the share of committees of ``size`` (of all members, when not given) that are right."""
    logits, labels = votes.of(split)
    size = size or len(logits)
    return right_share(logits, labels, size=size, metric=votes.metric, bias=votes.bias(split, size=size))


def _metric(candidate: Candidate, split: Split) -> tuple[float, float, float]:
    if split == "test":
        return candidate.test_metric, *candidate.test_interval
    return candidate.validation_metric, *candidate.validation_interval


def _unpaired(ours: tuple[float, float, float], theirs: tuple[float, float, float]) -> Difference:
    (a, a_low, a_high), (b, b_low, b_high) = ours, theirs
    below, above = math.hypot(a - a_low, b_high - b), math.hypot(a_high - a, b - b_low)
    return Difference(a - b, a - b - below, a - b + above, paired=False)


def _match_reason(choices: Sequence[Choice], cost: str, *, metric: str) -> str:
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


def _verdict(choice: Choice) -> list[str]:
    if choice.reference_verdict is None or choice.test_difference is None:
        return []
    return [_on_test(choice, f"{DOES_THE_WORK[choice.reference_verdict]} the reference", choice.test_difference)]


def _linear_verdict(choice: Choice) -> list[str]:
    if choice.baseline_verdict is None or choice.baseline_difference is None:
        return []
    return [_on_test(choice, f"{IS_ABOVE[choice.baseline_verdict]} the linear model", choice.baseline_difference)]


def _on_test(choice: Choice, stands: str, difference: Difference) -> str:
    how = "paired bootstrap over the test rows" if difference.paired else "from the two intervals; no logits at hand"
    if (first := difference.exported) is not None:
        how += f"; its first members, which are exported, {_points(first.mean)}, from {_points(first.low)}"
    who = f"trial {choice.candidate.trial.number} with {count_of(choice.candidate.size, 'member')}"
    interval = f"95% interval {_points(difference.low)} to {_points(difference.high)}"
    return f"On test, {who} {stands}: {_points(difference.mean)} points, {interval} ({how})."


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}"  # + 0.0: never -0.0
