"""Repeat an action, such as a heartbeat, every few seconds while a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(act: Callable[[], bool], *, seconds: float, name: str, at_once: bool = False) -> Iterator[None]:
    """Call ``act`` every ``seconds`` while the block runs, in a thread called ``name``, until it returns False.

    The first call comes after ``seconds``, or immediately with ``at_once``.
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
