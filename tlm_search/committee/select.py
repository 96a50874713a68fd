"""Choose committees: the best, or the cheapest that match the reference.

Validation decides every choice. Test figures are only reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from tlm_search.committee.candidates import Candidate, Trial, candidates, whole
from tlm_search.committee.choice import Choice, match_reason, reasons_of
from tlm_search.committee.interval import paired_interval
from tlm_search.committee.logits import SPLITS, LogitsOf, MemberLogits, Split
from tlm_search.committee.metrics import ACCURACY, largest_contribution, metric_words
from tlm_search.committee.pool import Pool, pool_of
from tlm_search.committee.verdict import HOLDS, MARGIN, Difference, unpaired
from tlm_search.space.objectives import Constraint

MAX_PAIRED = 50  # configurations whose logits are read; the others are compared by their intervals


Confirmed = Callable[[int, int], Trial | None]  # trial number, committee size -> the trial with fresh seeds


@dataclass(frozen=True)
class Selection:
    """The ``choices``, best first, and sentences on how they were chosen and how the first one compares."""

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

    By default, take of each configuration the size with the highest metric on validation (the smaller of equal ones),
    and sort the configurations by it. With ``match_reference``, take of each the cheapest size that matches the
    reference on validation, and sort them by cost. ``constraints`` (those of the study), ``max_latency_ms`` and
    ``max_parameters`` exclude candidates as ``pool_of`` says.

    A committee matches the reference if it is not inferior: the lower end of the 95% interval of its metric on
    validation minus the reference's is not below -``MARGIN``. ``logits_of`` returns the logits for a paired bootstrap
    over rows. A committee of fewer members than were trained counts as the mean over such committees. A single one of
    them can be worse, so the first members, which are exported, have to match as well. Without logits the interval is
    computed from those of the two metrics (see ``unpaired``). It is then wider, because it does not use that both
    answered the same rows.

    Test does not influence the choice. The same intervals on test give the verdicts on the reference and on the linear
    ``baseline``. ``confirmed`` returns the trial with fresh seeds of a trial number and a size; its test figures
    replace those of the search.
    """
    deep = None if reference is None else whole(reference)
    pool = pool_of(
        trials, reference, constraints=constraints, max_latency_ms=max_latency_ms, max_parameters=max_parameters
    )
    reasons = list(pool.reasons)
    if match_reference and deep is None:
        return Selection((), (*reasons, "The study has no finished reference that a committee could match."))
    comparison = _Comparison(deep, logits_of)
    linear = _Comparison(None if baseline is None else whole(baseline), logits_of)
    if match_reference:
        cost = _cheapest_by([candidate for sizes in pool.by_trial for candidate in sizes])
        choices = _cheapest_matches(pool, comparison, cost=cost, top=top)
        reasons.append(match_reason(choices, cost, metric="accuracy" if deep is None else deep.metric))
    else:
        choices = [comparison.judge(candidate) for candidate in pool.best()[:top]]
        if choices:
            named = metric_words(choices[0].candidate.metric)
            reasons.append(f"Chosen by the highest validation {named}; the test set had no influence.")
    if choices:
        choices = [_with_exported(linear.judge_baseline(choice), logits_of) for choice in choices]
        choices = [_with_confirmed(choice, confirmed, logits_of) for choice in choices]
        reasons += reasons_of(choices[0])
    return Selection(tuple(choices), tuple(reasons))


def standing_of(
    candidate: Candidate,
    reference: Trial | None,
    *,
    baseline: Trial | None,
    logits_of: LogitsOf,
    confirmed: Confirmed = lambda number, size: None,
) -> Choice:
    """Compare a committee with the reference and the baseline as ``select`` does, without choosing it."""
    rivals = (None if rival is None else whole(rival) for rival in (reference, baseline))
    deep, linear = (_Comparison(rival, logits_of) for rival in rivals)
    choice = _with_exported(linear.judge_baseline(deep.judge(candidate)), logits_of)
    return _with_confirmed(choice, confirmed, logits_of)


class _Comparison:
    """Compares candidates with a rival (the reference or the baseline), each split of each candidate once."""

    def __init__(self, rival: Candidate | None, logits_of: LogitsOf) -> None:
        self.rival = rival
        self._logits_of = logits_of
        self._read: set[int] = set()
        self._differences: dict[tuple[int, int, Split], Difference] = {}
        votes = None if rival is None else logits_of(rival.trial)
        self._rival_right = None if votes is None else {split: votes.right(split) for split in SPLITS}

    def judge(self, candidate: Candidate) -> Choice:
        """Return a candidate as a choice, with its differences to the rival, the reference, on both splits."""
        on_test = self._difference(candidate, "test")
        return Choice(candidate, self.rival, self._difference(candidate, "validation"), on_test)

    def judge_baseline(self, choice: Choice) -> Choice:
        """Add to a choice its difference to the rival, the baseline, on test."""
        difference = self._difference(choice.candidate, "test")
        return replace(choice, baseline=self.rival, baseline_difference=difference)

    def matches(self, candidate: Candidate) -> bool:
        """Return whether a candidate matches the rival on validation."""
        difference = self._difference(candidate, "validation")
        return difference is not None and difference.verdict(margin=MARGIN) == HOLDS

    def _difference(self, candidate: Candidate, split: Split) -> Difference | None:
        if self.rival is None:
            return None
        key = candidate.trial.number, candidate.size, split
        if key not in self._differences:
            self._differences[key] = self._compare(candidate, self.rival, split)
        return self._differences[key]

    def _compare(self, candidate: Candidate, rival: Candidate, split: Split) -> Difference:
        votes = self._votes_for(candidate.trial)
        if votes is None or self._rival_right is None:
            return unpaired(_metric(candidate, split), _metric(rival, split))
        theirs, size = self._rival_right[split], candidate.size
        largest = largest_contribution(votes.metric, votes.of(split)[1])
        exported = None
        if size < len(votes.validation):
            first = votes.first(size).right(split)
            exported = Difference(*paired_interval(first, theirs, largest=largest), paired=True)
        mean = paired_interval(votes.right(split, size=size), theirs, largest=largest)
        return Difference(*mean, paired=True, exported=exported)

    def _votes_for(self, trial: Trial) -> MemberLogits | None:
        if self._rival_right is None or (trial.number not in self._read and len(self._read) >= MAX_PAIRED):
            return None
        self._read.add(trial.number)
        return self._logits_of(trial)


def _with_exported(choice: Choice, logits_of: LogitsOf) -> Choice:
    """Add to a choice the test metric of its first members, which are exported."""
    candidate = choice.candidate
    reached: tuple[float, float] | None = None
    if candidate.size == len(candidate.trial.frontier):
        # All members are exported. The trial's metrics hold both figures unrounded, also in older studies.
        exact, metric = candidate.trial.metrics, candidate.metric
        accuracy = exact.get("test_accuracy", candidate.test_accuracy)
        reached = accuracy, exact.get(f"test_{metric}", candidate.test_metric)
    elif (votes := logits_of(candidate.trial)) is not None:
        first = votes.first(candidate.size)
        reached = float(replace(first, metric=ACCURACY).right("test").mean()), float(first.right("test").mean())
    if reached is None:
        return choice
    return replace(choice, exported_test_accuracy=reached[0], exported_test_metric=reached[1])


def _with_confirmed(choice: Choice, confirmed: Confirmed, logits_of: LogitsOf) -> Choice:
    """Replace the test figures by those of fresh seeds, if the study has them."""

    def with_fresh_seeds(candidate: Candidate | None) -> Candidate | None:
        trial = None if candidate is None else confirmed(candidate.trial.number, candidate.size)
        return None if candidate is None or trial is None else candidates(trial)[candidate.size - 1]

    fresh, fresh_reference = with_fresh_seeds(choice.candidate), with_fresh_seeds(choice.reference)
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
        # The fresh members are not exported, so their first ones need no verdict of their own.
        test_difference=_of_all(judged.test_difference),
        baseline_difference=_of_all(judged.baseline_difference),
    )


def _tested_as(fresh: Candidate, chosen: Candidate) -> Candidate:
    """Return the ``chosen`` committee with the test figures of the ``fresh`` one."""
    on_test = {name: value for name, value in fresh.scores.figures.items() if name.startswith("test_")}
    return replace(chosen, scores=chosen.scores.having(on_test))


def _of_all(difference: Difference | None) -> Difference | None:
    return None if difference is None else replace(difference, exported=None)


def _cheapest_matches(pool: Pool, comparison: _Comparison, *, cost: str, top: int) -> list[Choice]:
    assert comparison.rival is not None
    bar = comparison.rival.validation_metric - MARGIN
    # The interval contains the mean, so a candidate whose mean misses the bar cannot match.
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
    """Return the name of the cost to sort by: the first of latency, parameters and size that all candidates have."""
    for name in ("latency_ms", "parameters"):
        if pool and all(getattr(candidate, name) is not None for candidate in pool):
            return name
    return "size"


def _cost(candidate: Candidate, name: str) -> float:
    return float(getattr(candidate, name))


def _metric(candidate: Candidate, split: Split) -> tuple[float, float, float]:
    if split == "test":
        return candidate.test_metric, *candidate.test_interval
    return candidate.validation_metric, *candidate.validation_interval
