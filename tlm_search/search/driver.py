"""The driver of a study: it hands out trials, receives their rungs, and writes the record. No Ray here.

A runner (Ray Tune, or a loop in a test) asks ``next_job`` and calls ``on_rung``, ``on_help``, ``on_failure`` or
``on_lost``. The budget counts finished trials: complete, pruned, or failed through their own fault. If a worker or the
driver dies, its trial is closed as interrupted, does not count, and is tried again with the same parameters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tlm_search.committee.metrics import metric_words
from tlm_search.committee.pool import count_of
from tlm_search.cost.wall_time import chunks_of, helps
from tlm_search.errors import NoTrialSucceededError, TrainingError, UserError
from tlm_search.search.activity import Activity
from tlm_search.search.confirm import Confirmations
from tlm_search.search.job import Failure, Job
from tlm_search.search.ledger import Asked, Ledger
from tlm_search.search.progress import Best, Running, progress_of, rough_duration
from tlm_search.search.reference_tries import ReferenceTries
from tlm_search.search.trial import Rung
from tlm_search.search.work_stealing import Help, Helpers
from tlm_search.space.objectives import BEATS_REFERENCE
from tlm_search.space.settings import Value
from tlm_search.study.record import BASELINE, REFERENCE, REFERENCE_NUMBER, record_of

MOST_ATTEMPTS = 3  # a trial whose workers died this often counts as failed


@dataclass
class _Running:
    job: Job
    asked: Asked | None
    rung: Rung | None = None

    def attributes(self) -> dict[str, Any]:
        """Return what the study stores of the job, as JSON."""
        return {"settings": dict(self.job.settings)} if self.rung is None else self.rung.attributes(self.job.settings)


class Driver:
    """One run of a study, until the study has ``trials`` finished trials or the run is told to stop."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        trials: int,
        seconds: float | None = None,
        announce: Callable[[str], None] = lambda line: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._space = ledger.space
        self._announce = announce
        self._now = now
        self._deadline = None if seconds is None else now() + seconds
        self._announced: set[str] = set()  # messages on the time budget
        self._running: dict[str, _Running] = {}
        self._helpers = Helpers(wanted=helps(self._space))
        self._proposals = ledger.proposals()
        self._failures_in_a_row = 0
        self._last_failure: Failure | None = None
        self.stopped: str | None = None
        self.progress = progress_of(ledger.trials, ledger.space.objectives[0], ledger.noted(REFERENCE), total=trials)
        self.progress.metric = self._space.task.metric
        self.progress.baseline = (ledger.noted(BASELINE) or {}).get("metrics")
        self.progress.now, self.progress.started = now, now()
        self._reference = ReferenceTries(ledger, self._space)
        self._confirmations = Confirmations(ledger)
        self._planned = False
        self._choose_reference()
        self._plan_confirmations()

    @property
    def ended(self) -> bool:
        """Whether no further job will come."""
        if self.stopped is not None:
            return True
        return self._search_is_over and not self._confirmations.unfinished

    def look(self, told: Sequence[Activity]) -> None:
        """Receive the workers' progress, and warn if the time budget cannot be met. Any thread may call this."""
        self.progress.look(told)
        if self._deadline is None:
            return
        jobs = list(self.progress.jobs.values())
        if jobs and self._now() >= self._deadline:
            self._announce_once("end", f"the time is used up; jobs in training finish first: {self._remaining(jobs)}")
            return
        for job in jobs:
            seconds = self.progress.remaining(job)
            if (
                job.reference
                and job.seen is not None
                and seconds is not None
                and self._now() + 0.8 * seconds > self._deadline
            ):
                late = "the time budget is too short for a job that runs to its end"
                self._announce_once(job.title, f"{late}: {self._remaining([job])}")

    def _announce_once(self, key: str, words: str) -> None:
        if key not in self._announced:
            self._announced.add(key)
            self._announce(words)

    def _remaining(self, jobs: Sequence[Running]) -> str:
        times = [(job.title, self.progress.remaining(job)) for job in jobs]
        return ", ".join(
            title if seconds is None else f"{title} (about {rough_duration(seconds)} more)" for title, seconds in times
        )

    def runs(self, key: str) -> bool:
        """Return whether a job with this key was handed out and has not ended."""
        return key in self._running or key in self._helpers

    def settings_of(self, key: str) -> Mapping[str, Value]:
        """Return the settings of a running job."""
        return self._helpers.settings_of(key) if key in self._helpers else self._running[key].job.settings

    def next_job(self, key: str) -> Job | None:
        """Return the next job, which the runner calls ``key``; None if there is none now or the run has ``ended``."""
        self._look_at_clock()
        if self.stopped is not None:
            return None
        self.progress.first_job = self.progress.first_job or self._now()
        if (number := self._reference.begin()) is not None:
            return self._start(key, self._reference_job(number))
        if (wanted := self._confirmations.begin()) is not None:
            return self._start(key, Job(None, wanted.settings, confirms=wanted.number))
        if self._all_handed_out:
            voting = {name: (r.job, r.rung.size if r.rung else 0) for name, r in self._running.items()}
            return self._helpers.begin(key, voting)
        asked = self._ledger.ask(self._proposals)
        self._proposals += not asked.retried
        return self._start(key, Job(asked.number, asked.settings), asked)

    def on_rung(self, key: str, rung: Rung) -> bool:
        """Record what a trial reached; return whether it continues (never if it is ``done``)."""
        running = self._running[key]
        self._count(running, rung)
        running.rung = rung
        self.progress.jobs[key].voting = rung.size
        self.progress.jobs[key].fresh = rung.trained / max(1, rung.trained + rung.reused)
        self._look_at_clock()
        if running.asked is None:
            return self._on_other_rung(key, rung)
        value = rung.metrics.get(self._space.objectives[0].metric)
        if value is not None and not math.isfinite(value):
            self.on_failure(key, Failure(f"{self._space.objectives[0].metric} is {value} at {rung.size} members"))
            return False
        trial_id = running.asked.trial_id
        if value is not None:
            self._ledger.report(trial_id, rung.size, value)
        if rung.done:
            self._on_complete(key, running, rung)
            return False
        if self.stopped is not None:
            self._interrupt(key, self.stopped)
            return False
        if value is not None and self._ledger.should_prune(trial_id):
            self._ledger.prune(trial_id, running.attributes())
            self._finish(key, "pruned", f"pruned at {rung.size} members, {self._words(rung.metrics)}")
            return False
        return True

    def on_help(self, key: str, given: Help) -> bool:
        """Record what a helper trained; return whether it continues."""
        self._look_at_clock()
        wanted = self._all_handed_out and self._helpers.target(key) in self._running and self.stopped is None
        if given.member is None or not wanted:
            self._helpers.end(key, last=given.member is None)
            return False
        return True

    def on_failure(self, key: str, failure: Failure) -> None:
        """Close a job that failed through its own fault or the user's."""
        if key in self._helpers:
            self._helpers.end(key, last=True)  # the trial itself will meet the same failure
            return
        running = self._running[key]
        if failure.of_user:
            self.stopped, self._last_failure = failure.reason, failure
            self._interrupt(key, failure.reason)
            return
        if running.job.confirms is not None:
            self._finish_confirmation(key, None, f"failed: {failure.reason}; the next run tries it again")
            return
        if running.asked is None:
            attributes = {**running.attributes(), "error": failure.reason}
            self._finish_reference(key, attributes, f"failed: {failure.reason}")
            return
        self._ledger.fail(running.asked.trial_id, failure.reason, running.attributes())
        self._failures_in_a_row += 1
        self._last_failure = failure
        self._finish(key, "failed", f"failed: {failure.reason}")
        if self._failures_in_a_row >= self._space.budget.failures_in_a_row:
            self.stopped = f"{self._failures_in_a_row} trials failed in a row"

    def on_lost(self, key: str, reason: str) -> None:
        """Close a job whose worker died. It is tried again, until ``MOST_ATTEMPTS`` workers died on it."""
        if not self.runs(key):
            return  # the job had ended before its worker died
        if key in self._helpers:
            self._helpers.end(key, died=True)
            return
        running = self._running[key]
        asked, confirms = running.asked, running.job.confirms
        if confirms is not None:
            attempt = self._confirmations.deaths(confirms)
        else:
            attempt = self._reference.deaths(running.job.reference_try) if asked is None else 1 + asked.attempt
        if attempt >= MOST_ATTEMPTS:
            self.on_failure(key, Failure(f"{reason}, {attempt} times"))
            return
        self._interrupt(key, reason, attempt=attempt)

    def stop(self, reason: str) -> None:
        """Hand out no more jobs. Running trials end with their rung, and the next run tries them again."""
        self.stopped = self.stopped or reason

    def abandon(self, reason: str) -> None:
        """Close all running jobs, because their runner is gone."""
        for key in list(self._running):
            self._interrupt(key, reason)

    def check_result(self, *, continue_with: str) -> None:
        """Raise an error if the run failed. Its hint ends with the command ``continue_with``.

        Raises:
            UserError: the store or the data cannot be used.
            TrainingError: too many trials failed in a row.
            NoTrialSucceededError: no trial has a result.
        """
        hint = f"continue with: {continue_with}"
        failure = self._last_failure
        if failure is not None and failure.of_user:
            raise UserError(failure.reason, hint=f"{failure.hint}; then {hint}" if failure.hint else hint)
        reason = "" if failure is None else f"; the last error: {failure.reason}"
        if self.progress.complete == 0 and self.progress.failed and (self.stopped is None or self._failed_too_often):
            raise NoTrialSucceededError(f"no trial succeeded, {self.progress.failed} failed{reason}", hint=hint)
        if self._failed_too_often:
            raise TrainingError(f"the study stopped: {self.stopped}{reason}", hint=hint)

    @property
    def _failed_too_often(self) -> bool:
        return self._failures_in_a_row >= self._space.budget.failures_in_a_row

    @property
    def _search_is_over(self) -> bool:
        if self._reference.unfinished:
            return False
        if self.progress.finished >= self.progress.total:
            return True
        return self._ledger.exhausted and not self.progress.running

    @property
    def _all_handed_out(self) -> bool:
        live = sum(running.asked is not None for running in self._running.values())
        enough = self.progress.finished + live >= self.progress.total
        return enough or self._waits_for_reference or self._ledger.exhausted

    @property
    def _waits_for_reference(self) -> bool:
        if not self._reference.unfinished:
            return False
        return any(str(constraint) == BEATS_REFERENCE for constraint in self._space.constraints)

    def _reference_job(self, number: int) -> Job:
        settings = self._reference.settings(number)
        return Job(None, settings, reference_try=number, reference_tries=self._reference.count)

    def _start(self, key: str, job: Job, asked: Asked | None = None) -> Job:
        if asked is not None:
            self.progress.running += 1
        elif job.confirms is None:
            self.progress.reference_running += 1
        trials = min(self.progress.total - self.progress.finished, self.progress.running + self._ledger.left)
        others = self._reference.unfinished + self._confirmations.unfinished
        jobs = self._reference.at_once if self._waits_for_reference else int(trials) + others
        job = replace(job, chunks=chunks_of(self._space, slots=self.progress.slots, jobs=jobs))
        self._running[key] = _Running(job, asked)
        of_reference = asked is None and job.confirms in (None, REFERENCE_NUMBER)
        self.progress.jobs[key] = Running(job.title, job.attempt, job.settings, of_reference, self._now())
        return job

    def _on_other_rung(self, key: str, rung: Rung) -> bool:
        if rung.done:
            job = self._running[key].job
            attributes, words = rung.attributes(job.settings), self._words(rung.metrics)
            if job.confirms is None:
                self._finish_reference(key, attributes, words, rung.metrics)
            else:
                self._finish_confirmation(key, attributes, words)
            return False
        if self.stopped is not None:
            self._interrupt(key, self.stopped)
            return False
        return True

    def _on_complete(self, key: str, running: _Running, rung: Rung) -> None:
        assert running.asked is not None
        values = [rung.metrics[objective.metric] for objective in self._space.objectives]
        wrong = [o.metric for o, v in zip(self._space.objectives, values, strict=True) if not math.isfinite(v)]
        if wrong:
            self.on_failure(key, Failure(f"{', '.join(wrong)} is not a finite number"))
            return
        violations = [c.violation(rung.metrics, self.progress.reference) for c in self._space.constraints]
        self._ledger.constrain(running.asked.trial_id, violations)
        self._ledger.complete(running.asked.trial_id, values, running.attributes())
        feasible = all(violation <= 0 for violation in violations)
        if feasible:
            self._take_best(running, values[0], rung)
        words = f"{self._words(rung.metrics)}, {count_of(rung.trained, 'member')} trained, {rung.reused} reused"
        self._finish(key, "complete", words if feasible else f"{words}, violates a constraint")

    def _take_best(self, running: _Running, value: float, rung: Rung) -> None:
        rank = value if self._space.objectives[0].direction == "maximize" else -value
        if self.progress.best is None or rank > self.progress.best.rank:
            assert running.job.number is not None
            self.progress.best = Best(running.job.number, rank, rung.metrics)

    def _count(self, running: _Running, rung: Rung) -> None:
        before = running.rung
        self.progress.trained += rung.trained - (before.trained if before else 0)
        self.progress.reused += rung.reused - (before.reused if before else 0)
        self.progress.tokens += rung.tokens - (before.tokens if before else 0)

    def _finish(self, key: str, state: str, words: str) -> None:
        running = self._running.pop(key)
        self.progress.end(key, tells=state != "failed")
        if state != "failed":
            self._failures_in_a_row = 0
        self.progress.finished += 1
        self.progress.running -= 1
        setattr(self.progress, state, getattr(self.progress, state) + 1)
        self._announce(f"[{self.progress.finished}/{self.progress.total}] {running.job.title}: {words}")
        self._plan_confirmations()

    def _finish_reference(
        self, key: str, attributes: Mapping[str, Any], words: str, metrics: Mapping[str, float] | None = None
    ) -> None:
        job = self._running.pop(key).job
        self.progress.end(key, tells="error" not in attributes)
        self.progress.reference_running -= 1
        self._reference.end(job.reference_try, attributes)
        if self._reference.count == 1:
            self.progress.reference = metrics
        self._announce(f"{job.title}: {words}")
        self._choose_reference()
        self._plan_confirmations()

    def _plan_confirmations(self) -> None:
        """Choose, once the search is over, which models are trained once more with fresh seeds."""
        if self._planned or self._space.confirm == 0 or not self._search_is_over:
            return
        self._planned = True
        for planned in self._confirmations.plan(record_of(self._ledger.study, Path())):
            what = f"the chosen committee (trial {planned.number}, {count_of(planned.size, 'member')})"
            if planned.number == REFERENCE_NUMBER:
                what = "the reference"
            cost = f"about {planned.seconds:.0f} s of training"
            self._announce(f"{what} is trained once more with fresh seeds to confirm it, {cost}")

    def _finish_confirmation(self, key: str, attributes: Mapping[str, Any] | None, words: str) -> None:
        job = self._running.pop(key).job
        self.progress.end(key, tells=attributes is not None)
        assert job.confirms is not None
        self._confirmations.end(job.confirms, attributes)
        self._announce(f"{job.title}: {words}")

    def _choose_reference(self) -> None:
        if (chosen := self._reference.choose()) is not None:
            number, attributes = chosen
            self.progress.reference = attributes["metrics"]
            best = f"try {number} of {self._reference.count} is the best"
            self._announce(f"reference: {best}, {self._words(attributes['metrics'])}")
        self.progress.reference_done, self.progress.reference_tries = self._reference.done, self._reference.count

    def _interrupt(self, key: str, reason: str, *, attempt: int | None = None) -> None:
        running = self._running.pop(key)
        self.progress.end(key, tells=False)
        self._announce(f"{running.job.title}: {reason}; it is tried again")
        if running.job.confirms is not None:
            self._confirmations.put_back(running.job.confirms)
            return
        if running.asked is None:
            self._reference.put_back(running.job.reference_try)
            self.progress.reference_running -= 1
            return
        self.progress.running -= 1
        attempt = running.asked.attempt if attempt is None else attempt
        counts = {"trained": running.rung.trained, "reused": running.rung.reused} if running.rung else {}
        self._ledger.interrupt(running.asked.trial_id, reason, attempt=attempt, counts=counts)

    def _words(self, metrics: Mapping[str, float]) -> str:
        # Never print test: people decide by what a run prints, and choices must look at validation.
        metric = self._space.task.metric
        return f"validation {metric_words(metric)} {metrics[f'validation_{metric}']:.4f}"

    def _look_at_clock(self) -> None:
        if self._deadline is not None and self._now() >= self._deadline:
            self.stop("the time is used up")
