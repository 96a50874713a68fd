from contextlib import nullcontext

import pytest

from tlm_search.errors import ClusterError


def test_a_ray_that_does_not_start_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its raylet is killed in the middle of it."""
    from tlm_search.search import cluster as room

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


@pytest.mark.parametrize("fails", [False, True])
def test_ray_is_left_as_it_was_for_whoever_starts_it_next(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    from ray._private.node import Node

    from tlm_search.search import cluster as room

    names = ("start_api_server", "start_monitor", "start_log_monitor")
    before = {name: getattr(Node, name) for name in names}
    during = {}

    def init(address: str, **options: object) -> None:
        during.update({name: getattr(Node, name) for name in names})
        if fails:
            raise RuntimeError(address)

    monkeypatch.setattr(room.ray, "init", init)
    with pytest.raises(RuntimeError, match="local") if fails else nullcontext():
        room._start("local", num_cpus=1)
    assert not [name for name in names if during[name] is before[name]]
    assert {name: getattr(Node, name) for name in names} == before
