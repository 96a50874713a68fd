"""Allow one driver for each study in a database, even if drivers run from different folders or machines.

The database holds the lock: a session lock in PostgreSQL and MySQL, a key that expires in Redis, a locked file next to
an SQLite database. The lock ends with its process. If a machine vanishes, the lock ends some seconds later.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy
from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import Engine

from tlm_search.digest import digest
from tlm_search.errors import StudyError
from tlm_search.files import Lock
from tlm_search.remote.heartbeat import repeated
from tlm_search.study.databases import connect_redis, is_redis, lost, sql_url

if TYPE_CHECKING:
    from redis import Redis

LEASE_SECONDS = 20.0  # a database gives the lock to another driver after this time without a heartbeat
_SIGN_OF_LIFE_SECONDS = 5.0


@contextmanager
def study_lock(url: str | None, name: str, folder: Path, announce: Callable[[str], None]) -> Iterator[None]:
    """Hold the right to drive the study ``name`` in the database at ``url``. If ``url`` is None, do nothing.

    If the database goes away for good, the run ends with a message. If another driver takes over the study meanwhile,
    this process is interrupted as by Ctrl-C.

    Raises:
        StudyError: another driver runs the study, or the database does not answer.
    """
    if url is None:
        yield
        return
    try:
        lock = _lock(url, name, folder)
        if not lock.acquire():
            raise StudyError(
                f"the study {name} in this database is being run by another driver: {lock.holder()}",
                hint=f"wait for it or stop it; if its machine is gone, try again in {LEASE_SECONDS:.0f} seconds",
            )
        with _alive(lock, name, announce):
            yield
    except _failures() as error:
        raise lost(url, error) from None  # the chain would show the password


class _Lock(Protocol):
    def acquire(self) -> bool: ...
    def renew(self) -> None: ...
    def release(self) -> None: ...
    def holder(self) -> str: ...


class _FileLock:
    def __init__(self, file: Path) -> None:
        self._lock = Lock(file)

    def acquire(self) -> bool:
        return self._lock.acquire(wait=False)

    def renew(self) -> None:
        """Do nothing, because this lock lasts as long as its process."""

    def release(self) -> None:
        self._lock.release()

    def holder(self) -> str:
        return "a process on a machine that has this file"


class _SessionLock:
    """A lock of a connection. The server closes the connection if it is idle for ``LEASE_SECONDS``."""

    def __init__(self, engine: Engine, name: str, statements: dict[str, str]) -> None:
        self._engine, self._statements = engine, statements
        self._name = {"name": digest(["tlm-search driver", engine.url.database, name])[:32]}
        self._connection: sqlalchemy.Connection | None = None

    def acquire(self) -> bool:
        self._drop()
        self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._run("introduce", who=f"tlm-search {os.getpid()} on {socket.gethostname()}"[:60])
        self._run("expire")
        return bool(self._run("acquire"))

    def renew(self) -> None:
        self._run("renew")

    def release(self) -> None:
        if self._connection is not None:
            # Release explicitly: the server may notice a closed connection after the next driver asks for the lock.
            with suppress(sqlalchemy.exc.SQLAlchemyError):
                self._run("release")
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(sqlalchemy.exc.SQLAlchemyError):
                self._connection.invalidate()
                self._connection.close()
        self._connection = None

    def holder(self) -> str:
        return str(self._run("holder") or "it ended just now")

    def _run(self, name: str, **values: Any) -> Any:
        assert self._connection is not None
        statement = self._statements.get(name, "SELECT 1")
        bound = {key: value for key, value in {**self._name, **values}.items() if f":{key}" in statement}
        result = self._connection.execute(sqlalchemy.text(statement), bound)
        return result.scalar() if result.returns_rows else None


_POSTGRESQL = {
    "introduce": "SELECT set_config('application_name', :who, false)",
    "expire": f"SELECT set_config('idle_session_timeout', '{LEASE_SECONDS:.0f}s', false)",
    "acquire": "SELECT pg_try_advisory_lock(hashtextextended(:name, 0))",
    "release": "SELECT pg_advisory_unlock(hashtextextended(:name, 0))",
    "holder": "SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE locktype = 'advisory'"
    " AND granted AND (classid::bigint << 32 | objid::bigint) = hashtextextended(:name, 0)",
}
_MYSQL = {
    "expire": f"SET SESSION wait_timeout = {LEASE_SECONDS:.0f}",
    "acquire": "SELECT GET_LOCK(:name, 0)",
    "release": "SELECT RELEASE_LOCK(:name)",
    "holder": "SELECT CONCAT('its connection is from ', host) FROM information_schema.processlist"
    " WHERE id = IS_USED_LOCK(:name)",
}


class _RedisLock:
    """A key that expires.

    The caller holds the folder's lock. So a key that a driver of the same folder left belongs to a dead process, and
    this process takes it.
    """

    def __init__(self, redis: Redis, name: str, folder: Path) -> None:
        self._redis = redis
        self._place = f"on {socket.gethostname()} in {folder}"
        self._key = f"tlm-search:driver:{name}"
        self._lock = redis.lock(self._key, timeout=LEASE_SECONDS, thread_local=False)
        self._token = f"process {os.getpid()} {self._place}"

    def acquire(self) -> bool:
        if self.holder().endswith(f" {self._place}"):
            self._redis.delete(self._key)
        return bool(self._lock.acquire(blocking=False, token=self._token))

    def renew(self) -> None:
        self._lock.reacquire()

    def release(self) -> None:
        self._lock.release()
        self._redis.close()

    def holder(self) -> str:
        holder: Any = self._redis.get(self._key)
        return holder.decode() if holder else "it ended just now"


def _lock(url: str, name: str, folder: Path) -> _Lock:
    if is_redis(url):
        return _RedisLock(connect_redis(url), name, folder)
    parsed = sql_url(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return _FileLock(Path(f"{parsed.database}.{name}.lock"))
    engine = sqlalchemy.create_engine(parsed, poolclass=sqlalchemy.NullPool)
    return _SessionLock(engine, name, _POSTGRESQL if kind == "postgresql" else _MYSQL)


@contextmanager
def _alive(lock: _Lock, name: str, announce: Callable[[str], None]) -> Iterator[None]:
    """Send heartbeats until the block ends, and take the lock again if the database was away."""

    def give_sign() -> bool:
        try:
            lock.renew()
        except Exception:  # of any driver: the lock may be lost, so acquire it again
            with suppress(Exception):  # the database is still away
                if not lock.acquire():
                    announce(f"the database was away, and another driver runs the study {name} now: {lock.holder()}")
                    os.kill(os.getpid(), signal.SIGINT)
                    return False
        return True

    try:
        with repeated(give_sign, seconds=_SIGN_OF_LIFE_SECONDS, name="study-lock"):
            yield
    finally:
        with suppress(Exception):  # the lock expires without it
            lock.release()


def _failures() -> tuple[type[Exception], ...]:
    failures: list[type[Exception]] = [StorageInternalError, sqlalchemy.exc.SQLAlchemyError]
    with suppress(ImportError):
        import redis

        failures.append(redis.RedisError)
    return tuple(failures)
