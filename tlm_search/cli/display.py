"""What a run shows while it runs: a live panel on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from tlm_search.search.progress import Progress

_REFRESHES_PER_SECOND = 2


class Display:
    """Tells of events by ``announce``, and of the state by the panel that ``show`` keeps below them."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    def announce(self, line: str) -> None:
        """Tell one event."""
        if self._console.is_terminal:
            self._console.print(line, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)

    @contextmanager
    def show(self, progress: Progress) -> Iterator[None]:
        """Keep a panel of ``progress`` on a terminal; elsewhere the announced lines are enough."""
        if not self._console.is_terminal:
            yield
            return
        from rich.live import Live

        live = Live(
            console=self._console,
            get_renderable=lambda: panel(progress),
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with live:
            yield


def panel(progress: Progress) -> Table:
    """Lay out the state of a run."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    bar = ProgressBar(total=max(1, progress.total), completed=progress.finished, width=30)
    line = Table.grid(padding=(0, 2))
    line.add_row(bar, trials_in_words(progress), time_in_words(progress))
    table.add_row("trials", line)
    table.add_row("members", members_in_words(progress))
    table.add_row("best", best_in_words(progress))
    return table


def trials_in_words(progress: Progress) -> str:
    """Say how many trials there are, by state."""
    states = ("pruned", "failed", "running")
    counts = [f"{getattr(progress, state)} {state}" for state in states if getattr(progress, state)]
    return ", ".join([f"{progress.finished}/{progress.total}", *counts])


def time_in_words(progress: Progress) -> str:
    """Say the time that passed, and the time left where it can be told."""
    left = progress.seconds_left
    return duration(progress.seconds) + ("" if left is None else f", about {duration(left)} left")


def members_in_words(progress: Progress) -> str:
    """Say how many members were trained and reused, and how fast."""
    words = f"{progress.trained} trained, {progress.reused} reused"
    return words if not progress.tokens else f"{words}, {progress.tokens_per_second:,.0f} tokens/s"


def best_in_words(progress: Progress) -> str:
    """Say what the best trial reaches beside the reference."""
    best = progress.best
    words = "none yet" if best is None else f"trial {best.trial}: {_judged(best.metrics, progress.metric)}"
    if progress.reference is not None:
        return f"{words}; reference: {_judged(progress.reference, progress.metric)}"
    if progress.reference_tries > 1 and progress.reference_done < progress.reference_tries:
        return f"{words}; {progress.reference_done} of {progress.reference_tries} tries of the reference done"
    return f"{words}; the reference is in training" if progress.reference_running else words


def duration(seconds: float) -> str:
    """Write a time as 45 s, 3:20 min or 2:05 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def _judged(metrics: Mapping[str, float], metric: str) -> str:
    return f"validation {metrics[f'validation_{metric}']:.4f}, test {metrics[f'test_{metric}']:.4f}"
