"""Open databases for studies by URL: SQLite, PostgreSQL, MySQL and MariaDB through SQLAlchemy, Redis as a journal.

A URL can contain a password. No error of this module shows it. A URL with an ambiguous password is refused.
"""

from __future__ import annotations

import json
import re
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalRedisBackend
from sqlalchemy.engine import URL, Engine

from tlm_search.errors import StudyError
from tlm_search.passwords import masked_words

if TYPE_CHECKING:
    from redis import Redis

FORMS = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE, mysql://..., or redis://:PASSWORD@HOST:PORT/0"
PATIENCE_SECONDS = 60  # a run waits this long for a server that is away, for example to restart
_CONNECT_SECONDS = "10"
_ENTRIES_AT_ONCE = 1000
_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
}
_SQLITE = "sqlite"
_EXTRAS = {"psycopg": "postgresql", "pymysql": "mysql", "redis": "redis"}


def is_redis(url: str) -> bool:
    """Return whether ``url`` names a journal in Redis."""
    return url.startswith(("redis://", "rediss://"))


def open_database(url: str) -> BaseStorage:
    """Open the storage at ``url``, and create its tables if they are missing.

    Raises:
        StudyError: the storage cannot be opened. The message shows no password.
    """
    _check_form(url)
    try:
        return JournalStorage(_RedisJournal(connect_redis(url))) if is_redis(url) else _open_tables(sql_url(url))
    except StudyError:
        raise
    except Exception as error:
        # `from None`: the chain would show the password.
        raise _refusal(url, error) from None


def sql_url(url: str) -> URL:
    """Return the URL with a time limit for connecting, and with the driver of our extras if it names no driver."""
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise StudyError(f"the storage {url} is not a URL", hint=f"allowed: {FORMS}") from None
    parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    if parsed.drivername in _DRIVERS.values() and "connect_timeout" not in parsed.query:
        return parsed.update_query_dict({"connect_timeout": _CONNECT_SECONDS})
    return parsed


def is_missing(url: str) -> bool:
    """Return whether opening the storage at ``url`` would create an SQLite file.

    Raises:
        StudyError: the URL has an unknown form.
    """
    _check_form(url)
    if not url.startswith(_SQLITE):
        return False
    file = sql_url(url).database or ""
    return not file.startswith("file:") and not Path(file).exists()


def connect_redis(url: str) -> Redis:
    """Return a connection to the Redis at ``url``.

    Raises:
        StudyError: the package ``redis`` is not installed.
    """
    try:
        import redis
    except ImportError as error:
        raise _without_driver(url, error) from None
    return redis.Redis.from_url(url)


def lost(url: str, error: BaseException) -> StudyError:
    """Return the error for a database that no longer answers during a run."""
    return StudyError(
        f"the storage {url} no longer answers: {_words(url, error)}",
        hint="finished trials are safe; when the database is back, run the same command again",
    )


class _RedisJournal(BaseJournalBackend):
    """Optuna's journal in Redis, read in blocks and without Optuna's snapshots.

    Snapshots are pickles. Anyone who can write to the Redis could use them to run code on this machine.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._writer = JournalRedisBackend("redis://")
        self._writer._redis = redis

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._writer.append_logs(logs)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        last: Any = self._redis.get(":log_number")
        numbers = range(log_number_from, int(last) + 1) if last is not None else range(0)
        for start in range(0, len(numbers), _ENTRIES_AT_ONCE):
            block = numbers[start : start + _ENTRIES_AT_ONCE]
            entries: Any = self._redis.mget([f":log:{number}" for number in block])
            for number, entry in zip(block, entries, strict=True):
                if entry is None:
                    raise StudyError(
                        f"Redis has lost entry {number} of the journal",
                        hint="restore its backup; a Redis that keeps studies needs maxmemory-policy noeviction",
                    )
                yield json.loads(entry)


def _open_tables(url: URL) -> RDBStorage:
    if url.get_backend_name() == _SQLITE and is_missing(url.render_as_string()):
        Path(url.database or "").touch()  # with the umask's mode, because SQLite would let only its user write
    # Reopen a connection that the server closed overnight, instead of failing a trial.
    storage = RDBStorage(url.render_as_string(hide_password=False), engine_kwargs={"pool_pre_ping": True})
    engine: Engine = storage.engine
    weakref.finalize(storage, engine.dispose)  # closes the pooled connections
    if engine.dialect.name == "mysql":
        _widen_texts(engine)
    if engine.dialect.name == "sqlite":
        _speed_up(engine)
    else:
        sqlalchemy.event.listen(engine, "do_connect", _connect_patiently)
    return storage


def _widen_texts(engine: Engine) -> None:
    """Allow long attributes: MySQL's TEXT holds 64 KB, less than the record of a committee of a hundred members."""
    narrow = sqlalchemy.text(
        "SELECT table_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND column_name = 'value_json' AND data_type = 'text'"
    )
    with engine.begin() as connection:
        for (table,) in connection.execute(narrow).all():
            connection.execute(sqlalchemy.text(f"ALTER TABLE {table} MODIFY value_json LONGTEXT"))


def _speed_up(engine: Engine) -> None:
    """Use WAL, so that readers and the writer do not wait for each other, and sync less often.

    In this mode a power cut can lose the last transactions, but it cannot damage the file.
    """

    def on_connect(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")

    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    sqlalchemy.event.listen(engine, "connect", on_connect)
    engine.dispose()  # close connections from before the change


def _connect_patiently(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.dbapi.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.5)


def _check_form(url: str) -> None:
    scheme, separator, rest = url.partition("://")
    if scheme.startswith(_SQLITE):
        if sql_url(url).database in (None, "", ":memory:"):
            raise StudyError(f"the storage {url} names no file", hint="give one: sqlite:///study.db")
        return
    rest = rest.partition("?")[0]
    # Without encoding, password and host are ambiguous, and some parsers print their guess.
    host = re.split("[/#]", rest)[0]
    if separator and "@" in rest and host.count("@") != 1:
        raise StudyError(
            f"the password in the storage {url} has a character that must be encoded in a URL",
            hint="write @ as %40, / as %2F, ? as %3F, # as %23 and % as %25",
        )


def _refusal(url: str, error: BaseException) -> StudyError:
    if isinstance(error, ImportError):
        return _without_driver(url, error)
    if isinstance(error, sqlalchemy.exc.NoSuchModuleError):
        return StudyError(f"the storage {url} is of an unknown kind", hint=f"allowed: {FORMS}")
    if url.startswith(_SQLITE):
        hint = "the file's folder must exist and be writable; sqlite:////FOLDER/FILE is an absolute path"
    elif is_redis(url):
        hint = "check that Redis runs there, and the password and the number of the database in the URL"
    else:
        hint = "check that the server runs, the user and the password; the database must exist: CREATE DATABASE"
    return StudyError(f"the storage {url} cannot be opened: {_words(url, error)}", hint=hint)


def _without_driver(url: str, error: ImportError) -> StudyError:
    # Optuna's ImportError hides the ImportError of the package.
    missing = str(getattr(error.__cause__, "name", None) or error.name or "").partition(".")[0].lower()
    extra = _EXTRAS.get(missing)
    hint = (
        f"install it with pip install 'tlm-search[{extra}]'"
        if extra
        else f"install the driver that the URL names: {missing or url}"
    )
    return StudyError(f"the storage {url} needs the Python package {missing}, which is not installed", hint=hint)


def _words(url: str, error: BaseException) -> str:
    """Return the message of the database driver on a single line, without the password."""
    while (inner := getattr(error, "orig", None) or error.__cause__) is not None:
        error = inner
    text = str(error.args[-1]) if error.args else str(error)
    line = next(iter(text.splitlines()), "") or type(error).__name__
    return masked_words(line, url)
