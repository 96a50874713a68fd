"""Limit the bodies of requests while they arrive."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


_READ_AND_DROPPED = (
    64 * 2**20
)  # bytes; a client that is still sending when the connection closes sees a reset instead of the answer


class BodyLimit:
    """ASGI middleware that answers 413 to a body of more than ``most_bytes``, announced or not.

    The bodies of all unanswered requests together have at most ``most_held`` bytes. A body beyond that is answered 503.
    A body that has not arrived after ``seconds`` is answered 408. A refused body is read to its end and discarded, so
    that the client sees the reason. A client that sends endlessly is disconnected.
    """

    def __init__(self, app: ASGIApp, *, most_bytes: int, most_held: int, seconds: float) -> None:
        self._app = app
        self._most = most_bytes
        self._most_held = most_held
        self._seconds = seconds
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(self._most)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > _READ_AND_DROPPED:
            await _refuse(send, *body.too_long)
            return
        try:
            if not await self._read(body, receive):
                return
            if body.refusal is not None:
                await _refuse(send, *body.refusal)
                return
            whole: list[Message] = [{"type": "http.request", "body": body.taken(), "more_body": False}]

            async def again() -> Message:
                return whole.pop() if whole else await receive()

            await self._app(scope, again, send)
        finally:
            self._held -= body.held

    async def _read(self, body: _Body, receive: Receive) -> bool:
        """Read the body, or refuse it with a reason; return whether the client is still connected."""
        try:
            async with asyncio.timeout(self._seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        return False
                    self._held -= body.held
                    body.add(message.get("body", b""), room=self._most_held - self._held)
                    self._held += body.held
                    more = message.get("more_body", False) and body.received <= _READ_AND_DROPPED
        except TimeoutError:
            body.refusal = (408, f"the body did not arrive within {self._seconds:g} seconds")
        return True


class _Body:
    """A body that is arriving, or the reason of its refusal."""

    def __init__(self, most: int) -> None:
        self.too_long = (413, f"the body is longer than {most:,} bytes")
        self.refusal: tuple[int, str] | None = None
        self.received = self.held = 0
        self._most = most
        self._content = bytearray()

    def add(self, part: bytes, *, room: int) -> None:
        self.received += len(part)
        if self.received > self._most:
            self.refusal = self.too_long
        elif self.refusal is None and self.held + len(part) > room:
            self.refusal = (503, "the server holds too many bodies")
        if self.refusal is None:
            self._content += part
            self.held += len(part)
        else:
            self._content.clear()
            self.held = 0

    def taken(self) -> bytes:
        """Return the whole body and drop this object's reference, so that only the caller holds it."""
        content, self._content = bytes(self._content), bytearray()
        return content


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    # The connection ends here, without reading data that are still on their way.
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
