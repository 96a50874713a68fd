"""A study in S3, of a server on this machine: run, refused to a second driver, continued from an empty cache, read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from driven import run_without_ray
from killing import Process, finish, lines_until, start_command

from tlm_search.remote.mount import CACHE_VARIABLE

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

SPACE = """
trainer: simulated
pruner: none
resources: {concurrent_trials: 1}
search:
  depth: {low: 1, high: 3}
  heads: {choices: [1, 2, 4]}
  head_size: 8
  committee_size: {low: 1, high: 4}
reference: {depth: 6, heads: 8}
"""
On = Callable[..., Process]
Read = Callable[..., str]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket. This process and the processes that it starts know its server."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address, bucket = f"http://{host}:{port}", uuid.uuid4().hex
        monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        # fsspec read the environment when this process began
        monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": address})
        fsspec.filesystem("s3").mkdir(bucket)
        yield f"s3://{bucket}/studies"
    finally:
        server.stop()


@pytest.fixture
def on(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[On]:
    """``on("a", "run", ...)`` starts a command on a machine, which has its own cache."""
    (tmp_path / "space.yaml").write_text(SPACE)
    started: list[Process] = []

    def on(machine: str, *arguments: str) -> Process:
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / machine))
        started.append(start_command(tmp_path, *arguments, "--studies-dir", url))
        return started[-1]

    yield on
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def call_on(url: str, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``call_on("b", "run", ...)`` runs a command on a machine, in this process."""

    def call_on(machine: str, *arguments: str) -> Any:
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / machine))
        return call(*arguments, "--studies-dir", url)

    return call_on


@pytest.fixture
def read(call_on: Callable[..., Any]) -> Read:
    """``read("b", "status", ...)`` runs a command on a machine, in this process, and returns what it printed."""

    def read(machine: str, *arguments: str) -> str:
        code, out, err = call_on(machine, *arguments)
        assert code == 0, err
        return out

    return read


def test_a_study_in_s3(
    url: str, on: On, call_on: Callable[..., Any], read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = on("a", "run", "space.yaml", "--trials", "4000")
    lines_until(first, "[3/4000]")
    code, _, err = call_on("b", "run", str(tmp_path / "space.yaml"))
    assert code == 2, err
    assert f"is being run by process {first.pid} on" in err
    os.killpg(first.pid, signal.SIGINT)
    code, _, err = finish(first)
    assert code == 130, err
    assert f"--studies-dir {url}" in err
    shutil.rmtree(tmp_path / "a")

    finished = json.loads(read("b", "status", "space", "--json"))["trials"]["complete"]
    assert finished >= 3
    with monkeypatch.context() as patched:
        run_without_ray(tmp_path / "b", patched)
        code, out, err = call_on("b", "run", str(tmp_path / "space.yaml"), "--trials", str(finished + 3))
    assert code == 0, err
    assert f"report.html, and at {url}/space/report.html" in out

    status = json.loads(read("c", "status", "space", "--json"))
    assert status["trials"] == {"complete": finished + 3, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    assert status["place"] == f"{url}/space"
    assert json.loads(read("c", "best", "space", "--json"))[0]["committee_size"] >= 1
    page = Path(read("c", "report", "space", "--format", "html").strip())
    assert page.is_relative_to(tmp_path / "c")
    assert json.loads(read("d", "store", "verify", "--json"))["problems"] == []
    entries = json.loads(read("d", "store", "ls", "--json"))["entries"]
    members = [entry for entry in entries if entry["kind"] == "members"]
    assert len(members) == status["members"]["trained"], "none was trained twice"
    assert json.loads(read("d", "store", "gc", "--yes", "--json"))["entries"] == []


def test_what_is_wrong_with_s3_is_said(
    url: str, call_on: Callable[..., Any], call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = call("status", "space", "--studies-dir", url)
    assert (code, f"no study space under {url}" in err) == (2, True), err
    code, _, err = call("store", "ls", "--studies-dir", url)
    assert (code, f"there is no store in {url}" in err) == (2, True), err
    (tmp_path / "space.yaml").write_text(SPACE)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": "http://127.0.0.1:9"})
    code, out, err = call_on("a", "run", str(tmp_path / "space.yaml"))
    assert (code, out) == (2, "")
    assert f"error: {url} cannot be" in err
    assert "FSSPEC_S3_ENDPOINT_URL" in err
    assert "Traceback" not in err
    assert "s3cret" not in err
