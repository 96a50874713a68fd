"""Show a run on standard error: a panel with bars on a terminal, otherwise a line every 30 seconds."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tlm_search.search.progress import duration, rough_duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

    from tlm_search.search.activity import Activity
    from tlm_search.search.progress import Progress, Running

_REFRESHES_PER_SECOND = 2
_FIRST_LINE_SECONDS, _LINE_SECONDS = 5.0, 30.0
_TITLE = len("reference 1 of 4")  # characters at least, so that the bars do not move when a job ends
_BAR = 20  # characters; a row with its words then has about 100
_MOST_JOBS = 8  # rows of running jobs


class Display:
    """Prints events with ``announce``. While ``show`` is active, also shows the state of the run."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    def announce(self, line: str) -> None:
        """Print one event."""
        if self._console.is_terminal:
            self._console.print(line, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)

    @contextmanager
    def show(self, progress: Progress) -> Iterator[None]:
        """Show ``progress`` as a panel below the events on a terminal, otherwise as a line every 30 seconds."""
        if not self._console.is_terminal:
            from tlm_search.remote.heartbeat import repeated

            lines = Lines(progress)

            def tell() -> bool:
                if (line := lines.due()) is not None:
                    self.announce(line)
                return True

            with repeated(tell, seconds=1.0, name="display"):
                yield
            return
        with self._live(lambda: panel(progress)):
            yield

    @contextmanager
    def steps(self, *, keep: bool = True) -> Iterator[Callable[[str], None]]:
        """Yield a function that takes each step as it begins, and show the step that runs with the time.

        A terminal has one line, which is rewritten; with ``keep`` the steps before stay above it. Otherwise each step
        is one line, and one more every 30 seconds while it runs.
        """
        steps = Steps()
        if not self._console.is_terminal:
            from tlm_search.remote.heartbeat import repeated

            def begin(step: str) -> None:
                if steps.begin(step):
                    self.announce(step)

            def tell() -> bool:
                if (line := steps.due()) is not None:
                    self.announce(line)
                return True

            with repeated(tell, seconds=1.0, name="display"):
                yield begin
            return
        from rich.text import Text

        def settle() -> None:
            if keep and steps.step:
                self.announce(steps.step)

        def begin_below(step: str) -> None:
            settle()
            steps.begin(step)

        try:
            with self._live(lambda: Text(steps.line(), no_wrap=True, overflow="ellipsis")):
                yield begin_below
        finally:
            settle()

    def _live(self, draw: Callable[[], RenderableType]) -> Live:
        """Return the part of a terminal that shows what ``draw`` returns, and vanishes at the end."""
        from rich.live import Live

        return Live(
            console=self._console,
            get_renderable=draw,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )


class Steps:
    """The step that runs, and when it is told without a terminal: when it first begins, then every 30 seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._began, self._next = now, now(), math.inf
        self._begun: set[str] = set()
        self.step = ""

    def begin(self, step: str) -> bool:
        """Take the step that begins; return whether it is a new one."""
        is_new = step not in self._begun
        self.step = step
        self._begun.add(step)
        if is_new:
            self._next = self._now() + _LINE_SECONDS
        return is_new

    def due(self) -> str | None:
        """Return the line to print now, or None if it is too early."""
        if self._now() < self._next:
            return None
        self._next = self._now() + _LINE_SECONDS
        return self.line()

    def line(self) -> str:
        """Write the step with the time since the first one."""
        return f"[{duration(self._now() - self._began)}] {self.step}" if self.step else ""


class Lines:
    """Decides when a line is printed without a terminal: 5 seconds after the start, then every 30 seconds."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._next = progress.now() + _FIRST_LINE_SECONDS

    def due(self) -> str | None:
        """Return the line to print now, or None if it is too early."""
        now = self._progress.now()
        if now < self._next:
            return None
        self._next = now + _LINE_SECONDS
        return line(self._progress)


def line(progress: Progress) -> str:
    """Write the state of a run in one line."""
    jobs = [f"{title} {', '.join(words)}" for title, words, _ in rows_of_jobs(progress)]
    parts = [
        f"trials {trials_in_words(progress)}",
        *(jobs or [idle_in_words(progress)]),
        f"members {members_in_words(progress)}",
        f"best {best_in_words(progress)}",
    ]
    return f"[{time_in_words(progress)}] {'; '.join(parts)}"


def panel(progress: Progress) -> Table:
    """Return the state of a run as a table with bars, for a terminal."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def with_bar(done: float, total: float, words: str) -> Table:
        row = Table.grid(padding=(0, 2))
        row.add_row(ProgressBar(total=max(1, total), completed=done, width=_BAR), Text(words))
        return row

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=_TITLE)
    table.add_column()
    table.add_row("trials", with_bar(progress.finished, progress.total, trials_in_words(progress)))
    jobs = rows_of_jobs(progress)
    for title, words, told in jobs:
        done, total = (0, 1) if told is None else (told.update, told.updates)
        table.add_row(Text(title), with_bar(done, total, ", ".join(words)))
    if not jobs:
        table.add_row("now", idle_in_words(progress))
    table.add_row("members", members_in_words(progress))
    table.add_row("best", best_in_words(progress))
    table.add_row("time", time_in_words(progress))
    return table


def rows_of_jobs(progress: Progress) -> list[tuple[str, Sequence[str], Activity | None]]:
    """Return a row for each job and each of its helpers: its title, its activity in words, and that activity."""
    rows: list[tuple[str, Sequence[str], Activity | None]] = []
    for job in list(progress.jobs.values()):
        if job.activities:
            rows += [(told.title, activity_in_words(told, members=job.members), told) for told in job.activities]
        else:
            rows.append((job.title, (_begun_in_words(job),), None))
    more = len(rows) - _MOST_JOBS
    return rows if more <= 0 else [*rows[:_MOST_JOBS], ("", (f"and {more} more",), None)]


def activity_in_words(activity: Activity, *, members: int | None = None) -> tuple[str, ...]:
    """Say what a worker trains: the phase, the members (out of ``members``) and the update, if it counts updates."""
    first, last = activity.members
    which = f"member {first}" if first == last else f"members {first} to {last}"
    of = "" if members is None else f" of {members}"
    update = (f"update {activity.update:,} of {activity.updates:,}",) if activity.updates else ()
    return activity.phase, f"{which}{of}", *update


def idle_in_words(progress: Progress) -> str:
    """Say why no job runs."""
    return "starting Ray" if progress.first_job is None else "no trial runs"


def trials_in_words(progress: Progress) -> str:
    """Count the trials by state."""
    states = ("pruned", "failed", "running")
    counts = [f"{getattr(progress, state)} {state}" for state in states if getattr(progress, state)]
    return ", ".join([f"{progress.finished}/{progress.total}", *counts])


def time_in_words(progress: Progress) -> str:
    """Write the elapsed time, and the time left if there is an estimate."""
    passed, left = duration(progress.seconds), progress.left
    if left is None or not left.seconds:
        return passed
    interval = f"{rough_duration(left.low)} to {rough_duration(left.high)}"
    return f"{passed}, about {rough_duration(left.seconds)} left ({interval})"


def members_in_words(progress: Progress) -> str:
    """Say how many members were trained and reused, and how fast."""
    words = f"{progress.trained} trained, {progress.reused} reused"
    return words if not progress.tokens_per_second else f"{words}, {progress.tokens_per_second:,.0f} tokens/s"


def best_in_words(progress: Progress) -> str:
    """Write the validation metric of the best trial, of the linear baseline and of the reference."""
    from tlm_search.committee.metrics import metric_words

    best, metric = progress.best, progress.metric
    parts = [
        "none yet"
        if best is None
        else f"trial {best.trial}: validation {metric_words(metric)} {_reached(best.metrics, metric)}"
    ]
    if progress.baseline is not None:
        parts.append(f"linear baseline {_reached(progress.baseline, metric)}")
    if progress.reference is not None:
        parts.append(f"reference {_reached(progress.reference, metric)}")
    elif progress.reference_tries > 1 and progress.reference_done < progress.reference_tries:
        parts.append(f"{progress.reference_done} of {progress.reference_tries} tries of the reference done")
    elif progress.reference_running:
        parts.append("the reference is in training")
    return "; ".join(parts)


def _begun_in_words(job: Running) -> str:
    members = "one member" if job.members == 1 else f"{job.members} members"
    return f"begins, {members}" if not job.voting else f"{job.voting} of {members} vote"


def _reached(metrics: Mapping[str, float], metric: str) -> str:
    return f"{metrics[f'validation_{metric}']:.4f}"
