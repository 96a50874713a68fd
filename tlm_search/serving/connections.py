"""Limit the connections of clients, and the time until each must send the head of a request."""

from __future__ import annotations

import asyncio
import json
import resource
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_SECONDS = (
    10.0  # from the start of the connection, or the first byte of a later request, to the end of the request's head
)
_MOST = 512


def most_connections() -> int:
    """Return how many connections to accept, so that the process can still open files."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if descriptors == resource.RLIM_INFINITY else max(1, min(_MOST, descriptors // 2))


class BoundedConnection(AutoHTTPProtocol):  # type: ignore[valid-type,misc]
    """Uvicorn's protocol of a connection. It answers 503 and closes if ``most_connections`` are open.

    It also closes if the head of a request has not arrived after ``HEAD_SECONDS``. ``BodyLimit`` does the same for
    bodies.
    """

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Accept the connection, or refuse it."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            body = json.dumps({"error": "too many connections are open"}).encode()
            head = (
                "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
                f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            transport.write(head.encode() + body)
            transport.close()
            return
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Pass on the data that have arrived."""
        super().data_received(data)
        if self._awaits_head():
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _awaits_head(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if self._awaits_head():
            self.transport.close()
