"""Requests are answered together, in their order; each client gets its errors, also that of a full queue."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from tlm_search.serving.batching import Batcher, BusyError


def echo(texts):
    numbers = np.array([float(text) for text in texts], np.float32)
    return SimpleNamespace(probabilities=numbers[:, None], disagreement=numbers)


async def together(batcher, *requests):
    """Send all requests before the batcher runs; then let it answer."""
    asked = [asyncio.ensure_future(batcher.answers(request)) for request in requests]
    await asyncio.sleep(0)
    worker = asyncio.ensure_future(batcher.run())
    found = await asyncio.gather(*asked, return_exceptions=True)
    worker.cancel()
    return found


def batcher_of(answer=echo, *, sizes, most_waiting=100, most_characters=1000):
    return Batcher(
        answer, most_texts=4, most_waiting=most_waiting, most_characters=most_characters, observe=sizes.append
    )


def test_waiting_requests_share_batches_of_bounded_size():
    sizes = []
    requests = [["1", "2"], ["3"], ["4", "5"], ["6"] * 9, ["7"]]
    found = asyncio.run(together(batcher_of(sizes=sizes), *requests))
    assert [answers[1].tolist() for answers in found] == [[float(text) for text in request] for request in requests]
    assert sizes == [3, 2, 9, 1]


def test_an_error_reaches_those_of_its_batch_and_no_other():
    sizes = []
    found = asyncio.run(together(batcher_of(sizes=sizes), ["1"], ["no number", "1", "2"], ["3"]))
    assert [type(answers) for answers in found] == [ValueError, ValueError, tuple]


@pytest.mark.parametrize("full", [{"most_waiting": 3}, {"most_characters": 3}])
def test_a_full_queue_refuses(full):
    async def ask():
        batcher = batcher_of(sizes=[], **full)
        first = asyncio.ensure_future(batcher.answers(["1", "2"]))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await batcher.answers(["3", "4"])
        assert batcher.waiting == 2
        first.cancel()

    asyncio.run(ask())
