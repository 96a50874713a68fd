import os
import sys
import sysconfig
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from tlm_search.errors import ClusterError


def test_a_ray_that_does_not_start_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """This happens if its raylet is killed during the start."""
    from tlm_search.search.ray_tune import cluster as room

    ended = []

    def init(*arguments: object, **options: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because ...")  # noqa: TRY002

    monkeypatch.setattr(room.ray, "init", init)
    monkeypatch.setattr(room.ray, "shutdown", lambda: ended.append(True))
    with pytest.raises(ClusterError) as raised, room.cluster(None, print) as there:
        there()
    assert raised.value.message == (
        "Ray could not be started on this machine: The current node timed out during startup."
    )
    assert raised.value.hint is not None
    assert ended

    assert "RAY_TMPDIR" in raised.value.hint  # the same command would fail in the same way
    assert "logs" in raised.value.hint


@pytest.mark.parametrize(("characters", "short"), [(20, False), (80, True)])
def test_a_long_path_of_temporary_files_gives_ray_a_short_folder(
    monkeypatch: pytest.MonkeyPatch, characters: int, short: bool
) -> None:
    from ray._private.utils import validate_socket_filepath

    from tlm_search.search.ray_tune import cluster as room

    monkeypatch.setenv("RAY_TMPDIR", "/tmp/".ljust(characters, "x"))
    lines: list[str] = []
    with room._folder(lines.append) as folder:
        assert folder.exists() == short
        validate_socket_filepath(str(folder / "session_2026-11-30_18-05-59_527983_4194304_1/sockets/plasma_store"))
    assert not folder.exists()
    assert bool(lines) == short


def test_a_long_path_without_any_short_one_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from tlm_search.search.ray_tune import cluster as room

    monkeypatch.setenv("RAY_TMPDIR", "/tmp/".ljust(80, "x"))
    monkeypatch.setattr(room, "_SHORT_FOLDERS", ("/proc",))
    with pytest.raises(ClusterError, match="too long") as raised, room.cluster(None, print):
        pass
    assert "set RAY_TMPDIR to a folder that you can write, with a path of at most" in str(raised.value.hint)


def test_workers_do_not_import_from_the_working_folder_unless_the_driver_does() -> None:
    from tlm_search.search.ray_tune import cluster as room

    installed = sysconfig.get_path("purelib")
    package = str(Path(room.__file__).parents[3])
    here = str(Path.cwd())
    assert room.paths_of_workers([here], driver=["/usr/bin", installed]) == []
    assert room.paths_of_workers([here], driver=["", installed]) == [here] + [package] * (package == here)
    # A clone that the driver was told to use, and one that is installed as editable.
    assert room.paths_of_workers([], driver=[package, installed]) == [package]
    assert room.paths_of_workers([], driver=[installed, package]) == []


def test_the_path_of_workers_is_what_ray_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray adds the working folder when it connects, directly before it serialises the path."""
    from ray.core.generated.common_pb2 import JobConfig

    from tlm_search.search.ray_tune import cluster as room

    monkeypatch.setattr(sys, "path", [sysconfig.get_path("purelib")])
    config = room._DriversPath()
    config._py_driver_sys_path.extend([str(Path.cwd())])
    assert list(JobConfig.FromString(config._serialize()).py_driver_sys_path) == []


@pytest.mark.parametrize("fails", [False, True])
def test_ray_is_left_as_it_was_for_whoever_starts_it_next(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    from ray._private import ray_constants, services
    from ray._private.node import Node

    from tlm_search.search.ray_tune import cluster as room

    names = ("start_api_server", "start_monitor", "start_log_monitor")
    before = {name: getattr(Node, name) for name in names}
    during = {}
    clusters = ray_constants.ENABLE_RAY_CLUSTER

    def init(address: str, **options: object) -> None:
        during.update({name: getattr(Node, name) for name in names})
        assert services.get_node_ip_address() == "127.0.0.1"
        if fails:
            raise RuntimeError(address)

    monkeypatch.setattr(room.ray, "init", init)
    with pytest.raises(RuntimeError, match="local") if fails else nullcontext():
        room._start("local", num_cpus=1)
    assert not [name for name in names if during[name] is before[name]]
    assert {name: getattr(Node, name) for name in names} == before
    assert clusters == ray_constants.ENABLE_RAY_CLUSTER


@pytest.mark.parametrize("mode", [None, "disabled"])
def test_ray_asks_for_a_token_of_the_run_unless_it_is_told_not_to(
    monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    from ray._raylet import AuthenticationMode, AuthenticationTokenLoader, get_authentication_mode

    from tlm_search.search.ray_tune import cluster as room

    def token() -> str:
        return str(AuthenticationTokenLoader.instance().get_raw_token(ignore_auth_mode=True))

    seen = []

    def init(address: str, **options: object) -> object:
        seen.append((get_authentication_mode(), token()))
        return SimpleNamespace(address_info={})

    monkeypatch.setattr(room.ray, "init", init)
    monkeypatch.setattr(room.ray, "shutdown", lambda: None)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of the user")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    for _ in range(2):
        with room.cluster(None, print) as there:
            there()
    assert {found for found, _ in seen} == {AuthenticationMode.TOKEN if mode is None else AuthenticationMode.DISABLED}
    tokens = {found for _, found in seen}
    assert tokens == {"of the user"} if mode else len(tokens - {"of the user"}) == 2
    assert (os.environ.get("RAY_AUTH_MODE"), os.environ["RAY_AUTH_TOKEN"]) == (mode, "of the user")
    assert (get_authentication_mode(), token()) == (AuthenticationMode.DISABLED, "of the user")
