"""Something that is done every few seconds beside the work, such as a sign of life."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(act: Callable[[], bool], *, seconds: float, name: str, at_once: bool = False) -> Iterator[None]:
    """Call ``act`` every so many ``seconds`` of the block, in a thread ``name``, for as long as it returns True.

    The first call is after the first ``seconds``, or ``at_once``.
    """
    ended = threading.Event()

    def run() -> None:
        if at_once and not act():
            return
        while not ended.wait(seconds):
            if not act():
                return

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
