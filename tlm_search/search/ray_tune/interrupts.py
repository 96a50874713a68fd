"""Ctrl-C and SIGTERM while a study runs: when they take effect, and when they wait."""

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
    "and long pre-training then goes on from its last checkpoint"
)


class Interrupts:
    """The first signal lets the running rungs end, the second stops at once: but never while the record is written."""

    def __init__(self, stop: Callable[[str], None], announce: Callable[[str], None] = lambda line: None) -> None:
        self._stop, self._announce = stop, announce
        self._writing = False
        self._over = False
        self._collapsed = False
        self.count = 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Take the two signals, and give them back at the end."""
        before = self.take()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def take(self) -> dict[int, Any]:
        """Take the two signals, once more where somebody has taken them since; return who heard them before.

        Ray's own handler of SIGTERM, in the system and unseen by Python, prints a native stack trace and aborts the
        process after three seconds.
        """
        return {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Let what is begun be written whole; a second signal takes effect right after.

        Raises:
            KeyboardInterrupt: at the end, if there was one.
        """
        self._writing = True
        try:
            yield
        finally:
            self._writing = False
        if self._at_once and not self._over:
            raise KeyboardInterrupt

    def collapse(self) -> None:
        """From another thread: stop at once, as the second signal does."""
        self._collapsed = True
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)  # which also wakes it from a wait in the kernel

    def end(self) -> None:
        """Stop at nothing more: the run is over and only closes its record."""
        self._over = True

    @property
    def _at_once(self) -> bool:
        return self.count > 1 or self._collapsed

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self._collapsed:
            self.count += 1
            # Nothing but a flag: the signal may have come in the middle of a write.
            self._stop(REASON)
            if self.count == 1 and not self._over:
                # Its own thread: this one may be in the middle of a line.
                threading.Thread(target=self._announce, args=(STOPPING,)).start()
        if self._at_once and not self._writing and not self._over:
            raise KeyboardInterrupt
