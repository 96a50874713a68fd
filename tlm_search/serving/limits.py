"""A bound on what a client may send, kept while the body arrives and not after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


_READ_AND_DROPPED = 64 * 2**20  # bytes: a client that still sends when it is refused sees no answer but a reset


class BodyLimit:
    """ASGI middleware that answers 413 to a body of more than ``most_bytes``, announced or not.

    What is too long is read to its end without being kept, so that the client learns why it was refused; only from one
    that sends without end the server turns away.
    """

    def __init__(self, app: ASGIApp, *, most_bytes: int) -> None:
        self._app = app
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body, or refuse it as soon as it is too long."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > _READ_AND_DROPPED:
            await self._refuse(send)
            return
        body, received, more = bytearray(), 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":  # the client is gone
                return
            part = message.get("body", b"")
            received += len(part)
            if received > self._most:
                body.clear()
            else:
                body += part
            more = message.get("more_body", False) and received <= _READ_AND_DROPPED
        if received > self._most:
            await self._refuse(send)
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, again, send)

    async def _refuse(self, send: Send) -> None:
        body = json.dumps({"error": f"the body is longer than {self._most:,} bytes"}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        # What may still be on its way is not read: the connection ends here.
        await send({"type": "http.response.start", "status": 413, "headers": [*headers, (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": body})
