"""What goes wrong with a database is said in one message without its password; one driver a study, wherever it runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driven import Bench, results, space_of
from servers import ENCODED, PASSWORD, PATIENCE_SECONDS, Server, free_port, new_database

from tlm_search.errors import StudyError
from tlm_search.search.session import Session
from tlm_search.study import database_lock as study_lock
from tlm_search.study import databases
from tlm_search.study.storages import open_storage


@pytest.fixture
def server_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url = new_database(request.param, request, tmp_path)
    assert url is not None
    return url


of_servers = pytest.mark.parametrize("server_database", ["postgresql", "mysql", "redis"], indirect=True)


@of_servers
def test_what_is_wrong_is_said_without_the_password(
    server_database: str, tmp_path: Path, call: Callable[..., Any]
) -> None:
    url, port = server_database, re.search(r":(\d+)/", server_database)
    assert port is not None
    database = url.rpartition("/")[2]
    wrong = {
        url.replace(ENCODED, "wr0ng%2Fs3cret"): "password|denied",
        url.replace("127.0.0.1", "nosuchhost.invalid"): "nosuchhost",
        url.replace(f":{port[1]}/", f":{free_port()}/"): "refused",
        url.replace(f"/{database}", "/9999"): "9999|DB index",
        url.replace(ENCODED, "s3cr/t@x"): "character that must be encoded in a URL",
    }
    for bad, words in wrong.items():
        space = Path(__file__).parents[2] / "spaces" / "simulated.yaml"
        code, out, err = call("run", str(space), "--storage", bad, "--studies-dir", str(tmp_path / "studies"))
        assert (code, out) == (2, ""), err
        assert re.search(words, err), err
        assert "Traceback" not in err
        assert len(err.splitlines()) == 2
        for secret in ("s3cr", PASSWORD, ENCODED, "wr0ng", "t@x"):
            assert secret not in err
        with pytest.raises(StudyError) as raised:
            open_storage(tmp_path, bad)
        assert raised.value.__cause__ is None
        assert "s3cr" not in "".join(map(str, raised.value.args))


@pytest.mark.parametrize(("url", "module", "extra"), [
    ("postgresql://me:secret@127.0.0.1/db", "psycopg", "postgresql"),
    ("mysql://me:secret@127.0.0.1/db", "pymysql", "mysql"),
    ("redis://:secret@127.0.0.1/0", "redis", "redis"),
])  # fmt: skip
def test_a_missing_driver_is_named_with_its_extra(
    url: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StudyError, match=f"needs the Python package {module}") as raised:
        open_storage(tmp_path, url)
    assert raised.value.hint == f"install it with pip install 'tlm-search[{extra}]'"
    assert "secret" not in str(raised.value)


@pytest.fixture
def other_driver(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """A process that holds the lock of the study ``test`` at a URL, from its own folder."""
    processes: list[subprocess.Popen[str]] = []

    def start(url: str) -> subprocess.Popen[str]:
        code = f"""
import time
from pathlib import Path
from tlm_search.study.database_lock import study_lock
with study_lock({url!r}, "test", Path("/elsewhere"), print):
    print("ready", flush=True)
    time.sleep(600)
"""
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_second_driver_is_refused_until_the_first_is_dead(
    database: str, run: Callable[..., Session], other_driver: Callable[[str], subprocess.Popen[str]]
) -> None:
    first = other_driver(database)
    space = space_of(budget={"trials": 2})
    for fresh in (False, True):
        with pytest.raises(StudyError, match="the study test in this database is being run by another driver"):
            run(space, storage=database, fresh=fresh)
    with study_lock.study_lock(database, "another", Path("/here"), print):
        pass
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    if database.startswith("redis"):  # on other databases the lock ends with its connection
        with databases.connect_redis(database) as redis:
            (key,) = redis.keys("tlm-search:*")
            assert 0 < redis.pttl(key) <= study_lock.LEASE_SECONDS * 1000
            redis.pexpire(key, 1)
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            assert run(space, storage=database).worked
        except StudyError:
            assert time.monotonic() < give_up
            time.sleep(0.2)
        else:
            return


def test_a_dead_driver_of_the_same_folder_blocks_nobody(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new driver has the lock of the folder, so the old one is dead, and nobody waits for the end of its lease."""
    with study_lock.study_lock(database, "test", tmp_path, print):
        if database.startswith("redis"):  # on other databases the lock ends with its connection
            with study_lock.study_lock(database, "test", tmp_path, print):
                pass
    with study_lock.study_lock(database, "test", tmp_path, print):
        pass


@of_servers
def test_signs_of_life_are_given_and_a_lost_lock_stops_the_driver(
    server_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_lock, "_SIGN_OF_LIFE_SECONDS", 0.05)
    said: list[str] = []
    lock = study_lock._lock(server_database, "test", tmp_path)
    renewed = threading.Event()
    real = type(lock).renew

    def renew(self: Any) -> None:
        real(self)
        renewed.set()

    monkeypatch.setattr(type(lock), "renew", renew)
    with pytest.raises(KeyboardInterrupt), study_lock.study_lock(server_database, "test", tmp_path, said.append):
        assert renewed.wait(PATIENCE_SECONDS)

        def fail(self: Any) -> None:
            raise ConnectionError

        monkeypatch.setattr(type(lock), "acquire", lambda self: False)
        monkeypatch.setattr(type(lock), "renew", fail)
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up:
            time.sleep(0.01)
    assert "another driver runs the study test now" in said[0]


@pytest.mark.parametrize("server_database", ["postgresql", "mysql"], indirect=True)
def test_a_study_outlives_a_restart_of_its_server(
    server_database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(f"{server_database.partition(':')[0]}_server")
    expected = results(Bench(tmp_path / "undisturbed", space_of()).drive(4)._ledger)
    place = Bench(tmp_path / "here", space_of())
    restarted = []

    def restart(job: Any, size: int) -> None:
        if job.number == 1 and not restarted:
            server.stop()
            starting = threading.Thread(target=server.start)
            starting.start()
            restarted.append(starting)

    try:
        driver = place.run(place.driver(4, storage=server_database), before_rung=restart)
    finally:
        for starting in restarted:
            starting.join()
    assert restarted
    assert results(driver._ledger) == expected


@pytest.mark.parametrize("server_database", ["postgresql", "mysql", "redis"], indirect=True)
def test_a_server_that_stays_away_ends_the_run_in_words(
    server_database: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., Session],
) -> None:
    server: Server = request.getfixturevalue(f"{server_database.partition(':')[0]}_server")
    monkeypatch.setattr(databases, "PATIENCE_SECONDS", 0)
    real = Bench.run

    def stop(self: Bench, driver: Any, **options: Any) -> Any:
        def after_two(job: Any, size: int) -> None:
            if job.number == 2:
                server.stop()

        return real(self, driver, before_rung=after_two)

    monkeypatch.setattr(Bench, "run", stop)
    try:
        with pytest.raises(StudyError, match="no longer answers") as raised:
            run(space_of(budget={"trials": 4}), storage=server_database)
        assert "s3cr" not in str(raised.value)
        assert raised.value.__cause__ is None
    finally:
        server.stop()
        server.start()
    monkeypatch.setattr(Bench, "run", real)
    session = run(space_of(budget={"trials": 4}), storage=server_database)
    assert session.driver.progress.finished == 4


def test_a_redis_that_lost_entries_is_not_waited_for(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = new_database("redis", request, tmp_path)
    assert url is not None
    Bench(tmp_path, space_of()).drive(1, storage=url)
    with databases.connect_redis(url) as redis:
        redis.delete(":log:3")
    with pytest.raises(StudyError, match="Redis has lost entry 3"):
        open_storage(tmp_path, url)


def test_no_pickle_of_a_redis_is_read(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = new_database("redis", request, tmp_path)
    assert url is not None
    with databases.connect_redis(url) as redis:
        redis.set(":snapshot", b"cos\nabort\n(tR.")
    open_storage(tmp_path, url)
