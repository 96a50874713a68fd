"""A lock in a remote that expires when its holder dies. It needs no common clock.

A lease is a sequence of numbered objects. The process that created the last object holds the lease, and rewrites this
object every few seconds. A waiting process watches the object by its own clock. It creates the next number when the
object says that it was released, or when it has not changed for the time of the lease. Creation is exclusive, so one
waiting process wins. A holder that was only slow sees the next number and knows that it has lost the lease.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tlm_search.errors import StoreError
from tlm_search.files import HeldError
from tlm_search.remote.heartbeat import repeated
from tlm_search.remote.remote import Remote


@dataclass(frozen=True)
class Timing:
    """Seconds until an unchanged lease ends, until a holder rewrites it, and until a waiting process looks again."""

    lease: float = 20.0
    renew: float = 4.0
    look: float = 1.0


TIMING = Timing()


class Lease:
    """The lease ``name`` in ``remote``.

    ``place`` names the folder in which this process holds the local lock that guards the lease. So an old lease from
    the same place belongs to a dead process, and this process takes it immediately.
    """

    def __init__(self, remote: Remote, name: str, *, place: str, timing: Timing | None = None) -> None:
        self._remote, self._name, self._place = remote, name, place
        self._timing = timing or TIMING
        self._number = 0
        self._facts: dict[str, Any] = {
            "holder": f"process {os.getpid()} on {socket.gethostname()}",
            "place": place,
            "token": uuid.uuid4().hex,
        }

    def acquire(self, *, wait: bool, waiting: Callable[[str], None] = lambda holder: None) -> None:
        """Wait until the lease is free, and take it. ``waiting`` is called with the holder as soon as it is known.

        Raises:
            HeldError: a living process holds the lease, and ``wait`` is False.
            StoreError: the remote cannot be used.
        """
        watched: tuple[int, bytes] | None = None
        since = 0.0
        while True:
            number, content = self._last()
            if number and content is None:
                time.sleep(self._timing.look)
                continue  # removed between the two requests, so a newer object exists
            free, holder = self._judge(number, content)
            if watched != (number, content) and not free:
                if watched is None:
                    waiting(holder)
                elif not wait:
                    raise HeldError(holder)
                watched, since = (number, content or b""), time.monotonic()
            if free or (watched and time.monotonic() - since >= self._timing.lease):
                if self._take(number + 1):
                    return
                continue
            time.sleep(self._timing.look)

    def acquire_now(self) -> None:
        """Take the lease if it is free, without waiting for a heartbeat.

        Raises:
            HeldError: a process holds the lease, or a dead process did not release it.
            StoreError: the remote cannot be used.
        """
        number, content = self._last()
        free, holder = self._judge(number, content)
        if not free or not self._take(number + 1):
            raise HeldError(holder)

    @contextmanager
    def kept(self, lost: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Renew the lease until the block ends, then release it. If another process takes it, call ``lost`` once."""
        beats, gone = itertools.count(1), False

        def renew() -> bool:
            nonlocal gone
            with suppress(StoreError):  # the remote may be away for a moment
                if self._is_lost():
                    gone = True
                    lost()
                    return False
                self._remote.write(self._object(self._number), self._content(beat=next(beats)))
            return True

        try:
            with repeated(renew, seconds=self._timing.renew, name="lease"):
                yield
        finally:
            if not gone:
                with suppress(StoreError):  # the lease expires without it
                    self._remote.write(self._object(self._number), self._content(released=True))
                    older = [number for number in self._numbers() if number < self._number]
                    self._remote.remove(*(self._object(number) for number in older))

    def _judge(self, number: int, content: bytes | None) -> tuple[bool, str]:
        """Return whether the lease is free according to its last object, and the writer of the object."""
        facts = _read(content)
        free = not number or facts.get("released") or facts.get("place") == self._place
        return bool(free), str(facts.get("holder"))

    def _take(self, number: int) -> bool:
        if not self._remote.create(self._object(number), self._content()):
            return False
        self._number = number
        return True

    def _is_lost(self) -> bool:
        return max(self._numbers(), default=0) > self._number

    def _last(self) -> tuple[int, bytes | None]:
        number = max(self._numbers(), default=0)
        return number, self._remote.read(self._object(number)) if number else None

    def _numbers(self) -> list[int]:
        names = (name.rpartition("/")[2] for name in self._remote.list(self._name))
        return [int(name) for name in names if name.isdigit()]

    def _object(self, number: int) -> str:
        return f"{self._name}/{number:08d}"

    def _content(self, **facts: Any) -> bytes:
        return json.dumps({**self._facts, **facts}).encode()


def _read(content: bytes | None) -> Mapping[str, Any]:
    try:
        facts = json.loads(content or b"{}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
