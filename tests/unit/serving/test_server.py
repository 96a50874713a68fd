"""The real server on a free port: what it answers and what it refuses, and that it works afterwards."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

import numpy as np
import pytest
from finished import finished_study

from tlm_search.export.choose import choose
from tlm_search.export.committee import Committee
from tlm_search.export.write import export_committee
from tlm_search.report.evidence import Evidence


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    finished = finished_study(tmp_path_factory.mktemp("studies"))
    out = tmp_path_factory.mktemp("exports") / "tiny"
    chosen = choose(finished.record, Evidence(finished.record, finished.store), number=0)
    export_committee(finished.record, finished.store, chosen, out=out)
    return out


@contextlib.contextmanager
def serving(folder, program="from tlm_search.cli.main import main; main()"):
    command = [sys.executable, "-c", program, "serve", str(folder), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            line = server.stderr.readline()
            assert "http://127.0.0.1:" in line, line + server.stderr.read()
            yield server, line.split(" at ")[1].split()[0]
        finally:
            server.kill()


@pytest.fixture(scope="module")
def url(folder):
    with serving(folder) as (_, url):
        yield url


def post(url, body, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/predict", data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def get(url, path):
    with urllib.request.urlopen(url + path, timeout=60) as reply:
        return reply.read().decode()


def healthy(url):
    return json.loads(get(url, "/health"))["status"] == "ok"


def test_it_answers_as_the_committee_does(url, folder):
    texts = ["aa ea", "", "日本 \U0001f600", "ba " * 100_000]
    status, found = post(url, {"texts": texts})
    expected = Committee.load(folder).answers(texts)
    assert status == 200
    for answer, row, share in zip(found["answers"], expected.probabilities, expected.disagreement, strict=True):
        np.testing.assert_allclose(list(answer["probabilities"].values()), row, atol=1e-5)
        assert answer["disagreement"] == pytest.approx(share)
        assert answer["probability"] == max(answer["probabilities"].values())
    assert post(url, {"texts": []}) == (200, {"answers": []})


def test_requests_that_come_together_get_their_own_answers(url, folder):
    texts = [f"{first}{second} ca" for first in "abcdef" for second in "aeiou"]
    expected = Committee.load(folder).probabilities(texts)
    with ThreadPoolExecutor(8) as clients:
        replies = list(clients.map(lambda text: post(url, {"texts": [text]}), texts))
    rows = [list(found["answers"][0]["probabilities"].values()) for _, found in replies]
    np.testing.assert_allclose(rows, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"texts": "one text"}, 422, "texts: Input should be a valid list"),
        ({"texts": [1]}, 422, "texts.0: Input should be a valid string"),
        ({"texts": [None]}, 422, "texts.0"),
        ({}, 422, "texts: Field required"),
        ({"text": ["a"]}, 422, "Unknown keys; allowed: texts"),
        ({"texts": ["a"] * 257}, 422, "at most 256 items"),
        ([], 422, "Input should be"),
        (b"no json", 422, "JSON"),
        (b"\xff\xfe", 422, "JSON"),
        (b"", 422, "Field required"),
    ],
)
def test_what_is_wrong_is_said_and_the_server_goes_on(url, body, status, words):
    code, found = post(url, body)
    assert (code, list(found)) == (status, ["error"])
    assert words in found["error"]
    assert healthy(url)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_of_50_mb_is_refused_with_a_reason(url, announced):
    place = urlsplit(url)
    connection = HTTPConnection(place.hostname, place.port, timeout=60)
    chunks = (b" " * 2**20 for _ in range(50))
    headers = {"Content-Type": "application/json", **({"Content-Length": str(50 * 2**20)} if announced else {})}
    with contextlib.closing(connection):
        connection.request("POST", "/predict", chunks, headers, encode_chunked=not announced)
        reply = connection.getresponse()
        assert (reply.status, json.load(reply)) == (413, {"error": "the body is longer than 4,194,304 bytes"})
    assert healthy(url)


def test_other_paths_metrics_and_the_page(url):
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        get(url, "/nothing")
    caught.value.close()
    post(url, {"texts": ["aa", "ba"]})
    metrics = get(url, "/metrics")
    assert 'tlm_requests_total{path="other",status="404"}' in metrics
    assert "tlm_batch_texts_bucket" in metrics
    assert set(json.loads(get(url, "/openapi.json"))["paths"]) == {"/predict", "/health", "/metrics"}
    page = get(url, "/docs")
    assert "<title>tlm-search serve</title>" in page
    assert "//" not in page.split("<script>")[0]  # the page loads nothing from another address


def test_clients_that_only_connect_do_not_keep_others_out_and_ctrl_c_ends_it(folder):
    """The limits of descriptors and time are small, so that the test needs few clients and little time."""
    program = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
from tlm_search.serving import connections
connections.HEAD_SECONDS = 2
from tlm_search.cli.main import main; main()
"""
    with serving(folder, program) as (server, url):
        place = urlsplit(url)
        with contextlib.ExitStack() as opened:
            silent = [opened.enter_context(socket.create_connection((place.hostname, place.port))) for _ in range(150)]
            for client in silent[:50]:
                client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n")  # headers without an end
            answer = silent[-1].recv(1000)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"retry-after: 1" in answer
            assert answer.endswith(b'{"error": "too many connections are open"}')
            assert silent[0].recv(1000) == b""  # this connection has waited long enough
            assert healthy(url)
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) in (0, 130)


def test_what_cannot_be_served_is_one_message(call, folder, tmp_path, url):
    code, _, err = call("serve", str(tmp_path))
    assert (code, "not an exported committee" in err) == (2, True)
    code, _, err = call("serve", str(folder), "--port", str(urlsplit(url).port))
    assert (code, "cannot listen on 127.0.0.1" in err) == (2, True)


def test_without_the_extra_it_says_what_to_install(call, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = call("serve", str(folder))
    assert (code, "pip install 'tlm-search[serve]'" in err) == (2, True)
