"""Idle processors help running trials: they train members of these trials, from the last one on.

A trial trains its members stack by stack. The last trials of a study leave most of a machine idle, and so does a study
of few trials on a machine with many cores. A helper takes a stack that no worker has begun, and the trial finds its
members in the store. If there are fewer trials than slots, the stacks of a trial are smaller, so that some are left to
take. No Ray and no Optuna here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tlm_search.data.prepared import PreparedData
from tlm_search.members.spec import MemberSpec, settings_of_teachers
from tlm_search.members.train import train_if_free, wait_for
from tlm_search.members.trainer import Trainer
from tlm_search.search.job import Job
from tlm_search.search.trial import stack_of, teacher_specs, trial_specs
from tlm_search.space.settings import Value
from tlm_search.store.local import Store

MOST_DEATHS = 3  # of helpers of one job; the cause may be too little memory for them


@dataclass(frozen=True)
class Help:
    """A helper has trained a stack of a trial, from its ``member`` on, counted from 0; None if no stack is left.

    Teachers are counted separately. ``peak_gb`` is as in ``Rung``.
    """

    member: int | None
    peak_gb: float = 0.0


def help_trial(
    settings: Mapping[str, Value],
    *,
    seed: int,
    data: PreparedData,
    store: Store,
    trainer: Trainer,
    chunks: int = 1,
    attempt: str,
) -> Iterator[Help]:
    """Train the stacks of the trial with complete ``settings`` that no worker has begun, and yield each.

    ``chunks`` are those of the trial. Members record the ``attempt`` for which they were trained, so that the trial
    counts them as its own. With self-training teachers come first. Students follow once all teachers are finished,
    whichever worker trained them.

    Raises:
        TrainingError: a member could not be trained.
        UserError: the store or the data cannot be used.
    """
    data = data.of(settings)

    def trained(specs: Sequence[MemberSpec]) -> Iterator[Help]:
        stack = stack_of(specs, trainer, chunks)
        for first in reversed(range(0, len(specs), stack)):
            group = specs[first : first + stack]
            if train_if_free(group, store=store, data=data, trainer=trainer, attempt=attempt):
                yield Help(first, trainer.peak_gb())

    teachers = teacher_specs(settings, seed=seed, data=data, trainer=trainer)
    if teachers:
        yield from trained(teachers)
    # No deadlock: this worker holds no lock, and those that it waits for go on, or die and release theirs.
    if wait_for(teachers, store=store, data=data, trainer=trainer):
        yield from trained(trial_specs(settings, seed=seed, data=data, trainer=trainer))
    yield Help(None)


def members_to_train(settings: Mapping[str, Value], *, voting: int) -> int:
    """Return the largest number of members that a trial still trains when ``voting`` members vote.

    Before the first ones vote, its teachers count too.
    """
    of_teachers = settings_of_teachers(settings) if voting == 0 else None
    teachers = int(of_teachers["committee_size"]) if of_teachers else 0
    left = int(settings["committee_size"]) - voting
    return left + teachers if settings["student_epochs"] else max(left, teachers)


@dataclass
class _Helped:
    helpers: int = 0
    deaths: int = 0
    alone: bool = False  # gets no further helper


class Helpers:
    """The helpers of each job, which are known by their keys. There are none unless they are ``wanted``."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._helping: dict[str, tuple[str, Job]] = {}
        self._helped: dict[str, _Helped] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._helping

    def begin(self, key: str, running: Mapping[str, tuple[Job, int]]) -> Job | None:
        """Return the job of a helper ``key``; None if no job has members that no worker will have begun.

        ``running`` has each job with the number of its members that already vote.
        """

        def left(name: str) -> int:
            job, size = running[name]
            helped = self._helped.setdefault(name, _Helped())
            return 0 if helped.alone else members_to_train(job.settings, voting=size) - helped.helpers

        neediest = max(running, key=left, default=None) if self._wanted else None
        if neediest is None or left(neediest) < 2:  # the trial itself trains the last one
            return None
        job = replace(running[neediest][0], helping=True)
        self._helping[key] = neediest, job
        self._helped[neediest].helpers += 1
        return job

    def target(self, key: str) -> str:
        """Return the key of the job that ``key`` helps."""
        return self._helping[key][0]

    def settings_of(self, key: str) -> Mapping[str, Value]:
        """Return the settings of a helper."""
        return self._helping[key][1].settings

    def end(self, key: str, *, last: bool = False, died: bool = False) -> None:
        """Forget a helper. If it was the ``last``, its job gets no other one, because none would have work."""
        helped = self._helped[self._helping.pop(key)[0]]
        helped.helpers, helped.deaths = helped.helpers - 1, helped.deaths + died
        helped.alone = helped.alone or last or helped.deaths >= MOST_DEATHS
