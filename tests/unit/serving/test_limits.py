"""How many bytes all bodies may hold together, and how long one may take; without a socket."""

import asyncio
import json

import pytest

from tlm_search.serving.limits import BodyLimit

SLOW = object()  # stands for a part that does not arrive


class Client:
    """A request whose body arrives in parts. ``SLOW`` waits for ever; None is a client that has disconnected."""

    def __init__(self, *parts):
        self.parts, self.replies = list(parts), []

    @property
    def status(self):
        return self.replies[0]["status"]

    async def receive(self):
        await asyncio.sleep(0)
        part = self.parts.pop(0)
        if part is SLOW:
            await asyncio.Event().wait()
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": bool(self.parts)}

    async def send(self, message):
        self.replies.append(message)


class App:
    """Answers each request when the test says so, with the number of bytes that it received."""

    def __init__(self):
        self.go_on = asyncio.Event()
        self.got = []

    async def __call__(self, scope, receive, send):
        self.got.append(len((await receive())["body"]))
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})


def run(scenario, **bounds):
    async def live():
        app = App()
        limit = BodyLimit(app, **{"most_bytes": 10, "most_held": 20, "seconds": 60, **bounds})
        await scenario(app, limit)
        return limit

    return asyncio.run(live())


async def ask(limit, client):
    await limit({"type": "http", "headers": []}, client.receive, client.send)


def test_bodies_without_an_answer_hold_so_many_bytes_together_and_no_more():
    async def scenario(app, limit):
        clients = [Client(b"12345", b"12345") for _ in range(5)]
        waiting = [asyncio.ensure_future(ask(limit, client)) for client in clients]
        for _ in range(20):
            await asyncio.sleep(0)
        assert limit._held <= 20
        refused = [client for client in clients if client.replies]
        assert {client.status for client in refused} == {503}
        reply = refused[0].replies
        assert dict(reply[0]["headers"])[b"retry-after"] == b"1"
        assert json.loads(reply[1]["body"]) == {"error": "the server holds too many bodies"}
        app.go_on.set()
        await asyncio.gather(*waiting)
        assert app.got == [10] * (len(clients) - len(refused))
        assert app.got
        later = Client(b"1234567890")
        await ask(limit, later)
        assert later.status == 200

    assert run(scenario)._held == 0


@pytest.mark.parametrize(
    ("parts", "status"),
    [((b"1", SLOW), 408), ((SLOW,), 408), ((b"1" * 11, SLOW), 408), ((b"1" * 9, b"1" * 2, b""), 413)],
)
def test_what_a_refused_body_held_is_free_again(parts, status):
    async def scenario(app, limit):
        client = Client(*parts)
        await ask(limit, client)
        assert client.status == status
        assert dict(client.replies[0]["headers"])[b"connection"] == b"close"
        assert app.got == []

    assert run(scenario, seconds=0.01)._held == 0


def test_a_client_that_goes_and_a_request_that_is_cancelled_hold_nothing():
    async def scenario(app, limit):
        await ask(limit, Client(b"1", None))
        slow = asyncio.ensure_future(ask(limit, Client(b"1", SLOW)))
        await asyncio.sleep(0.01)
        assert limit._held == 1
        slow.cancel()
        await asyncio.wait([slow])

    assert run(scenario)._held == 0
