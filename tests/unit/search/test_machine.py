from typing import Any

import pytest

from tlm_search.errors import ResourceError, StudyError
from tlm_search.search.machine import Machine, available_cpus, check_reachable, concurrent_trials, this_machine
from tlm_search.space.sections import ResourcesSection

BOX = Machine(cpus=16, gpus=1, memory_gb=128)


@pytest.mark.parametrize(
    ("asked", "machines", "trials"),
    [
        ({}, [BOX], 16),
        ({"cpus_per_trial": 0.5}, [Machine(2, 0, 8)], 4),
        ({"cpus_per_trial": 2, "gpus_per_trial": 0.25}, [BOX], 4),
        ({"cpus_per_trial": 2, "gpus_per_trial": 0.1}, [BOX], 8),
        ({"gpus_per_trial": 1}, [BOX, BOX, Machine(64, 0, 64)], 2),
        ({"memory_gb": 50}, [BOX], 2),
        ({"concurrent_trials": 3}, [BOX], 3),
        ({"concurrent_trials": 300}, [BOX], 16),
        ({"cpus_per_trial": 3}, [Machine(4, 0, 8), Machine(4, 0, 8)], 2),
    ],
)
def test_as_many_trials_as_fit(asked: Any, machines: list[Machine], trials: int) -> None:
    assert concurrent_trials(ResourcesSection(**asked), machines) == trials


@pytest.mark.parametrize("asked", [{"cpus_per_trial": 17}, {"gpus_per_trial": 2}, {"memory_gb": 129}])
def test_what_fits_on_no_machine_is_refused(asked: Any) -> None:
    with pytest.raises(ResourceError, match=r"the largest machine has 16 CPUs, 1 GPUs and 128.0 GB"):
        concurrent_trials(ResourcesSection(**asked), [BOX, BOX])


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
