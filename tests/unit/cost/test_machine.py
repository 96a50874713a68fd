import pytest

from tlm_search.cost.machine import available_cpus, check_reachable, this_machine
from tlm_search.errors import StudyError


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999"])
def test_a_cluster_that_is_not_there_is_refused_at_once(address: str) -> None:
    with pytest.raises(StudyError, match="no Ray cluster answers at"):
        check_reachable(address)


def test_rays_client_protocol_is_refused() -> None:
    with pytest.raises(StudyError, match="client protocol") as refused:
        check_reachable("ray://127.0.0.1:10001")
    assert refused.value.hint is not None
    assert "HOST:PORT" in refused.value.hint


def test_a_cluster_may_be_found_by_ray() -> None:
    check_reachable("auto")


def test_this_machine_has_something() -> None:
    assert this_machine(with_gpus=False).cpus == available_cpus() >= 1
    assert this_machine(with_gpus=False).memory_gb > 0.1
