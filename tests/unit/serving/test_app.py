"""The application without a socket: its counters, its description of itself, and a committee that fails."""

import asyncio
import json
from types import SimpleNamespace

import numpy as np
import pytest

from tlm_search.serving.app import MOST_BYTES, app_of
from tlm_search.serving.batching import Batcher


def answer(texts):
    if "fail" in texts:
        raise RuntimeError("the committee fails")
    return SimpleNamespace(
        probabilities=np.full((len(texts), 2), 0.5, np.float32), disagreement=np.zeros(len(texts), np.float32)
    )


@pytest.fixture
def app():
    return made_up()


def made_up(*, pairs=False, answer=answer):
    return app_of(SimpleNamespace(labels=("a", "b"), size=1, length=8, pairs=pairs, answers=answer), name="made-up")


def ask(app, *requests):
    """Send requests during the life of one server; return status, content type and body of each, and any exception."""

    async def one(method, path, body):
        sent, raised = [], None
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            return parts.pop() if parts else {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": headers, "http_version": "1.1", "scheme": "http", "root_path": "",
        }  # fmt: skip
        try:
            await app(scope, receive, send)
        except Exception as error:
            raised = error
        kind = dict(sent[0]["headers"])[b"content-type"].decode()
        return sent[0]["status"], kind, b"".join(part.get("body", b"") for part in sent[1:]), raised

    async def live():
        async with app.router.lifespan_context(app):
            return [await one(*request) for request in requests]

    return asyncio.run(live())


def predict(*texts):
    return "POST", "/predict", json.dumps({"texts": texts}).encode()


METRICS = ("GET", "/metrics", b"")


def test_a_committee_that_fails_is_json_and_counted_and_told_to_the_log(app):
    failed, again, metrics = ask(app, predict("fail"), predict("a text"), METRICS)
    assert failed[:2] == (500, "application/json")
    assert list(json.loads(failed[2])) == ["error"]
    assert str(failed[3]) == "the committee fails"
    assert again[0] == 200
    assert b'tlm_requests_total{path="/predict",status="500"} 1.0' in metrics[2]
    assert b"tlm_predict_seconds_count 2.0" in metrics[2]


class Panic(BaseException):
    """The exception that pyo3 raises for a panic in Rust."""


@pytest.mark.parametrize("error", [Panic, KeyboardInterrupt, SystemExit, StopIteration, asyncio.CancelledError])
def test_a_committee_that_panics_answers_500_and_goes_on(error):
    def panic(texts):
        if "panic" in texts:
            raise error("no entry found for key")
        return answer(texts)

    app = made_up(answer=panic)
    failed, again, health = ask(app, predict("panic"), predict("a text"), ("GET", "/health", b""))
    assert (failed[0], list(json.loads(failed[2])), again[0]) == (500, ["error"], 200)
    assert f"{error.__name__}: no entry found for key" in str(failed[3])
    assert (health[0], json.loads(health[2])["status"], json.loads(health[2])["failed_batches"]) == (200, "ok", 1)


def test_answers_that_do_not_fit_the_texts_are_a_failure_too():
    app = made_up(answer=lambda texts: SimpleNamespace(probabilities=None, disagreement=None))
    failed, health = ask(app, predict("a text"), ("GET", "/health", b""))
    assert (failed[0], health[0], json.loads(health[2])["failed_batches"]) == (500, 200, 1)


def test_health_knows_that_nobody_answers_any_more(monkeypatch):
    """If the worker ends for any reason, no request waits for it."""

    def end(self):
        raise MemoryError

    monkeypatch.setattr(Batcher, "_next", end)
    waited, later, health = ask(made_up(), predict("a text"), predict("a text"), ("GET", "/health", b""))
    assert (waited[0], later[0], health[0], json.loads(health[2])["status"]) == (500, 500, 503, "failed")


def test_a_refusal_does_not_echo_what_was_sent(app):
    for body in ({"k" * 2**20: 1}, {f"key {i}": 1 for i in range(1000)}, {"texts": [{"k" * 2**20: 1}]}):
        for served in (app, made_up(pairs=True)):
            ((status, _, reply, _),) = ask(served, post(body))
            assert status == 422
            assert len(reply) < 500
            assert b"kkk" not in reply


def test_what_is_refused_before_it_is_read_counts_for_its_path(app):
    long = b" " * (MOST_BYTES + 1)
    requests = [("POST", "/predict", long), ("POST", "/made-up", long), ("GET", "/predict", b""), METRICS]
    *refused, metrics = ask(app, *requests)
    assert [reply[0] for reply in refused] == [413, 413, 405]
    for path, status in (("/predict", 413), ("other", 413), ("/predict", 405)):
        assert f'tlm_requests_total{{path="{path}",status="{status}"}} 1.0'.encode() in metrics[2]


def test_the_description_is_of_what_is_sent(app):
    requests = [
        ("POST", "/predict", b'{"texts": ["\xff"]}'),
        ("POST", "/predict", b" " * (MOST_BYTES + 1)),
        ("POST", "/predict", b"no json"),
        predict("fail"),
    ]
    *replies, (_, _, document, _), (_, kind, _, _) = ask(app, *requests, ("GET", "/openapi.json", b""), METRICS)
    described = json.loads(document)
    responses = described["paths"]["/predict"]["post"]["responses"]
    assert set(responses) == {"200", "408", "503", *(str(reply[0]) for reply in replies)}
    error = described["components"]["schemas"]["Problem"]
    assert {name: field["type"] for name, field in error["properties"].items()} == {"error": "string"}
    for status, _, body, _ in replies:
        assert responses[str(status)]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
        assert list(json.loads(body)) == ["error"]
    assert "HTTPValidationError" not in described["components"]["schemas"]
    described_kind = list(described["paths"]["/metrics"]["get"]["responses"]["200"]["content"])
    assert described_kind == [kind.partition(";")[0]] == ["text/plain"]


PAIR = {"text": "a text", "text_pair": "another text"}


def post(body):
    return "POST", "/predict", json.dumps(body).encode()


def test_one_pair_or_several_are_answered_by_a_committee_of_pairs():
    *replies, (_, _, document, _), health, metrics = ask(
        made_up(pairs=True),
        *map(post, (PAIR, {"texts": [PAIR, PAIR]}, {"texts": []})),
        ("GET", "/openapi.json", b""),
        ("GET", "/health", b""),
        METRICS,
    )
    assert [(reply[0], len(json.loads(reply[2])["answers"])) for reply in replies] == [(200, 1), (200, 2), (200, 0)]
    schemas = json.loads(document)["components"]["schemas"]
    assert set(schemas["TextPair"]["properties"]) == {"text", "text_pair"}
    assert "TextPairs" in schemas
    assert json.loads(health[2])["pairs"] is True
    assert b"tlm_texts_total 3.0" in metrics[2]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"texts": ["a text"]}, "texts.0: Input should be a valid dictionary"),
        ({"text": "a text"}, "text_pair: Field required"),
        ({"text": "a text", "text_pair": 1}, "text_pair: Input should be a valid string"),
        ({"texts": [{**PAIR, "more": 1}]}, "texts.0: Unknown keys; allowed: text, text_pair"),
        ({"texts": [PAIR] * 257}, "at most 256 items"),
        ([PAIR], "Input should be a valid dictionary"),
        ("a text", "Input should be a valid dictionary"),
    ],
)
def test_what_is_no_pair_is_refused_in_words(body, words):
    ((status, _, reply, _),) = ask(made_up(pairs=True), post(body))
    said = json.loads(reply)["error"]
    assert status == 422
    assert words in said
    assert "This committee reads pairs of texts. Send " + json.dumps(PAIR) in said


def test_a_pair_is_refused_by_a_committee_of_single_texts(app):
    for body in (PAIR, {"texts": [PAIR]}):
        ((status, _, reply, _),) = ask(app, post(body))
        assert status == 422
        assert 'This committee reads single texts. Send {"texts": ["a text"]}' in json.loads(reply)["error"]
