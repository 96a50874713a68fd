"""Ctrl-C and SIGTERM during a study: when they take effect, and when they wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

REASON = "the study was interrupted"
STOPPING = (
    "stopping once the members in training are done; a second Ctrl-C stops at once, "
    "and the next run continues long pre-training from its last checkpoint"
)


class Interrupts:
    """The first signal lets the running rungs end, the second stops at once, but never while the record is written."""

    def __init__(self, stop: Callable[[str], None], announce: Callable[[str], None] = lambda line: None) -> None:
        self._stop, self._announce = stop, announce
        self._writing = False
        self._over = False
        self._collapsed = False
        self.count = 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Handle the two signals, and restore the old handlers at the end."""
        before = self.take()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def take(self) -> dict[int, Any]:
        """Handle the two signals, again if other code took them since; return the previous handlers.

        Ray's own handler of SIGTERM is installed in the system and invisible to Python. It prints a native stack trace
        and aborts the process after three seconds.
        """
        return {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Let the current write finish; a second signal takes effect right after it.

        Raises:
            KeyboardInterrupt: at the end, if there was a second signal.
        """
        self._writing = True
        try:
            yield
        finally:
            self._writing = False
        if self._at_once and not self._over:
            raise KeyboardInterrupt

    def collapse(self) -> None:
        """Stop at once, as the second signal does. Call it from another thread."""
        self._collapsed = True
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)  # which also wakes the main thread from a wait in the kernel

    def end(self) -> None:
        """Ignore further signals, because the run is over and only closes its record."""
        self._over = True

    @property
    def _at_once(self) -> bool:
        return self.count > 1 or self._collapsed

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self._collapsed:
            self.count += 1
            # Only set a flag: the signal may have come in the middle of a write.
            self._stop(REASON)
            if self.count == 1 and not self._over:
                # In a new thread: this one may be in the middle of a line.
                threading.Thread(target=self._announce, args=(STOPPING,)).start()
        if self._at_once and not self._writing and not self._over:
            raise KeyboardInterrupt
