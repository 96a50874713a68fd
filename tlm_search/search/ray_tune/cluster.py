"""The Ray cluster under a study: started or joined, asked for its resources, and watched.

When a raylet or the head dies, Ray waits for up to a minute and then ends its driver without a message. The watch
connects to both every second and ends the run with a message. If Ray blocks the main thread for too long, the watch
ends the process. Nothing is lost: the record is always whole, and the next run repeats what was running.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

# Ray reads these when it is imported.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "1e9",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Ray's state is never restored, so do not write it
    # Tune gives its workers other variables, so workers that Ray starts in advance, and waits for, are never used.
    "RAY_prestart_worker_first_driver": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray._private.services import canonicalize_bootstrap_address  # noqa: E402
from ray.job_config import JobConfig  # noqa: E402

import tlm_search  # noqa: E402
from tlm_search.cost.machine import Machine, available_cpus, available_memory, check_reachable, no_cluster  # noqa: E402
from tlm_search.errors import ClusterError, ResourceError, TlmSearchError  # noqa: E402
from tlm_search.search.ray_tune.leftovers import claim, remove_leftovers, temporary_folder  # noqa: E402

OBJECT_STORE_BYTES = 100 * 2**20  # only small results pass through it; Ray's default is a third of the memory
_JOIN_SECONDS = 28.0  # Ray ends a process that is 30 s without its raylet
_LOOK_SECONDS = 1.0
_KNOCK_SECONDS = 5.0
_DEAD_SECONDS = 2.0
_HEAD_SECONDS = 30.0  # a joined head with a database may come back; Ray itself waits a minute
_UNWIND_SECONDS = 6.0  # Ray ends the process silently ten seconds after its raylet
# A socket's path has at most 107 bytes on Linux, 103 on macOS, and Ray adds this much to its folder.
_LONGEST_FOLDER = 103 - len("/session_2026-12-31_23-59-59_123456_1234567_1/sockets/plasma_store")
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")

Announce = Callable[[str], None]
Address = tuple[str, int]


@contextmanager
def cluster(address: str | None, announce: Announce) -> Iterator[Callable[[], object]]:
    """Start Ray on this machine, or join the cluster at ``address``; leave it at the end.

    Yields a function that waits until Ray is ready. On this machine Ray starts in a thread, where no Ctrl-C can break
    it.

    Raises:
        StudyError: there is no cluster at ``address``.
        ClusterError: Ray does not start here; the function raises it.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "job_config": _DriversPath()}
    # Otherwise Ray prints the last lines of a dead raylet's log on standard output.
    ray._private.worker._worker_logs_enabled = False
    if address is not None:
        _join(address, announce, runtime_env={"env_vars": dict(QUIET)}, **quiet)
        try:
            yield lambda: None
        finally:
            ray.shutdown()
        return
    with (
        _token(),
        _folder(announce) as folder,
        ThreadPoolExecutor(1, thread_name_prefix="start-ray") as pool,
    ):
        # "local": never join a cluster that someone else started on this machine.
        start = pool.submit(
            _start,
            "local",
            num_cpus=available_cpus(),
            include_dashboard=False,
            _temp_dir=str(folder),
            object_store_memory=OBJECT_STORE_BYTES,
            _memory=available_memory(),  # in all; by default Ray takes only what is free at this moment
            **quiet,
        )

        def wait() -> None:
            try:
                start.result()
            except Exception as error:  # Ray's errors have no common class
                raise ClusterError(
                    f"Ray could not be started on this machine: {(str(error).splitlines() or ['no reason given'])[0]}",
                    change=f"free memory, and space in {folder}, or set RAY_TMPDIR to another folder with a short path "
                    f"(Ray's logs are in {folder / 'session_latest' / 'logs'})",
                ) from error

        try:
            yield wait
        finally:
            start.exception()  # wait: a half-started Ray cannot be ended
            ray.shutdown()


class _DriversPath(JobConfig):
    """Lets workers import what the driver imports.

    Ray puts the working folder first on the path of its workers. Only they would then import a ``numpy.py`` there, or a
    clone of this package.
    """

    def _serialize(self) -> str:
        self._py_driver_sys_path = paths_of_workers(self._py_driver_sys_path, driver=sys.path)
        serialized: str = super()._serialize()
        return serialized


def paths_of_workers(wanted: Sequence[str], *, driver: Sequence[str]) -> list[str]:
    """Return the folders that a worker puts before its own path, the last one first.

    They are those of ``wanted`` that the driver has too, and the folder of this package if the driver has it before the
    installed packages.
    """
    known = [str(Path(entry).absolute()) for entry in driver]
    package, installed = str(Path(tlm_search.__file__).parents[1]), sysconfig.get_path("purelib")
    first = known[: known.index(installed)] if installed in known else known
    return [path for path in wanted if path in known] + ([package] if package in first else [])


@contextmanager
def _folder(announce: Announce) -> Iterator[Path]:
    """Yield a folder for Ray's files in which the paths of its sockets are short enough.

    Raises:
        ClusterError: no folder is short enough.
    """
    usual = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray")
    if len(os.fsencode(usual)) <= _LONGEST_FOLDER:
        remove_leftovers(usual)
        yield usual
        return
    remove_leftovers(*map(Path, _SHORT_FOLDERS))
    with ExitStack() as stack:
        for place in _SHORT_FOLDERS:
            with suppress(OSError):
                short = stack.enter_context(temporary_folder(Path(place)))
                break
        else:
            raise ClusterError(
                f"the path {usual} is too long for Ray's sockets, and none of {', '.join(_SHORT_FOLDERS)} can be "
                "written",
                change=f"set RAY_TMPDIR to a folder that you can write, with a path of at most "
                f"{_LONGEST_FOLDER - len('/ray')} characters",
            )
        announce(f"the path {usual} is too long for Ray's sockets: Ray's files are in {short} during this run")
        yield short


def _start(address: str, **options: Any) -> None:
    """Start Ray for this machine only: on the loopback, and without three processes of its head.

    Ray's processes run any code that they receive, and would listen on all interfaces. On systems where Ray makes no
    clusters of several machines, such as macOS, it stays on the loopback by itself.

    The three processes are the dashboard's server, which runs even without a dashboard, the autoscaler, and the process
    that sends the logs of workers to the driver. ``ray.init`` waits for them, but nothing here uses them, and each
    takes a second of a processor to import Ray.

    These names are internal to Ray and may change; then Ray starts all its processes. A later ``ray.init`` in this
    process also starts all of them.
    """
    with ExitStack() as changed:

        def change(owner: object, name: str, value: object) -> None:
            if hasattr(owner, name):
                changed.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, value)

        with suppress(ImportError):
            from ray._private import ray_constants
            from ray._private.node import Node

            change(ray_constants, "ENABLE_RAY_CLUSTER", False)
            for server in ("start_api_server", "start_monitor", "start_log_monitor"):
                change(Node, server, lambda node, **options: None)
        there: Any = ray.init(address, **options)
        if "_temp_dir" in options:
            with suppress(OSError, KeyError, TypeError):
                claim(Path(there.address_info["session_dir"]))


@contextmanager
def _token() -> Iterator[None]:
    """Let the processes of a local Ray obey only holders of a token, which exists for this run only and in no file.

    RAY_AUTH_MODE decides if it is set. From 2.59 on Ray asks for a token by itself, and stores it where other users of
    the machine may be able to read it.
    """
    values = (
        {} if "RAY_AUTH_MODE" in os.environ else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    )
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    _read_settings()
    try:
        yield
    finally:  # otherwise it would be sent to the next cluster that this process joins
        for name, value in before.items():
            del os.environ[name]
            os.environ.update({} if value is None else {name: value})
        _read_settings()


def _read_settings() -> None:
    """Let Ray read its environment variables again, which it reads only once."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def machines() -> list[Machine]:
    """Return the resources of the live nodes of the cluster.

    Raises:
        ResourceError: there is none.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if not nodes:
        raise ResourceError(
            "the Ray cluster has no live node", hint="start its nodes with ray start, then run the same command again"
        )
    return [
        Machine(cpus=node.get("CPU", 0), gpus=node.get("GPU", 0), memory_gb=node.get("memory", 0) / 1e9)
        for node in nodes
    ]


@contextmanager
def watched(announce: Announce, collapse: Callable[[TlmSearchError], None], *, joined: bool) -> Iterator[None]:
    """Check the head and this machine's raylet every second; if one is dead, call ``collapse`` from another thread."""
    raylet, head = _raylet(), _head()
    patience = {raylet: _DEAD_SECONDS, head: _HEAD_SECONDS if joined else _DEAD_SECONDS}
    over = threading.Event()

    def watch() -> None:
        answered = dict.fromkeys(patience, time.monotonic())
        while not over.wait(_LOOK_SECONDS):
            for who, seconds in patience.items():
                if _answers(who):
                    answered[who] = time.monotonic()
                elif time.monotonic() - answered[who] >= seconds:
                    error = _death("raylet of this machine" if who == raylet else "head of the cluster", who)
                    announce(f"{error.message}; stopping")
                    collapse(error)
                    if not over.wait(_UNWIND_SECONDS):
                        _end(error, announce)
                    return

    thread = threading.Thread(target=watch, name="cluster-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _raylet() -> Address:
    own = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == own)  # type: ignore[no-untyped-call]
    return node["NodeManagerAddress"], int(node["NodeManagerPort"])


def _head() -> Address:
    host, _, port = str(ray.get_runtime_context().gcs_address).rpartition(":")
    return host.strip("[]"), int(port)


def _answers(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=_KNOCK_SECONDS).close()
    except OSError:
        return False
    return True


def _death(who: str, address: Address) -> ClusterError:
    return ClusterError(
        f"Ray's {who} ({address[0]}:{address[1]}) died; finished trials are recorded",
    )


def _join(address: str, announce: Announce, **options: Any) -> None:
    found = address
    try:
        found = canonicalize_bootstrap_address(address) or address
        check_reachable(found)
        with _in_time(no_cluster(found, f"this driver could not join in {_JOIN_SECONDS:g} s"), announce):
            ray.init(found, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if not _take_token():
            raise no_cluster(found, error) from error
        announce("the cluster refused this driver; trying again with this user's Ray token")
        _join(address, announce, **options)


def _take_token() -> bool:
    """Send the token in ~/.ray from now on; return whether it exists and was not sent before.

    ``ray start`` protects a cluster with the token if there is one, and every local ``ray.init`` leaves one there. A
    driver that joins by an address does not send it, and must not send it to a cluster without protection.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return False
    try:
        from ray._private.authentication import authentication_token_setup as tokens
    except ImportError:  # a version without tokens
        return False
    return bool(tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False))


@contextmanager
def _in_time(error: TlmSearchError, announce: Announce) -> Iterator[None]:
    timer = threading.Timer(_JOIN_SECONDS, _end, (error, announce))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(error: TlmSearchError, announce: Announce) -> None:
    announce(f"error: {error}")
    # Not sys.exit: the main thread hangs inside Ray.
    os._exit(error.exit_code)
