"""Batch requests that arrived while the committee was busy, without waiting for batches to fill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tlm_search.data.pairs import TextOrPair, characters_of


class Answers(Protocol):
    """The interface of a committee's answers, such as ``tlm_search.export.committee.Answers``."""

    @property
    def probabilities(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def disagreement(self) -> NDArray[np.float32]: ...  # noqa: D102


_ENDED = "the server no longer answers"


class BusyError(Exception):
    """More texts are waiting than the server accepts."""


@dataclass(frozen=True)
class _Waiting:
    texts: Sequence[TextOrPair]
    characters: int
    answer: asyncio.Future[tuple[NDArray[np.float32], NDArray[np.float32]]]


class Batcher:
    """Answers requests in the order of their arrival, at most ``most_texts`` texts at once.

    ``answer`` runs in a separate thread, so that the server can continue to listen. At most ``most_waiting`` texts with
    ``most_characters`` in total may wait. ``observe`` is called with the number of texts of each batch. ``failed``
    counts the batches without an answer. After the batcher has ``ended``, it refuses requests.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[TextOrPair]], Answers],
        *,
        most_texts: int,
        most_waiting: int,
        most_characters: int,
        observe: Callable[[int], Any] = lambda _: None,
    ) -> None:
        self._answer = answer
        self._most_texts = most_texts
        self._most_waiting = most_waiting
        self._most_characters = most_characters
        self._observe = observe
        self._waiting: list[_Waiting] = []
        self.failed = 0
        self.ended = False
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="committee")

    @property
    def waiting(self) -> int:
        """The number of texts in the queue."""
        return sum(len(request.texts) for request in self._waiting)

    async def answers(self, texts: Sequence[TextOrPair]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return probabilities ``(texts, labels)`` and disagreement ``(texts,)``.

        Raises:
            BusyError: too many texts are waiting.
            RuntimeError: the batcher has ended.
        """
        if self.ended:
            raise RuntimeError(_ENDED)
        characters = sum(map(characters_of, texts))
        held = sum(request.characters for request in self._waiting)
        if self.waiting + len(texts) > self._most_waiting or held + characters > self._most_characters:
            raise BusyError
        request = _Waiting(texts, characters, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._arrived.set()
        return await request.answer

    async def run(self) -> None:
        """Answer requests until the task is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._arrived.wait()
                batch = self._next()
                try:
                    texts = [text for request in batch for text in request.texts]
                    self._observe(len(texts))
                    _hand_out(batch, await loop.run_in_executor(self._thread, self._attempt, texts))
                except Exception as error:
                    self.failed += 1
                    _fail(batch, error)
        finally:
            self.ended = True
            _fail(self._waiting, RuntimeError(_ENDED))
            self._thread.shutdown(wait=False)

    def _attempt(self, texts: Sequence[TextOrPair]) -> Answers:
        try:
            return self._answer(texts)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                raise
            # For example a panic of the tokenizer, which would end the loop. A future accepts no StopIteration.
            raise RuntimeError(f"{type(error).__name__}: {error}") from error

    def _next(self) -> list[_Waiting]:
        """Take the requests of the next batch. The first request is taken even if it is larger than a batch."""
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].texts) <= self._most_texts):
            request = self._waiting.pop(0)
            if request.answer.done():  # the client has disconnected
                continue
            batch.append(request)
            size += len(request.texts)
        if not self._waiting:
            self._arrived.clear()
        return batch


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for request in batch:
        if not request.answer.done():
            request.answer.set_exception(error)


def _hand_out(batch: Sequence[_Waiting], answers: Answers) -> None:
    first = 0
    for request in batch:
        part = slice(first, first + len(request.texts))
        first = part.stop
        if not request.answer.done():
            request.answer.set_result((answers.probabilities[part], answers.disagreement[part]))
