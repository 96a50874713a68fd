"""Estimate how long a run still takes: first from its operations, then from the time of its own jobs. No Ray here.

A job is a trial or a try of the reference. Each job has a cost. Finished and running jobs show how many seconds a unit
of cost takes, and how long a job takes to start. Work that a job found in a checkpoint or in the store says nothing
about the speed. The interval should contain the true time in four of five runs. It includes the spread of the costs of
future trials, and the uncertainty of the speed.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from tlm_search.cost.plan import DataSizes, committee_cost, draw, plan
from tlm_search.cost.sizing import guessed_seconds
from tlm_search.space.schema import Space
from tlm_search.space.settings import Value

_DRAWN = 64  # random trials that represent the costs of future trials
_EIGHTY_PERCENT = 1.28  # standard deviations
_GUESS, _MEASURED = 0.7, 0.1  # deviation of the log speed, before any measurement and after many
_LEAST_SEEN = 0.02  # of a job; less work says more about its start than about its speed
_GUESS_WEIGHT = 0.1  # weight of the guessed speed, in measured jobs
_DRAWN_WEIGHT = 6  # weight of the mean cost of random trials, in ended trials


@dataclass(frozen=True)
class Costs:
    """The costs of jobs in guessed seconds: the mean of a future ``trial``, and its ``spread`` relative to the mean.

    ``of`` returns the cost of complete settings, and ``pretraining`` the share of pre-training in it. If the costs are
    not ``known``, all trials have the same cost.
    """

    of: Callable[[Mapping[str, Value]], float] = lambda settings: 1.0
    pretraining: Callable[[Mapping[str, Value]], float] = lambda settings: 0.5
    trial: float = 1.0
    spread: float = 0.5
    reference_try: float = 1.0
    known: bool = False


def costs_of(space: Space, sizes: DataSizes) -> Costs:
    """Return the costs of the jobs of ``space`` for data of these sizes."""
    gpus = bool(space.resources.gpus_per_trial)

    def alone(settings: Mapping[str, Value]) -> float:
        return guessed_seconds(committee_cost(settings, sizes), space=space, gpus=gpus)

    def pretraining(settings: Mapping[str, Value]) -> float:
        cost = committee_cost(settings, sizes)
        return cost.pretraining_tokens / max(1, cost.pretraining_tokens + cost.finetuning_tokens)

    generator = random.Random(space.seed)
    drawn = [alone(space.settings(draw(space, generator))) for _ in range(_DRAWN)]
    whole, tries = plan(space, sizes), len(space.reference_tries())
    # Members that trials share are trained once.
    trials = guessed_seconds(whole.expected, space=space, gpus=gpus)
    reference = guessed_seconds(whole.reference, space=space, gpus=gpus)
    return Costs(
        of=alone,
        pretraining=pretraining,
        trial=max(trials - reference, 0.0) / space.budget.trials,
        spread=statistics.pstdev(drawn) / max(statistics.fmean(drawn), 1e-9),
        reference_try=reference / max(tries, 1),
        known=True,
    )


@dataclass(frozen=True)
class Taken:
    """The ``seconds`` that a job with these settings has trained, and the share of the job that is ``done``.

    The job did the share ``worked`` in these seconds. It found the rest in a checkpoint or in the store. It took
    ``start`` seconds before it trained. A job that is ``over`` takes no more time: it was completed or pruned.
    """

    settings: Mapping[str, Value]
    reference: bool
    seconds: float
    done: float
    worked: float
    start: float = 0.0
    over: bool = False


@dataclass(frozen=True)
class Left:
    """The seconds that a run still takes, with an interval that is right in four of five runs."""

    seconds: float
    low: float
    high: float


class Outlook:
    """Estimates the time left of a run. ``costs`` is called on first use, in the calling thread."""

    def __init__(self, costs: Callable[[], Costs] = Costs) -> None:
        self._costs = cache(costs)
        self._of: dict[tuple[tuple[str, Value], ...], tuple[float, float]] = {}

    def done(
        self, settings: Mapping[str, Value], phase_done: float, *, first: int, last: int, pretrains: bool
    ) -> float:
        """Return the finished share of a job: members before ``first``, and ``phase_done`` of ``first`` to ``last``."""
        members = int(settings["committee_size"])
        share = self._cost(settings)[1]
        within = share * phase_done if pretrains else share + (1 - share) * phase_done
        return min(1.0, (first - 1 + (last - first + 1) * within) / members)

    def worked(self, settings: Mapping[str, Value], *, pretrained: float, finetuned: float) -> float:
        """Return the share of a job for pre-training and fine-tuning this many of its members."""
        share = self._cost(settings)[1]
        return min(1.0, (share * pretrained + (1 - share) * finetuned) / int(settings["committee_size"]))

    def left(self, jobs: Iterable[Taken], *, trials: int, tries: int, slots: int) -> Left | None:
        """Return the time left for the running ``jobs``, and for ``trials`` and ``tries`` of the reference to come.

        ``slots`` jobs run at once. Return None while neither costs nor speed are known.
        """
        jobs, costs = list(jobs), self._costs()
        speed, seen = self._speed(jobs)
        if not seen and not costs.known:
            return None
        rests = [self._rest(job, speed[job.reference]) for job in jobs if not job.over]
        start = sum(job.start for job in jobs) / (_DRAWN_WEIGHT + len(jobs))
        trial, one_try = self._trial(jobs) * speed[False] + start, costs.reference_try * speed[True] + start
        longest = max([*rests, trial if trials else 0.0, one_try if tries else 0.0], default=0.0)
        seconds = max((sum(rests) + trials * trial + tries * one_try) / slots, longest)
        if not seconds:
            return Left(0.0, 0.0, 0.0)
        of_trials = math.sqrt(trials) * costs.spread * costs.trial * speed[False] / slots / seconds
        of_speed = _MEASURED + _GUESS / (1 + 3 * seen)
        factor = math.exp(_EIGHTY_PERCENT * math.hypot(of_trials, of_speed))
        return Left(seconds, seconds / factor, seconds * factor)

    def rest(self, job: Taken, jobs: Iterable[Taken]) -> float | None:
        """Return the seconds that ``job``, one of the ``jobs``, still takes; None while nothing is known."""
        speed, seen = self._speed(list(jobs))
        return self._rest(job, speed[job.reference]) if seen or self._costs().known else None

    def _rest(self, job: Taken, speed: float) -> float:
        whole = self._cost(job.settings)[0] * speed
        if job.worked < _LEAST_SEEN:
            return max(whole * (1 - job.done) - job.seconds, whole * (1 - job.done) / 10)
        return _blended(job.seconds / job.worked, job.worked, otherwise=whole) * (1 - job.done)

    def _trial(self, jobs: Iterable[Taken]) -> float:
        """Return the expected cost of a future trial: the cost of random trials, corrected by the trials that ended.

        A sampler may prefer costly or cheap settings, members may be in the store, and a pruner may stop trials.
        """
        over = [job for job in jobs if job.over and not job.reference and job.done]
        costs = [self._cost(job.settings)[0] * job.worked / job.done for job in over]
        whole = (_DRAWN_WEIGHT * self._costs().trial + sum(costs)) / (_DRAWN_WEIGHT + len(costs))
        return whole * (1 + sum(job.done for job in over)) / (1 + len(over))

    def _speed(self, jobs: Iterable[Taken]) -> tuple[Mapping[bool, float], float]:
        """Return the seconds per unit of cost, for the reference (True) and for trials (False), and the number of jobs.

        The fewer jobs of a kind were seen, the more weight have the other kind and the guess.
        """
        took, cost, seen = {False: 0.0, True: 0.0}, {False: 0.0, True: 0.0}, {False: 0.0, True: 0.0}
        for job in jobs:
            if job.worked >= _LEAST_SEEN:
                took[job.reference] += job.seconds
                cost[job.reference] += self._cost(job.settings)[0] * job.worked
                seen[job.reference] += job.worked

        def told(kind: bool, otherwise: float | None) -> float | None:
            return _blended(took[kind] / cost[kind], seen[kind], otherwise=otherwise) if cost[kind] else otherwise

        guess = 1.0 if self._costs().known else None
        return {kind: told(kind, told(not kind, guess)) or 1.0 for kind in (False, True)}, sum(seen.values())

    def _cost(self, settings: Mapping[str, Value]) -> tuple[float, float]:
        name = tuple(settings.items())
        if name not in self._of:
            costs = self._costs()
            self._of[name] = max(costs.of(settings), 1e-9), costs.pretraining(settings)
        return self._of[name]


def _blended(measured: float, jobs: float, *, otherwise: float | None) -> float:
    """Return the weighted mean of the seconds ``measured`` by ``jobs`` and the seconds expected ``otherwise``.

    The mean is geometric, because both may be wrong by a factor.
    """
    if otherwise is None or min(measured, otherwise) <= 0:
        return measured
    return math.exp((jobs * math.log(measured) + _GUESS_WEIGHT * math.log(otherwise)) / (jobs + _GUESS_WEIGHT))
