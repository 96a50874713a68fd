"""Real database servers for tests: on 127.0.0.1, with a data folder and a port of their own, ended by their process id.

Where a server's program is missing, its tests are skipped, with the reason.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "s3cr:t/p@ss"  # has characters that must be encoded in a URL
ENCODED = "s3cr%3At%2Fp%40ss"
PATIENCE_SECONDS = 100  # for a busy machine; on an idle one nothing waits this long
# The servers refuse to run as root.
AS_NOBODY: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


@dataclass
class Server:
    """A running server. After ``stop``, ``start`` starts it again on the same port and data."""

    command: Callable[[int], Sequence[str]]
    answers: Callable[[int], object]
    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    guard: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the server and wait until it answers; take another port if this one is in use."""
        known, problem = self.port, ""
        for _ in range(3):
            self.port = known or free_port()
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    self.command(self.port), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder,
                    **AS_NOBODY,
                )  # fmt: skip
            self.guard = _guard(self.process.pid)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while self.process.poll() is None:
                try:
                    self.answers(self.port)
                except Exception as error:
                    problem = str(error)
                    assert time.monotonic() < deadline, f"{self} does not answer: {problem}"
                    time.sleep(0.05)
                else:
                    return
            self.stop()
        raise AssertionError(f"{self} ended: {problem}: {(self.folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """Stop the server at once."""
        if self.guard is not None:
            with self.guard as guard:  # stop the guard first: later another process may have the server's number
                guard.kill()
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def _guard(pid: int) -> subprocess.Popen[bytes]:
    """Start a process that kills the server when this process is dead: it may die before it stops the server."""
    command = ["sh", "-c", 'read -r _; kill -9 "$0"', str(pid)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def _folder() -> Iterator[Path]:
    # Not below pytest's own folder, which only the user who runs the tests may read. In memory if there is space: no
    # file has to survive a power cut, and the servers often wait for the disk.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2**30
    folder = Path(tempfile.mkdtemp(prefix="tlm-search-server-", dir=memory if roomy else None))
    folder.chmod(0o755)
    (folder / "data").mkdir(mode=0o700)
    (folder / "log").touch()
    if AS_NOBODY:
        for path in (folder, folder / "data"):
            shutil.chown(path, AS_NOBODY["user"], AS_NOBODY["group"])
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _program(*names: str) -> str:
    found = [shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") for name in names]
    found += [str(path) for name in names for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))]
    first = next((path for path in found if path), None)
    if first is None:
        pytest.skip(f"needs the program {names[0]}, which .ci/run installs from Debian's packages")
    return first


def _prepare(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, cwd="/", **AS_NOBODY)
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    postgres, initdb = _program("postgres"), _program("initdb")
    psycopg = pytest.importorskip("psycopg")
    with _folder() as folder:
        (folder / "password").write_text(PASSWORD)
        _prepare(
            initdb, "-D", f"{folder}/data", "-U", "owner", "-A", "scram-sha-256", f"--pwfile={folder}/password",
            "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions",
        )  # fmt: skip
        options = ["-F", "-h", "127.0.0.1", "-k", str(folder), "-c", "shared_buffers=16MB", "-c", "max_connections=50"]

        def answers(port: int) -> None:
            psycopg.connect(**_postgresql(port), dbname="postgres").close()

        with _running(
            Server(lambda port: [postgres, "-D", f"{folder}/data", "-p", str(port), *options], answers, folder)
        ) as server:
            yield server


def _postgresql(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "user": "owner", "password": PASSWORD, "connect_timeout": 10}


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[Server]:
    mariadbd, install = _program("mariadbd"), _program("mariadb-install-db")
    pymysql = pytest.importorskip("pymysql")
    with _folder() as folder:
        _prepare(
            install, "--no-defaults", f"--datadir={folder}/data", "--auth-root-authentication-method=normal",
            "--skip-test-db", "--skip-name-resolve",
        )  # fmt: skip
        (folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS 'owner'@'%' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO 'owner'@'%' WITH GRANT OPTION;\n"
        )
        options = [
            "--bind-address=127.0.0.1", f"--socket={folder}/socket", f"--pid-file={folder}/pid", "--skip-name-resolve",
            f"--init-file={folder}/init.sql", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M",
            "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", "--max-connections=50",
        ]  # fmt: skip

        def answers(port: int) -> None:
            pymysql.connect(**_mysql(port)).close()

        with _running(
            Server(
                lambda port: [mariadbd, "--no-defaults", f"--datadir={folder}/data", f"--port={port}", *options],
                answers,
                folder,
            )
        ) as server:
            yield server


def _mysql(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "user": "owner", "password": PASSWORD, "connect_timeout": 10}


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    program = _program("redis-server")
    redis = pytest.importorskip("redis")
    with _folder() as folder:
        options = ["--bind", "127.0.0.1", "--requirepass", PASSWORD, "--dir", f"{folder}/data", "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "no", "--databases", "1000"]

        def answers(port: int) -> None:
            with redis.Redis(port=port, password=PASSWORD) as client:
                client.ping()

        with _running(Server(lambda port: [program, "--port", str(port), *options], answers, folder)) as server:
            yield server


KINDS = ("journal", "sqlite", "postgresql", "mysql", "redis")
_taken = iter(range(1, 1000))


def new_database(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """Return the URL of an empty database of this kind; None for the journal file."""
    if kind == "journal":
        return None
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    server: Server = request.getfixturevalue(f"{kind}_server")
    if kind == "redis":
        return f"redis://:{ENCODED}@127.0.0.1:{server.port}/{next(_taken)}"
    name = f"test_{uuid.uuid4().hex[:12]}"
    if kind == "postgresql":
        import psycopg

        with psycopg.connect(**_postgresql(server.port), dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    else:
        import pymysql

        with suppress(pymysql.Warning), pymysql.connect(**_mysql(server.port)) as connection:
            connection.cursor().execute(f"CREATE DATABASE {name}")
    return f"{kind}://owner:{ENCODED}@127.0.0.1:{server.port}/{name}"


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """An empty storage of every kind, by URL; None is the journal file."""
    return new_database(request.param, request, tmp_path)


@pytest.fixture(params=KINDS[1:])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of every kind, by URL."""
    url = new_database(request.param, request, tmp_path)
    assert url is not None
    return url
