"""Processors that no trial needs any more help those that still run, by training members of theirs, from the last on.

A trial trains its members stack by stack, and the last trials of a study leave most of a machine idle; so does a study
of few trials on a machine with many cores. A helper takes a stack that nobody has begun, and the trial finds its
members in the store. So that there are stacks to take, those of a trial are smaller where there are fewer trials than
places for them. No Ray and no Optuna here.
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

MOST_DEATHS = 3  # of helpers of one job: there may be too little memory for them


@dataclass(frozen=True)
class Help:
    """A stack of another trial was trained now, from its ``member`` on, counted from 0; None once there is none left.

    Teachers are counted for themselves. ``peak_gb`` is as in ``Rung``.
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
    """Train what nobody has begun of the stacks of the trial with complete ``settings``, and yield each.

    ``chunks`` are the trial's. Members note for which ``attempt`` at it they were trained, which counts them as its
    own. With self-training teachers come first, and students once all of these are there, whoever trains them.

    Raises:
        TrainingError: a member could not be trained.
        UserError: the store or the data cannot be used.
    """

    def trained(specs: Sequence[MemberSpec]) -> Iterator[Help]:
        stack = stack_of(specs, trainer, chunks)
        for first in reversed(range(0, len(specs), stack)):
            group = specs[first : first + stack]
            if train_if_free(group, store=store, data=data, trainer=trainer, attempt=attempt):
                yield Help(first, trainer.peak_gb())

    teachers = teacher_specs(settings, seed=seed, data=data, trainer=trainer)
    if teachers:
        yield from trained(teachers)
    # Nobody waits for this worker, which holds nothing: those that it waits for go on, or die and let go.
    if wait_for(teachers, store=store, data=data, trainer=trainer):
        yield from trained(trial_specs(settings, seed=seed, data=data, trainer=trainer))
    yield Help(None)


def members_to_train(settings: Mapping[str, Value], *, voting: int) -> int:
    """Return how many members a trial still trains at most, once so many are ``voting``: before, its teachers too."""
    of_teachers = settings_of_teachers(settings) if voting == 0 else None
    teachers = int(of_teachers["committee_size"]) if of_teachers else 0
    left = int(settings["committee_size"]) - voting
    return left + teachers if settings["student_epochs"] else max(left, teachers)


@dataclass
class _Helped:
    helpers: int = 0
    deaths: int = 0
    alone: bool = False  # no other helper could do anything for it


class Helpers:
    """The helpers of each job. Jobs are known by their keys; there are no helpers unless they are ``wanted``."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._helping: dict[str, tuple[str, Job]] = {}
        self._helped: dict[str, _Helped] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._helping

    def begin(self, key: str, running: Mapping[str, tuple[Job, int]]) -> Job | None:
        """Return the job of a helper ``key``; None if no job has a member that nobody will have begun.

        ``running`` has each job with the number of its members that vote already.
        """

        def left(name: str) -> int:
            job, size = running[name]
            helped = self._helped.setdefault(name, _Helped())
            return 0 if helped.alone else members_to_train(job.settings, voting=size) - helped.helpers

        neediest = max(running, key=left, default=None) if self._wanted else None
        if neediest is None or left(neediest) < 2:  # the trial trains one itself
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
        """Forget a helper; its job gets no other if it was the ``last``, because they would do no better."""
        helped = self._helped[self._helping.pop(key)[0]]
        helped.helpers, helped.deaths = helped.helpers - 1, helped.deaths + died
        helped.alone = helped.alone or last or helped.deaths >= MOST_DEATHS
