"""The HTTP server of a committee: /predict, /health, /metrics, and a page that describes them.

Only this module knows FastAPI.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from tlm_search.data.pairs import Pair, TextOrPair
from tlm_search.serving.batching import Answers, Batcher, BusyError
from tlm_search.serving.limits import BodyLimit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 4 * 2**20  # of a request body
MOST_HELD = 32 * 2**20  # of the bodies of all unanswered requests
BODY_SECONDS = 60.0  # until a body must have arrived
MOST_TEXTS = 256  # in a request, and in a batch
MOST_WAITING = 4096  # texts in the queue
MOST_CHARACTERS = 64 * 2**20  # of all texts in the queue, so that long texts do not fill the memory
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Classifier(Protocol):
    """The interface of a committee to serve, such as ``tlm_search.export.committee.Committee``."""

    @property
    def labels(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def length(self) -> int: ...  # noqa: D102
    @property
    def pairs(self) -> bool: ...  # noqa: D102
    def answers(self, texts: Sequence[TextOrPair]) -> Answers: ...  # noqa: D102


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_keys(cls, given: Any) -> Any:
        """Refuse other keys with an error that does not name them, because a body can contain 350,000 keys."""
        if isinstance(given, dict) and not given.keys() <= cls.model_fields.keys():
            raise PydanticCustomError("other_keys", f"Unknown keys; allowed: {', '.join(cls.model_fields)}")
        return given


class Texts(_Sent):
    """Texts to classify."""

    texts: Annotated[list[str], Field(max_length=MOST_TEXTS, examples=[["a text", "another text"]])]


class TextPair(_Sent):
    """A pair of texts to classify together; their order matters."""

    text: Annotated[str, Field(examples=["a text"])]
    text_pair: Annotated[str, Field(examples=["another text"])]


class TextPairs(_Sent):
    """Pairs of texts to classify."""

    texts: Annotated[list[TextPair], Field(max_length=MOST_TEXTS)]


_ONE, _MANY = "one pair", "pairs"  # tags of the two kinds of bodies; no message shows them


def _one_or_many(given: Any) -> str:
    return _ONE if isinstance(given, dict) and "texts" not in given else _MANY


PairOrPairs = Annotated[Annotated[TextPair, Tag(_ONE)] | Annotated[TextPairs, Tag(_MANY)], Discriminator(_one_or_many)]


class Answer(BaseModel):
    """The committee's answer to a text; ``disagreement`` is the share of members that vote for another label."""

    label: str
    probability: float
    probabilities: dict[str, float]
    disagreement: float


class Predictions(BaseModel):
    """The answers in the order of the texts."""

    answers: list[Answer]


class Health(BaseModel):
    """The served committee and its ``status``, ``ok`` or ``failed``.

    ``failed_batches`` counts the batches since the start that the committee could not answer.
    """

    status: str
    failed_batches: int
    model: str
    members: int
    labels: list[str]
    length: int
    pairs: bool


class Problem(BaseModel):
    """The reason why a request has no answer."""

    error: str


_NO_ANSWER: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body cannot be read."},
    408: {"model": Problem, "description": "The body did not arrive in time."},
    413: {"model": Problem, "description": "The body is too long."},
    422: {"model": Problem, "description": "The body does not have the required form."},
    500: {"model": Problem, "description": "The committee failed."},
    503: {
        "model": Problem,
        "description": "Too many texts are waiting; the header Retry-After says when to try again.",
    },
}


def app_of(committee: Classifier, *, name: str) -> FastAPI:
    """Return the application that serves ``committee``; ``name`` is its name in /health."""
    metrics = _Metrics()
    batcher = Batcher(
        committee.answers,
        most_texts=MOST_TEXTS,
        most_waiting=MOST_WAITING,
        most_characters=MOST_CHARACTERS,
        observe=metrics.batch.observe,
    )
    metrics.waiting.set_function(lambda: batcher.waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(batcher.run())
        yield
        worker.cancel()

    app = FastAPI(
        title=f"tlm-search: {name}",
        description="A committee of tiny language models that classifies texts.",
        version=version("tlm-search"),
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load their scripts from the network
        redoc_url=None,
    )
    app.add_middleware(BodyLimit, most_bytes=MOST_BYTES, most_held=MOST_HELD, seconds=BODY_SECONDS)
    app.add_middleware(_Counted, metrics=metrics)

    @app.exception_handler(RequestValidationError)
    async def refuse(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": _in_words(error, pairs=committee.pairs)}, 422)

    @app.exception_handler(BusyError)
    async def busy(_: Request, __: BusyError) -> JSONResponse:
        return JSONResponse({"error": "too many texts are waiting"}, 503, {"Retry-After": "1"})

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": f"{error.detail}; see /docs"}, error.status_code, error.headers)

    async def answered(texts: Sequence[TextOrPair]) -> Response:
        if not texts:
            return JSONResponse({"answers": []})
        probabilities, disagreement = await batcher.answers(texts)
        metrics.texts.inc(len(texts))
        return JSONResponse({"answers": _answers(committee.labels, probabilities, disagreement)})

    route = app.post("/predict", name="predict", response_model=Predictions, responses=_NO_ANSWER)
    if committee.pairs:

        @route
        async def predict_pairs(given: PairOrPairs) -> Response:
            """Classify pairs of texts, or lines after their contexts. Long texts are cut as in the study."""
            pairs = given.texts if isinstance(given, TextPairs) else [given]
            return await answered([Pair(pair.text, pair.text_pair) for pair in pairs])
    else:

        @route
        async def predict(given: Texts) -> Response:
            """Classify texts. Texts that are too long for the committee are cut. Empty texts are classified too."""
            return await answered(given.texts)

    @app.get("/health", responses={503: {"model": Health, "description": "The server no longer answers texts."}})
    async def health(response: Response) -> Health:
        """Report whether the server answers, and which committee it serves."""
        if batcher.ended:
            response.status_code = 503
        return Health(
            status="failed" if batcher.ended else "ok",
            failed_batches=batcher.failed,
            model=name,
            members=committee.size,
            labels=list(committee.labels),
            length=committee.length,
            pairs=committee.pairs,
        )

    @app.get("/metrics", response_class=PlainTextResponse)
    async def report() -> Response:
        """Report counts and times in the text format of Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(files("tlm_search.serving").joinpath("page.html").read_text(encoding="utf-8"))

    return app


class _Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("tlm_requests", "Requests by path and status.", ["path", "status"], registry=own)
        self.texts = Counter("tlm_texts", "Classified texts.", registry=own)
        self.batch = Histogram("tlm_batch_texts", "Texts of a batch.", buckets=_BATCH_SIZES, registry=own)
        self.seconds = Histogram("tlm_predict_seconds", "Time of a /predict.", buckets=_SECONDS, registry=own)
        self.waiting = Gauge("tlm_waiting_texts", "Texts in the queue.", registry=own)


class _Counted:
    """ASGI middleware that counts requests, times requests to /predict, and answers 500 for inner failures."""

    def __init__(self, app: ASGIApp, *, metrics: _Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, begun = time.perf_counter(), False
        # The path of the route, so that paths which clients make up are not counted separately.
        known = {getattr(route, "path", None) for route in scope["app"].routes}
        path = scope["path"] if scope["path"] in known else "other"

        async def counted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._metrics.requests.labels(path, str(message["status"])).inc()
                if path == "/predict":
                    self._metrics.seconds.observe(time.perf_counter() - begin)
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:  # any failure is counted and answered in JSON
            if not begun:
                await JSONResponse({"error": "the server failed; its log says why"}, 500)(scope, receive, counted)
            raise  # for the log


def _answers(labels: Sequence[str], probabilities: Any, disagreement: Any) -> list[dict[str, Any]]:
    best = np.argmax(probabilities, axis=-1).tolist()
    return [
        {
            "label": labels[label],
            "probability": row[label],
            "probabilities": dict(zip(labels, row, strict=True)),
            "disagreement": share,
        }
        for label, row, share in zip(best, probabilities.tolist(), disagreement.tolist(), strict=True)
    ]


def _in_words(error: RequestValidationError, *, pairs: bool) -> str:
    """Say what is wrong and where, without repeating the request."""
    reasons = []
    for found in error.errors()[:5]:
        place = ".".join(str(part) for part in found["loc"] if part not in ("body", _ONE, _MANY))
        reasons.append(f"{place}: {found['msg']}" if place else str(found["msg"]))
    reads, example = "single texts", json.dumps({"texts": ["a text"]})
    if pairs:
        reads, example = "pairs of texts", json.dumps({"text": "a text", "text_pair": "another text"})
    return f"{'; '.join(reasons)}. This committee reads {reads}. Send {example} as application/json"
