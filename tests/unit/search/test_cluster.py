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
